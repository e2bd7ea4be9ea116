"""The association's state as keyed blobs of JSON, one per value, so that a store writes only what a step changed.

A field that this release added takes its default, one that it dropped is passed over. Anything else that does not fit
(a missing field, another type, an array of another shape, a number that is none) makes the value unreadable: `load`
leaves it with `parts.unreadable` and goes on without it.
"""

from __future__ import annotations

import base64
import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from edge_app.associate import links, scores
from edge_app.associate.state import (
    Calibration,
    CameraModel,
    Identity,
    LinkModel,
    Passage,
    State,
    version_key,
)
from edge_app.contract.similarity import CameraMean
from edge_app.store.parts import Parts, sealed, unsealed

PREFIX = "associate/"
COUNTERS = PREFIX + "counters"
MISFIT = object()


@dataclass(frozen=True, slots=True)
class Counters:
    """What is stored of the state besides its groups."""

    identities: int = 0
    boot: str = ""
    decided_at_s: float = 0.0
    versions: dict[str, float] | None = None


@dataclass(frozen=True)
class Group:
    """One dictionary of the state: what its values are called on the disk, and what must hold of each."""

    format: str
    kind: type
    key: Callable[[Any], str]
    holds: Callable[[Any], bool]


def _shaped(array: Any, *shape: int) -> bool:
    return bool(array.shape == shape and np.isfinite(array).all())


def _rows(array: Any) -> bool:
    return bool(array.ndim == 2 and array.dtype == np.float32 and np.isfinite(array).all())


def _is_passage(one: Passage) -> bool:
    whole = one.decided == "pending" or (one.event is not None and one.global_id)
    return bool(whole and _rows(one.embeddings) and one.entry_time_s <= one.exit_time_s)


def _is_identity(one: Identity) -> bool:
    return all(_rows(proxy.embeddings) and proxy.camera == camera for camera, proxy in one.proxies.items())


def _is_mean(one: CameraMean) -> bool:
    return one.mean.ndim == 1 and one.mean.dtype == np.float32 and _shaped(one.mean, *one.mean.shape) and one.count > 0


def _tallies(by_class: Mapping[str, tuple[float, ...]]) -> bool:
    return all(len(tally) == len(links.NONE) and min(tally) >= 0 for tally in by_class.values())


def _is_link(one: LinkModel) -> bool:
    counted = _shaped(one.counts, links.BINS) and bool((one.counts >= 0).all()) and min(one.taken, one.exits) >= 0
    confused = all(count >= 0 for row in one.confusion.values() for count in row.values())
    return counted and confused and _tallies(one.by_class)


def _is_camera(one: CameraModel) -> bool:
    return min(one.entries, one.new, one.watched_s) >= 0 and _tallies(one.by_class)


def _is_calibration(one: Calibration) -> bool:
    return all(_shaped(counts, scores.BINS) and (counts >= 0).all() for counts in (one.genuine, one.impostor))


GROUPS: dict[str, Group] = {
    "passages": Group("crosslane.passage/2", Passage, lambda one: one.id, _is_passage),
    "gallery": Group("crosslane.identity/2", Identity, lambda one: one.global_id, _is_identity),
    "links": Group("crosslane.link/2", LinkModel, lambda one: one.id, _is_link),
    "cameras": Group("crosslane.camera/2", CameraModel, lambda one: one.id, _is_camera),
    "means": Group(
        "crosslane.mean/1", CameraMean, lambda one: version_key(one.embedding_version, one.camera), _is_mean
    ),
    "calibrations": Group(
        "crosslane.calibration/2",
        Calibration,
        lambda one: version_key(one.embedding_version, one.pair),
        _is_calibration,
    ),
}
COUNTERS_GROUP = Group("crosslane.counters/2", Counters, lambda _: "", lambda one: one.identities >= 0)


def changes(before: State, after: State) -> dict[str, bytes | None]:
    """Parts that differ between two states; None where one is gone. Values are compared by identity."""
    parts: dict[str, bytes | None] = {}
    for name, group in GROUPS.items():
        old, new = getattr(before, name), getattr(after, name)
        parts.update({f"{PREFIX}{name}/{key}": None for key in old.keys() - new.keys()})
        changed = {key: value for key, value in new.items() if old.get(key) is not value}
        parts.update({f"{PREFIX}{name}/{key}": _encode(group, value) for key, value in changed.items()})
    if _counters(before) != _counters(after):
        parts[COUNTERS] = _encode(COUNTERS_GROUP, _counters(after))
    return parts


def _counters(state: State) -> Counters:
    return Counters(state.identities, state.boot, state.decided_at_s, state.versions)


def load(parts: Parts) -> State:
    """The state that `changes` wrote, as far as it can be read. Passages are in the order in which they arrived."""
    groups: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    for key in parts.under(PREFIX):
        name, _, inner = key.removeprefix(PREFIX).partition("/")
        if key == COUNTERS:
            continue
        if name not in GROUPS:
            parts.refuse(key, f"this release knows no group {name[:40]!r} of the association's state")
            continue
        value = parts.read(key, lambda stored, name=name, inner=inner: _decode(GROUPS[name], stored, inner))  # type: ignore[misc]
        if value is not None:
            groups[name][inner] = value
    passages = sorted(
        groups.pop("passages").values(), key=lambda n: (n.arrived_at_s, n.exit_time_s, n.camera, n.entry_time_s, n.id)
    )
    for passage in passages:  # what the others refer to is there
        groups["cameras"].setdefault(passage.camera, CameraModel(passage.camera))
    counters = parts.read(COUNTERS, lambda stored: _decode(COUNTERS_GROUP, stored, "")) or Counters()
    return State(
        passages={passage.id: passage for passage in passages},
        **groups,
        identities=counters.identities,
        boot=counters.boot,
        decided_at_s=counters.decided_at_s,
        versions=counters.versions or _versions(passages),
    )


def _versions(passages: list[Passage]) -> dict[str, float]:
    return {passage.embedding_version: passage.arrived_at_s for passage in passages if len(passage.embeddings)}


def _encode(group: Group, value: object) -> bytes:
    return sealed(group.format, json.dumps(value, default=_plain).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        return {"dtype": str(array.dtype), "shape": array.shape, "base64": base64.b64encode(array.tobytes()).decode()}
    if is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _decode(group: Group, stored: bytes, key: str) -> Any:
    value = _typed(group.kind, json.loads(unsealed(stored, group.format)), group.kind.__name__)
    if group.key(value) != key or not group.holds(value):
        raise ValueError(f"this {group.kind.__name__} contradicts itself or the name that it is stored under")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(hint: Any, stored: Any, where: str) -> Any:
    """A stored value as the annotation wants it. Raises ValueError or TypeError when it does not fit."""
    origin, inner = get_origin(hint), get_args(hint)
    value = _single(hint, stored)
    if origin in (Union, types.UnionType):
        wanted = next(one for one in inner if one is not type(None))
        value = None if stored is None and type(None) in inner else _typed(wanted, stored, where)
    elif is_dataclass(hint) and isinstance(stored, dict):
        known = {f.name: stored[f.name] for f in fields(hint) if f.name in stored}
        hints = _hints(hint)  # type: ignore[arg-type]
        value = hint(**{name: _typed(hints[name], one, f"{where}.{name}") for name, one in known.items()})  # type: ignore[operator]
    elif origin is np.ndarray and isinstance(stored, dict):
        value = _array(stored, get_args(inner[1])[0])
    elif origin is tuple and isinstance(stored, list) and (inner[-1] is ... or len(inner) == len(stored)):
        value = tuple(_typed(inner[0], one, where) for one in stored)
    elif origin is dict and isinstance(stored, dict):
        value = {name: _typed(inner[1], one, where) for name, one in stored.items()}
    if value is MISFIT:
        raise TypeError(f"{where} is {str(stored)[:40]!r}")
    return value


def _single(hint: Any, stored: Any) -> Any:
    """A number, a truth, a text or one of several texts; `MISFIT` when it is something else."""
    if hint is bool:
        return stored if isinstance(stored, bool) else MISFIT
    if hint is str or get_origin(hint) is Literal:
        return stored if isinstance(stored, str) and (hint is str or stored in get_args(hint)) else MISFIT
    number = isinstance(stored, int | float) and not isinstance(stored, bool) and math.isfinite(stored)
    if number and (hint is float or (hint is int and isinstance(stored, int))):
        return hint(stored)
    return MISFIT


def _array(stored: Mapping[str, Any], expected: type) -> Any:
    if stored["dtype"] != np.dtype(expected).name:
        raise TypeError(f"an array of {str(stored['dtype'])[:20]!r}, expected {np.dtype(expected).name}")
    content = base64.b64decode(stored["base64"], validate=True)
    return np.frombuffer(content, expected).reshape(stored["shape"]).copy()
