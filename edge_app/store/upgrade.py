"""The parts of a store of version 1 (release 0.1), which named no formats, as those of today.

What today's readers cannot use is left as it is: they set it aside and say so. That is, the tracks (0.1 pickled them)
and the calibrations, which did not know the embedder they were learned with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from edge_app.store.parts import sealed

Part = dict[str, Any]


def upgraded(parts: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """Parts to write, None to delete. A value that is no JSON, or lacks what is needed, is left alone."""
    changes: dict[str, bytes | None] = {}
    versions = _versions(parts)
    for key, value in parts.items():
        for prefix, renew in RENEW.items():
            if key.startswith(prefix):
                with suppress(ValueError, KeyError, TypeError, AttributeError):
                    changes.update({key: None} | renew(key.removeprefix(prefix), json.loads(value), versions))
    return changes


def _versions(parts: Mapping[str, bytes]) -> dict[str, str]:
    """Tracklet id → version of its embeddings, of every passage in memory."""
    versions = {}
    for key, value in parts.items():
        if key.startswith("associate/nodes/"):
            with suppress(ValueError, KeyError, TypeError):
                stored = json.loads(value)
                versions[stored["id"]] = stored["embedding_version"]
    return versions


def _as_it_is(group: str, format_name: str) -> Callable[[str, Any, Mapping[str, str]], dict[str, bytes | None]]:
    """The same content under the name of its format."""
    return lambda name, stored, _: {group + name: sealed(format_name, json.dumps(stored).encode())}


def _identity(name: str, stored: Part, versions: Mapping[str, str]) -> dict[str, bytes | None]:
    """A proxy is of the version of its passage; one whose passage is forgotten is of no known version."""
    proxies = {
        camera: {**proxy, "camera": camera, "embedding_version": versions[proxy["track"]]}
        for camera, proxy in stored["proxies"].items()
        if proxy["track"] in versions
    }
    body = json.dumps({**stored, "proxies": proxies}).encode()
    return {f"associate/gallery/{name}": sealed("crosslane.identity/2", body) if proxies else None}


def _camera(name: str, stored: Part, _: Mapping[str, str]) -> dict[str, bytes | None]:
    """The traffic of a camera, and apart from it the mean of its embeddings, which belongs to one version."""
    mean = {key: stored.pop(key) for key in ("version", "mean", "count")}
    mean = {"camera": name, "embedding_version": mean["version"], "mean": mean["mean"], "count": mean["count"]}
    changes = {f"associate/cameras/{name}": sealed("crosslane.camera/2", json.dumps(stored).encode())}
    if mean["count"]:
        key = f"associate/means/{mean['embedding_version']}/{name}"
        changes[key] = sealed("crosslane.mean/1", json.dumps(mean).encode())
    return dict(changes)


def _coverage(_: str, stored: Part, __: Mapping[str, str]) -> dict[str, bytes | None]:
    """Camera → interval → seconds, as one part for each interval."""
    intervals = sorted({interval for by_interval in stored.values() for interval in by_interval})
    return {
        f"aggregate/coverage/{interval}": sealed(
            "crosslane.coverage/2",
            json.dumps({camera: by[interval] for camera, by in stored.items() if interval in by}).encode(),
        )
        for interval in intervals
    }


RENEW: dict[str, Callable[[str, Any, Mapping[str, str]], dict[str, bytes | None]]] = {
    "associate/nodes/": _as_it_is("associate/passages/", "crosslane.passage/2"),
    "associate/gallery/": _identity,
    "associate/links/": _as_it_is("associate/links/", "crosslane.link/2"),
    "associate/cameras/": _camera,
    "associate/counters": _as_it_is("associate/counters", "crosslane.counters/2"),
    "aggregate/passage/": _as_it_is("aggregate/passage/", "crosslane.counted/2"),
    "aggregate/said/": _as_it_is("aggregate/said/", "crosslane.said/2"),
    "aggregate/coverage": _coverage,
    "pipeline/progress": _as_it_is("pipeline/progress", "crosslane.progress/2"),
}
