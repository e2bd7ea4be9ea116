"""What was seen of each camera while somebody looked, in counts: boxes, tracks, crops and passages, kept and lost.

Pure. Cost: O(boxes) for each frame, some 0.2 ms; memory O(open tracks), and of passages the latest `REMEMBERED`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_app.associate.settings import LinkSettings
from edge_app.contract.similarity import comparable, similarity
from edge_app.perception.crops import CropSettings, factors
from edge_app.perception.open_track import OpenTrack
from edge_app.perception.traffic import Traffic, motion_of
from edge_app.perception.witness import Ending, Sight
from edge_app.types import PERSON, Tracklet

REMEMBERED = 1000  # passages of a camera whose looks are compared
HEIGHTS = 20_000  # boxes of a camera whose height is remembered
MOST_PAIRS = 2000  # of similarities


@dataclass(slots=True)
class TrackSeen:
    """One track while it lasts."""

    looks: Counter[str] = field(default_factory=Counter)  # class of its box → frames
    limits: Counter[str] = field(default_factory=Counter)  # what made a view too poor → frames


@dataclass(slots=True)
class CameraRecord:
    """Counts of one camera."""

    camera: str
    frames: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    size_px: tuple[int, int] = (0, 0)
    kept: Counter[str] = field(default_factory=Counter)  # boxes by class
    unsure: Counter[str] = field(default_factory=Counter)  # of these, too weak to begin a track
    weak: Counter[str] = field(default_factory=Counter)  # boxes below the detector's threshold, by class
    other: Counter[str] = field(default_factory=Counter)  # boxes of classes that nobody asked for
    outside: int = 0  # boxes outside the area
    heights_px: deque[float] = field(default_factory=lambda: deque(maxlen=HEIGHTS))  # of vehicles' boxes
    endings: Counter[str] = field(default_factory=Counter)
    pieces: int = 0  # tracks that went on as another one, or were one with it
    passages: Counter[str] = field(default_factory=Counter)  # by class
    ways: Counter[tuple[str, str]] = field(default_factory=Counter)  # entry and exit zone
    unseen: Counter[str] = field(default_factory=Counter)  # passages without a view: what was wrong with most of them
    ridden: Counter[str] = field(default_factory=Counter)  # of two-wheelers: class of the box → frames
    by_motion: int = 0  # riders who are known by how they move alone
    lost_riders: int = 0  # persons who move as vehicles do and were not counted
    views: int = 0
    tracks: dict[str, TrackSeen] = field(default_factory=dict)  # of those that have not ended; pieces share theirs
    walkers: list[tuple[float, float]] = field(default_factory=list)  # motions of persons that were not asked for
    traffic: Traffic = field(default_factory=Traffic)
    recent: deque[Tracklet] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @property
    def seconds(self) -> float:
        return self.last_s - self.first_s


class Record:
    """A `Witness` of all cameras."""

    def __init__(
        self, class_names: Sequence[str], two_wheelers: Sequence[str], new_track_score: float, crops: CropSettings
    ) -> None:
        self._names, self._two_wheelers = tuple(class_names), frozenset(two_wheelers)
        self._new_track_score, self._crops = new_track_score, crops
        self.cameras: dict[str, CameraRecord] = {}

    def of(self, camera: str) -> CameraRecord:
        if camera not in self.cameras:
            self.cameras[camera] = CameraRecord(camera)
        return self.cameras[camera]

    def saw(self, sight: Sight) -> None:
        frame, tracks = sight.frame, sight.tracks
        one = self.of(frame.camera)
        one.first_s = one.first_s if one.frames else frame.time_s
        one.frames, one.last_s, one.size_px = one.frames + 1, frame.time_s, (frame.width_px, frame.height_px)
        found, aside = sight.followed, sight.found.aside
        one.kept.update(self._named(found.classes))
        one.unsure.update(self._named(found.classes[found.scores < self._new_track_score]))
        one.outside += len(sight.found) - len(found)
        vehicles = np.array([name != PERSON for name in self._named(found.classes)], bool)
        one.heights_px.extend((found.boxes[vehicles, 3] - found.boxes[vehicles, 1]).tolist())
        if aside is not None:
            weak = np.array([why == "weak" for why in aside.why], bool)
            one.weak.update(self._named(aside.classes[weak]))
            one.other.update(self._named(aside.classes[~weak]))
        parts = factors(tracks, *one.size_px, self._crops) if len(tracks.ids) else {}
        for row, (track, index) in enumerate(zip(tracks.ids, tracks.classes, strict=True)):
            seen = one.tracks.setdefault(track, TrackSeen())
            seen.looks[self._names[index]] += 1
            quality = {name: float(values[row]) for name, values in parts.items()}
            if np.prod([*quality.values()]) < self._crops.minimum_quality:
                seen.limits[min(quality, key=quality.__getitem__)] += 1
        one.views += len(sight.taken)

    def joined(self, camera: str, track: str, passage: str) -> None:
        """What was and will be seen of a piece is of its passage."""
        one = self.of(camera)
        one.pieces += 1
        piece, whole = (one.tracks.setdefault(name, TrackSeen()) for name in (track, passage))
        whole.looks += piece.looks
        whole.limits += piece.limits
        one.tracks[track] = whole

    def ended(self, track: OpenTrack, how: Ending) -> None:
        """A track, with the pieces that went on with it."""
        one = self.of(track.camera)
        one.endings[how] += 1
        seen = one.tracks.get(track.passage, TrackSeen())
        one.tracks = {name: each for name, each in one.tracks.items() if each is not seen}
        motion = motion_of(track.rows)
        if how == "unasked" and motion is not None:
            one.walkers.append(motion)
        if how != "passage":
            return
        if motion is not None and not track.rides:
            one.traffic.learn(motion)
        one.by_motion += track.rides and not self._two_wheelers & track.votes.keys()
        if track.rides or self._two_wheelers & track.votes.keys():
            one.ridden.update(
                {name: n for name, n in seen.looks.items() if name == PERSON or name in self._two_wheelers}
            )
        if not track.embeddings:
            one.unseen[max(seen.limits, key=seen.limits.__getitem__, default="blurred")] += 1

    def add(self, tracklets: Iterable[Tracklet]) -> None:
        """Passages as the association gets them."""
        for tracklet in tracklets:
            one = self.of(tracklet.camera)
            one.passages[tracklet.class_name] += 1
            one.ways[tracklet.entry_zone, tracklet.exit_zone] += 1
            one.recent.append(tracklet)

    def finish(self) -> None:
        """Nothing more will come: whoever was taken for somebody on foot before traffic was known is asked again."""
        for one in self.cameras.values():
            one.lost_riders = sum(one.traffic.moves_so(motion) for motion in one.walkers)

    def _named(self, classes: Iterable[int]) -> list[str]:
        return [self._names[index] for index in classes]


def strangers(tracklets: Iterable[Tracklet]) -> list[float]:
    """Similarities of two passages that a camera saw at once: never one vehicle."""
    found: list[float] = []
    ones = sorted(tracklets, key=lambda one: one.entry_time_s)
    for place, first in enumerate(ones):
        for second in ones[place + 1 :]:
            if second.entry_time_s > first.exit_time_s or len(found) == MOST_PAIRS:
                break
            if comparable(first, second):
                found.append(similarity(first.embeddings, second.embeddings))
    return found


def candidates(
    before: Iterable[Tracklet], after: Iterable[Tracklet], link: LinkSettings
) -> tuple[list[float], list[float]]:
    """Of each passage at the end of a link, its similarity to the most alike who may have come; and to all others."""
    leaving = sorted(before, key=lambda one: one.exit_time_s)
    best: list[float] = []
    others: list[float] = []
    for to in after:
        here = [
            similarity(one.embeddings, to.embeddings)
            for one in leaving
            if link.transit.min_s <= to.entry_time_s - one.exit_time_s <= link.transit.max_s and comparable(one, to)
        ]
        if here and len(best) < MOST_PAIRS:
            here.sort()
            best.append(here[-1])
            others += here[:-1]
    return best, others
