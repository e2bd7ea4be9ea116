"""The association's state as keyed blobs of JSON, one per value, so that a store writes only what a step changed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from edge_app.associate.facts import Place
from edge_app.associate.state import Calibration, CameraModel, Edge, Identity, LinkModel, Passage, Proxy, State

PREFIX = "associate/"
COUNTERS = PREFIX + "counters"
COUNTED = ("identities", "boot", "decided_at_s")
GROUPS = {
    "passages": Passage,
    "gallery": Identity,
    "links": LinkModel,
    "cameras": CameraModel,
    "calibrations": Calibration,
}


def changes(before: State, after: State) -> dict[str, bytes | None]:
    """Parts that differ between two states; None where one is gone. Values are compared by identity."""
    parts: dict[str, bytes | None] = {}
    for group in GROUPS:
        old, new = getattr(before, group), getattr(after, group)
        parts.update({f"{PREFIX}{group}/{key}": None for key in old.keys() - new.keys()})
        parts.update(
            {f"{PREFIX}{group}/{key}": _encode(value) for key, value in new.items() if old.get(key) is not value}
        )
    counters = {name: getattr(after, name) for name in COUNTED}
    if counters != {name: getattr(before, name) for name in COUNTED}:
        parts[COUNTERS] = json.dumps(counters).encode()
    return parts


def load(parts: Mapping[str, bytes]) -> State:
    """The state that `changes` wrote; keys of others are ignored. Nodes are in the order in which they arrived."""
    groups: dict[str, Any] = {group: {} for group in GROUPS}
    for key in sorted(parts):
        group, _, name = key.removeprefix(PREFIX).partition("/")
        if key.startswith(PREFIX) and group in GROUPS:
            groups[group][name] = DECODE[group](json.loads(parts[key]))
    passages: dict[str, Passage] = groups.pop("passages")
    ordered = sorted(passages.values(), key=lambda n: (n.arrived_at_s, n.exit_time_s, n.camera, n.entry_time_s, n.id))
    counters: dict[str, Any] = json.loads(parts.get(COUNTERS, b"{}"))
    return State(passages={passage.id: passage for passage in ordered}, **groups, **counters)


def _encode(value: object) -> bytes:
    return json.dumps(value, default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        return {"dtype": str(array.dtype), "shape": array.shape, "base64": base64.b64encode(array.tobytes()).decode()}
    if is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _array(stored: dict[str, Any]) -> Any:
    return np.frombuffer(base64.b64decode(stored["base64"]), stored["dtype"]).reshape(stored["shape"]).copy()


def _with_arrays(kind: type, stored: dict[str, Any], *names: str) -> Any:
    return kind(**{key: _array(value) if key in names else value for key, value in stored.items()})


def _passage(stored: dict[str, Any]) -> Passage:
    edges = tuple(Edge(**edge) for edge in stored["edges"])
    place = stored.get("place")  # states of 0.1 have none
    return Passage(
        **{
            **stored,
            "embeddings": _array(stored["embeddings"]),
            "edges": edges,
            "place": None if place is None else _place(place),
        }
    )


def _place(stored: dict[str, Any]) -> Place:
    boxes = {name: tuple(stored[name]) for name in ("entry_box", "exit_box")}
    return Place(**{**stored, **boxes})


def _identity(stored: dict[str, Any]) -> Identity:
    proxies = {camera: _with_arrays(Proxy, proxy, "embeddings") for camera, proxy in stored["proxies"].items()}
    return Identity(stored["global_id"], proxies)


DECODE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "passages": _passage,
    "gallery": _identity,
    "links": lambda stored: _with_arrays(LinkModel, stored, "counts"),
    "cameras": lambda stored: _with_arrays(CameraModel, stored, "mean"),
    "calibrations": lambda stored: _with_arrays(Calibration, stored, "genuine", "impostor"),
}
