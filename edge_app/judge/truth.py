"""What truly passed: boxes with ids over all cameras, put together to passages as the recordings are played.

A passage is one object in front of one camera, from its first box to its last; where it is away for longer than
`AWAY_S` the next box begins another one. A true pair is two passages of one object, one after the other, of cameras
that a link leads between. Only what the site looks at counts: boxes that stand in a camera's area, of the classes that
are kept, in the frames that are played.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from edge_app.associate.settings import LinkSettings
from edge_app.boxes import NAMELESS, NO_ID, Boxes, intersection_over_union
from edge_app.errors import ConfigurationError
from edge_app.perception.area import feet, standing
from edge_app.settings import Polygon
from edge_app.types import Detections, Detector, Floats, Frame, Tracklet

T = TypeVar("T")

AWAY_S = 10.0
SAME_IOU = 0.3  # of a box and the object that it shows
LOOKS = 12  # points of a tracklet's path that are compared with the truth


@dataclass(slots=True, eq=False)
class TruePassage:
    """One object's visit to one camera, in capture time."""

    object: int  # its id
    camera: str
    class_name: str
    entry_time_s: float
    exit_time_s: float
    frames: int = 0
    detected: int = 0  # frames in which the detector had a box on it


@dataclass(frozen=True, slots=True)
class TruePair:
    """One object left `from_` and next entered `to`, and a link leads there."""

    link: str
    from_: TruePassage
    to: TruePassage

    @property
    def transit_s(self) -> float:
        return self.to.entry_time_s - self.from_.exit_time_s


@dataclass(frozen=True, slots=True)
class _Moment:
    """One camera's truth in one frame."""

    boxes: Floats  # (N, 4) float32, xyxy pixels
    passages: list[TruePassage]


class Truth:
    """`see` every frame with what the detector made of it; then ask. O(N + D) memory for N boxes and D frames."""

    def __init__(self, boxes: Mapping[str, Boxes], areas: Mapping[str, Polygon], classes: Collection[str]) -> None:
        """`areas`: by camera, where only a part counts. `classes`: that are kept, beside boxes without one; all where
        empty. Raises `ConfigurationError` for boxes without an id."""
        without = {camera: int((each.ids == NO_ID).sum()) for camera, each in boxes.items()}
        problems = [f"camera {camera}: {count:,} boxes have no id" for camera, count in without.items() if count]
        if problems:
            raise ConfigurationError(problems, "the truth")
        self._boxes, self._areas = boxes, areas
        kept = {*classes, NAMELESS}
        self._kept = {
            camera: np.array([not classes or name in kept for name in each.class_names], bool)
            for camera, each in boxes.items()
        }
        self._moments: dict[str, dict[float, _Moment]] = defaultdict(dict)
        self._last: dict[tuple[str, int], TruePassage] = {}
        self.passages: list[TruePassage] = []

    def see(self, frame: Frame, found: Detections) -> None:
        """One frame of a recording."""
        assert frame.number is not None  # live cameras are refused before
        each = self._boxes[frame.camera]
        there = each.of(frame.number)
        rows = np.arange(there.start, there.stop)
        rows = rows[self._kept[frame.camera][each.classes[rows]]]
        if frame.camera in self._areas and len(rows):
            rows = rows[standing(self._areas[frame.camera], feet(frame, each.boxes[rows]))]
        if not len(rows):
            return
        passages = [
            self._passage(frame, int(each.ids[row]), each.class_names[each.classes[row]]) for row in rows.tolist()
        ]
        self._moments[frame.camera][frame.time_s] = _Moment(each.boxes[rows], passages)
        covered = intersection_over_union(each.boxes[rows], found.boxes).max(axis=1, initial=0) >= SAME_IOU
        for passage, is_covered in zip(passages, covered.tolist(), strict=True):
            passage.frames += 1
            passage.detected += is_covered

    def _passage(self, frame: Frame, number: int, class_name: str) -> TruePassage:
        passage = self._last.get((frame.camera, number))
        if passage is None or frame.time_s - passage.exit_time_s > AWAY_S:
            passage = TruePassage(number, frame.camera, class_name, frame.time_s, frame.time_s)
            self._last[frame.camera, number] = passage
            self.passages.append(passage)
        passage.exit_time_s = frame.time_s
        return passage

    def shown_by(self, tracklet: Tracklet) -> TruePassage | None:
        """The passage that most points of its path show; None when most of them show nothing."""
        moments = self._moments[tracklet.camera]

        def at(time_s: float, box: Floats) -> TruePassage | None:
            if (moment := moments.get(time_s)) is None:
                return None
            overlaps = intersection_over_union(box[None], moment.boxes)[0]
            best = int(overlaps.argmax())
            return moment.passages[best] if overlaps[best] >= SAME_IOU else None

        return most_shown(tracklet, at)

    def pairs(self, links: Sequence[LinkSettings]) -> list[TruePair]:
        """In the order of their arrival."""
        ways = {(link.from_camera, link.to_camera): link.id for link in links}
        visits: dict[int, list[TruePassage]] = defaultdict(list)
        for passage in sorted(self.passages, key=lambda one: one.entry_time_s):
            visits[passage.object].append(passage)
        found = [
            TruePair(ways[before.camera, after.camera], before, after)
            for passages in visits.values()
            for before, after in pairwise(passages)
            if (before.camera, after.camera) in ways
        ]
        return sorted(found, key=lambda pair: pair.to.entry_time_s)


def most_shown(tracklet: Tracklet, at: Callable[[float, Floats], T | None]) -> T | None:
    """What `at`, given the time and the (4,) box of a point of its path, says of most of `LOOKS` points."""
    count = len(tracklet.path_times_s)
    looks = np.unique(np.linspace(0, count - 1, min(count, LOOKS)).round().astype(int)).tolist()
    votes = Counter(at(float(tracklet.path_times_s[index]), tracklet.path_boxes[index]) for index in looks)
    return votes.most_common(1)[0][0] if votes else None


class Watched:
    """A `Detector` whose boxes the truth is held against, frame by frame."""

    def __init__(self, detector: Detector, truth: Truth) -> None:
        self._detector, self._truth = detector, truth
        self.class_names = detector.class_names

    def detect(self, frames: list[Frame]) -> list[Detections]:
        found = self._detector.detect(frames)
        for frame, detections in zip(frames, found, strict=True):
            self._truth.see(frame, detections)
        return found
