"""The memory of the association: immutable values in dictionaries, so that a store can see what a step changed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_app.associate.facts import Place
from edge_app.contract.similarity import CameraMean
from edge_app.types import Floats


@dataclass(frozen=True, slots=True)
class Edge:
    """`to` may be the continuation of `from_`. Scored once, when the later of the two became known."""

    from_: str  # tracklet id
    link: str
    similarity: float  # cosine against the proxy of the camera it left
    appearance: float  # log likelihood ratio, genuine against impostor
    transit_s: float


@dataclass(frozen=True, slots=True)
class Passage:
    """One visit of one object to one camera, while it can still be continued, decided or revised."""

    id: str
    camera: str
    class_name: str
    entry_time_s: float
    exit_time_s: float
    embedding_version: str
    embeddings: Floats  # (M, D) float32, unit rows
    arrived_at_s: float
    edges: tuple[Edge, ...] = ()  # candidates for "who was this before"
    global_id: str = ""
    parent: str | None = None  # the tracklet this one continues, once decided
    decided: Literal["pending", "matched", "unmatched"] = "pending"
    decided_at_s: float = 0.0
    event: str | None = None  # event id of the fact that holds now: provisional or decided
    provisional: str | None = None  # parent named by a provisional fact
    onward: dict[str, float] = field(default_factory=dict)  # link → expected number of tracklets that continue this one
    place: Place | None = None  # where it was in its camera's picture
    held_up: bool = False  # as probable as a match must be at the last look, but somebody open could be better


@dataclass(frozen=True, slots=True)
class Proxy:
    """How one camera saw one identity last: the online form of O2CAP's camera-aware proxy."""

    track: str  # tracklet id
    camera: str
    embedding_version: str
    embeddings: Floats  # (M, D) float32, unit rows


@dataclass(frozen=True, slots=True)
class Identity:
    """One vehicle in the gallery: at most one proxy per camera."""

    global_id: str
    proxies: dict[str, Proxy]  # by camera


@dataclass(frozen=True, slots=True)
class LinkModel:
    """What a link has taught us. See `links.py`."""

    id: str
    counts: NDArray[np.float64]  # (BINS,) expected transits over log-spaced bins, decayed
    taken: float  # exits that took this link, decayed
    exits: float  # exits that could have, decayed
    by_class: dict[str, tuple[float, ...]] = field(default_factory=dict)  # (taken, exits) of each
    confusion: dict[str, dict[str, float]] = field(default_factory=dict)  # class that left → that entered → matches


@dataclass(frozen=True, slots=True)
class CameraModel:
    """What a camera has taught us of its traffic: how often somebody new appears."""

    id: str
    entries: float = 0.0  # decided tracklets, decayed with `since_s`
    new: float = 0.0  # those among them that began an identity
    watched_s: float = 0.0  # time behind both, decayed alike
    until_s: float | None = None  # capture time up to which it was counted
    by_class: dict[str, tuple[float, ...]] = field(default_factory=dict)  # (entries, new) of each


@dataclass(frozen=True, slots=True)
class Calibration:
    """Histograms of similarities of one camera pair, or of all pairs (`*`), under one embedder. See `scores.py`."""

    pair: str
    embedding_version: str
    genuine: NDArray[np.float64]  # (BINS,)
    impostor: NDArray[np.float64]  # (BINS,)


def version_key(version: str, name: str) -> str:
    """The key of what was learned under one embedder, of a camera or a pair of cameras."""
    return f"{version}/{name}"


@dataclass(frozen=True)
class State:
    """Everything `online.step` remembers. Dictionaries are never changed in place."""

    passages: dict[str, Passage] = field(default_factory=dict)
    gallery: dict[str, Identity] = field(default_factory=dict)
    links: dict[str, LinkModel] = field(default_factory=dict)
    cameras: dict[str, CameraModel] = field(default_factory=dict)
    means: dict[str, CameraMean] = field(default_factory=dict)  # by `version_key`
    calibrations: dict[str, Calibration] = field(default_factory=dict)  # by `version_key`
    versions: dict[str, float] = field(default_factory=dict)  # of embedders → capture time of the last passage of each
    identities: int = 0  # global ids given out under this boot
    boot: str = ""  # the boot `identities` counts for
    decided_at_s: float = 0.0  # capture time of the last decisions


def shifted(state: State, by_s: float) -> State:
    """The same memory under a clock that was set by so much: what is under way stays as long under way."""
    passages = {
        name: replace(
            one,
            entry_time_s=one.entry_time_s + by_s,
            exit_time_s=one.exit_time_s + by_s,
            arrived_at_s=one.arrived_at_s + by_s,
            decided_at_s=one.decided_at_s + by_s,
        )
        for name, one in state.passages.items()
    }
    cameras = {
        name: one if one.until_s is None else replace(one, until_s=one.until_s + by_s)
        for name, one in state.cameras.items()
    }
    return replace(state, passages=passages, cameras=cameras, decided_at_s=state.decided_at_s + by_s)
