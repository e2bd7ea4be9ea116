"""The simulated world: what is true at any moment, by random access. Built once from its parameters, then constant."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_app.simulation.shapes import CLASS_NAMES
from edge_app.simulation.sites import CameraSpec, LinkSpec, site_named
from edge_app.simulation.traffic import Demand, Passage, TrueLink, simulate
from edge_app.simulation.views import View
from edge_app.types import Floats, Integers

START_S = 1_700_000_000.0
_SAMPLES = 12  # points per side of a box when the hidden share is counted


@dataclass(frozen=True, slots=True)
class Visible:
    """What one camera sees at one moment, from far to near."""

    ids: Integers  # (K,) int64 vehicle ids
    boxes: Floats  # (K, 4) float32, xyxy pixels, cut to the frame
    classes: Integers  # (K,) int64, index into the world's class names
    occluded: Floats  # (K,) float32, share of the box hidden behind nearer boxes
    cut: Floats  # (K,) float32, share of the full box outside the frame
    passages: tuple[Passage, ...]  # K

    def __len__(self) -> int:
        return len(self.ids)


class World:
    """A site with its traffic. Equal parameters give an equal world, on every machine and in every process."""

    def __init__(
        self,
        site: str = "town",
        *,
        seed: int = 7,
        difficulty: float = 0.5,
        seconds: float = 120.0,
        persons: bool = False,
        start_s: float = START_S,
    ) -> None:
        """Raises ValueError for an unknown site or a parameter out of its range."""
        if not 0.0 <= difficulty <= 1.0:
            raise ValueError(f"difficulty is {difficulty}, expected a number from 0 (easy) to 1 (hard)")
        if not 0.0 < seconds <= 1e6:
            raise ValueError(f"seconds is {seconds}, expected more than 0 and at most 1000000")
        if seed < 0:
            raise ValueError(f"seed is {seed}, expected 0 or more")
        self.site = site_named(site)
        self.demand = Demand(seed, difficulty, seconds, persons, start_s)
        self.cameras: tuple[CameraSpec, ...] = self.site.cameras
        self.links: tuple[LinkSpec, ...] = self.site.links
        self.class_names: tuple[str, ...] = (*CLASS_NAMES, "person") if persons else CLASS_NAMES
        self.views = {camera.id: View(camera) for camera in self.cameras}
        self._passages = simulate(self.site, self.views, self.demand)
        self._true_links = _true_links(self._passages, {(link.from_, link.to) for link in self.links})
        self._by_camera = {camera.id: _Timeline(self._passages, camera.id) for camera in self.cameras}

    @property
    def start_s(self) -> float:
        return self.demand.start_s

    @property
    def end_s(self) -> float:
        return self.demand.start_s + self.demand.seconds

    def camera(self, name: str) -> CameraSpec:
        """Raises ValueError naming the cameras there are."""
        if name not in self.views:
            known = ", ".join(camera.id for camera in self.cameras[:20])
            raise ValueError(f"site {self.site.name!r} has no camera {name!r}: it has {known}")
        return self.views[name].camera

    def passages(self) -> list[Passage]:
        """Every passage that touches the world's time span, ordered by entry time; times are not cut to the span."""
        return list(self._passages)

    def camera_passages(self, camera: str) -> list[Passage]:
        """The passages of one camera, ordered by entry time."""
        return list(self._by_camera[camera].passages)

    def true_links(self) -> list[TrueLink]:
        """Consecutive passages of one vehicle on two cameras that a road joins, ordered by the later entry."""
        return list(self._true_links)

    def look_alike_share(self) -> float:
        """Share of vehicles for which at least one other vehicle has the same shape, paint and marks."""
        looks = {passage.vehicle: passage.look.key for passage in self._passages}
        counts = Counter(looks.values())
        return sum(1 for key in looks.values() if counts[key] > 1) / max(len(looks), 1)

    def visible(self, camera: str, time_s: float) -> Visible:
        """The truth in front of one camera at one moment."""
        view = self.views[camera]
        passages = self._by_camera[camera].at(time_s)
        if not passages:
            return _nothing()
        full = np.concatenate([view.boxes(p.shape, p.positions_at(np.array([time_s])), p.lateral_m) for p in passages])
        nearest_last = np.argsort(-self._distances(view, passages, time_s), kind="stable")
        full, passages = full[nearest_last], [passages[index] for index in nearest_last]
        boxes = view.clipped(full)
        areas = (full[:, 2:] - full[:, :2]).prod(1)
        return Visible(
            ids=np.array([passage.vehicle for passage in passages], np.int64),
            boxes=boxes,
            classes=np.array([self.class_names.index(passage.class_name) for passage in passages], np.int64),
            occluded=_hidden_shares(boxes),
            cut=(1.0 - (boxes[:, 2:] - boxes[:, :2]).prod(1) / areas).astype(np.float32),
            passages=tuple(passages),
        )

    def _distances(self, view: View, passages: list[Passage], time_s: float) -> NDArray[np.float64]:
        middles = [(p.position_m(time_s) - p.shape.length_m / 2, p.lateral_m, 0.0) for p in passages]
        distances: NDArray[np.float64] = np.linalg.norm(np.array(middles) - view.projection.position_m, axis=1)
        return distances


class _Timeline:
    """The passages of one camera, searchable by time."""

    def __init__(self, passages: list[Passage], camera: str) -> None:
        self.passages = [passage for passage in passages if passage.camera == camera]
        self._entries = [passage.entry_time_s for passage in self.passages]
        self._longest_s = max((p.exit_time_s - p.entry_time_s for p in self.passages), default=0.0)

    def at(self, time_s: float) -> list[Passage]:
        first = bisect_left(self._entries, time_s - self._longest_s)
        stop = bisect_right(self._entries, time_s)
        return [passage for passage in self.passages[first:stop] if time_s < passage.exit_time_s]


def _true_links(passages: list[Passage], roads: set[tuple[str, str]]) -> list[TrueLink]:
    last: dict[int, Passage] = {}
    found = []
    for passage in passages:
        before = last.get(passage.vehicle)
        if before is not None and (before.camera, passage.camera) in roads:
            found.append(TrueLink(before, passage))
        last[passage.vehicle] = passage
    return found


def _hidden_shares(boxes: Floats) -> Floats:
    """(K,) share of each box covered by the union of the boxes after it, counted on a grid of points."""
    count = len(boxes)
    grid = (np.arange(_SAMPLES, dtype=np.float32) + 0.5) / _SAMPLES
    x = boxes[:, None, 0] + grid * (boxes[:, 2] - boxes[:, 0])[:, None]  # (K, S)
    y = boxes[:, None, 1] + grid * (boxes[:, 3] - boxes[:, 1])[:, None]
    in_x = (x[:, None] >= boxes[None, :, 0, None]) & (x[:, None] < boxes[None, :, 2, None])  # (K, other, S)
    in_y = (y[:, None] >= boxes[None, :, 1, None]) & (y[:, None] < boxes[None, :, 3, None])
    nearer = np.triu(np.ones((count, count), bool), 1)[:, :, None]
    covered = np.einsum("kos,kot->kst", (in_x & nearer).astype(np.float32), in_y.astype(np.float32)) > 0
    shares: Floats = covered.mean((1, 2)).astype(np.float32)
    return shares


def _nothing() -> Visible:
    none = np.zeros(0, np.float32)
    return Visible(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), none, none, ())
