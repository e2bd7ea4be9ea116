"""Vehicles that stand still and are hidden: the track that ends and the one that begins later are one passage.

A parked car behind which, or before which, others pass is lost by the tracker each time. Its next track is taken for
the same vehicle when it begins at the same place, with the same looks, while it is waited for. A vehicle that moves up
to a stop line comes from elsewhere, or looks different. Pure.

A passage that does not go on is told so much later as it was waited for: as long as the vehicle had stood there, at
most `longest_s`. Only tracks that end standing and with looks are waited for, not those that drive away; and nobody
else waits for them. Of two vehicles alike to the embedder that change places behind a third, one passage is made.

`same_looks`: in the simulated town (seed 41, 300 s) the best two views of one passage's halves are below 0.956 in one
of 100, those of two vehicles of one camera above 0.9 in 1.1 of 100. Cost: some 10 µs per waiting track of the camera
for each view of a new track that is embedded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field

from edge_app.boxes import common_area
from edge_app.perception.open_track import OpenTrack
from edge_app.settings import Settings

STOOD_S = 6.0  # who stood for less is not waited for
STANDS = 0.85  # overlap of its boxes while it stands; far away, who drives on moves but slowly in the picture
STEADY = 5  # rows whose median is a box without the detector's jitter
PLACE_S = 2.0  # its place is where it was for so long
SAME_PLACE = 0.5  # overlap of two boxes, as a share of both together
HIDING_S = 1.0  # so long what comes before it cuts its box, which then tells nothing of where it stands
MOST = 200  # waited for at once; beyond that the longest hidden ones are given up


class HiddenSettings(Settings):
    """How a standing vehicle that is hidden is found again."""

    longest_s: float = Field(default=30.0, ge=0)
    """It is waited for as long as it had stood, at most so long; 0 switches it off. Its passage is told later by that
    time when it does not come back."""
    same_looks: float = Field(default=0.9, gt=0, le=1)
    """Least cosine of its best two views, before and after, by the site's embedder."""


class _Waiting(NamedTuple):
    track: OpenTrack
    until_s: float  # capture time
    there: NDArray[np.float64]  # (4,) its place


class Hidden:
    """Those who are waited for."""

    def __init__(self, settings: HiddenSettings) -> None:
        self._settings = settings
        self._waiting: dict[str, _Waiting] = {}  # by passage

    def take(self, track: OpenTrack) -> bool:
        """A track has ended. True when it is waited for: it is kept here until it goes on or is given up."""
        wait_s = min(stood_s(track), self._settings.longest_s)
        if not track.embeddings or wait_s < STOOD_S:
            return False
        self._waiting[track.passage] = _Waiting(track, track.last[0] + wait_s, place(track))
        return True

    def find(self, seen: OpenTrack) -> OpenTrack | None:
        """The one that goes on with this track; it is no longer waited for then."""
        best, likest = self._settings.same_looks, None
        for track, _, there in self._waiting.values():
            here = track.camera == seen.camera and track.embedder == seen.embedder and seen.first[0] > track.last[0]
            if here and _began_at(there, seen):
                alike = float((np.stack(track.embeddings) @ np.stack(seen.embeddings).T).max())
                if alike >= best:
                    best, likest = alike, track
        return None if likest is None else self._waiting.pop(likest.passage).track

    def give_up(self, now_s: float) -> list[OpenTrack]:
        """Those who have not come back in their time, at this capture time."""
        gone = [passage for passage, one in self._waiting.items() if now_s > one.until_s]
        gone += [passage for passage in self._waiting if passage not in gone][: len(self._waiting) - len(gone) - MOST]
        return [self._waiting.pop(passage).track for passage in gone]

    def all(self) -> dict[str, OpenTrack]:
        """By passage, the longest hidden one first."""
        return {passage: one.track for passage, one in self._waiting.items()}

    def begin_anew(self, tracks: Iterable[OpenTrack] = ()) -> None:
        """With those that `all` gave, or none."""
        self._waiting = {}
        for track in tracks:
            self.take(track)


def stood_s(track: OpenTrack) -> float:
    """How long it was seen at the place where it is now."""
    rows = track.seen
    boxes = np.median(sliding_window_view(np.pad(rows[:, 1:], ((STEADY - 1, 0), (0, 0)), "edge"), STEADY, 0), axis=2)
    elsewhere = (overlap(boxes, place(track)) < STANDS) & (rows[:, 0] < track.last[0] - HIDING_S)
    since_s = rows[np.flatnonzero(elsewhere)[-1] + 1, 0] if elsewhere.any() else rows[0, 0]
    return float(track.last[0] - since_s)


def place(track: OpenTrack) -> NDArray[np.float64]:
    """(4,) the box in which it was last seen for a while: the median over `PLACE_S`, of three rows at least."""
    rows = track.seen
    first = int(np.flatnonzero(rows[:, 0] >= track.last[0] - PLACE_S)[0])
    return np.asarray(np.median(rows[min(first, max(len(rows) - 3, 0)) :, 1:], axis=0))


def overlap(boxes: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4), (4,) → (N,) area in common as a share of the area of both."""
    shared = common_area(boxes, box)
    return np.asarray(shared / np.maximum(_area(boxes) + _area(box) - shared, 1e-9))


def _began_at(there: NDArray[np.float64], seen: OpenTrack) -> bool:
    """Did this track begin at that place, and is it there? At first it may be half hidden."""
    began = np.array(seen.first[1:])
    if float(common_area(began, there)) < SAME_PLACE * float(_area(began)):
        return False
    return float(overlap(place(seen)[None], there)[0]) >= SAME_PLACE


def _area(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.prod(box[..., 2:] - box[..., :2], axis=-1))
