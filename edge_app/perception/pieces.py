"""Two tracks of one object: at the same time, or one after the other.

A detector boxes one object twice, as a car and as the rider on a motorcycle, or whole and in part, and the tracker
follows both. But no two things that stand on a road can stand in the same place: two tracks that are in view together,
stand on the same ground, lie one in the other and go the same way for as long as they do, are one passage. Who walks
past a parked car only stands there for a moment, and what drives in front of a lorry stands nearer, so its box reaches
further down.

And a detector that finds now the rider and now the motorcycle makes the tracker lose one and begin with the other. A
track that begins where a lost one would be by now, at its size, goes on with it. Pure; O(T) for paths of T rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_app.boxes import common_area
from edge_app.perception.open_track import OpenTrack

POINTS = 12  # of the time that they have in common, at which they are compared
COMMON_S = 0.3  # so long must both have been followed
TOGETHER = 0.8  # share of the points that must agree
INSIDE = 0.75  # of the smaller box lies in the other one
SAME_FOOT = 0.12  # of the smaller box's height: so far apart are their lower edges at most
ALIKE = 0.7  # overlap of the boxes of two that stand still, who are told apart by no way that they go
LATER_S = 1.5  # so long after the one was lost the other begins at most
MOTION_S = 0.6  # by which it is reckoned where the lost one would be
REACHES = 0.5  # of the smaller box lies where the lost one would be: rider and motorcycle share as much
AS_LARGE = 2.0  # times: so much the heights of both differ at most
NEAR = 0.5  # of the smaller one's height: so far apart are their feet at most
MOVED = 0.5  # heights of its box that one must have gone, else it stands
UNLIKE = 0.4  # cosine of their best two views below which the later one is another; rider and motorcycle have 0.5


def same_object(one: OpenTrack, other: OpenTrack) -> bool:
    """Are these two tracks of one camera two boxes around one object?"""
    begin, end = max(one.first[0], other.first[0]), min(one.last[0], other.last[0])
    if one.camera != other.camera or end - begin < COMMON_S:
        return False
    times = np.linspace(begin, end, POINTS)
    first, second = _boxes_at(one, times), _boxes_at(other, times)
    shared = common_area(first, second)
    areas = np.stack([np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)])
    height = np.minimum(first[:, 3] - first[:, 1], second[:, 3] - second[:, 1])
    inside = shared >= INSIDE * areas.min(axis=0)
    on_one_ground = np.abs(first[:, 3] - second[:, 3]) <= SAME_FOOT * height
    if np.mean(inside & on_one_ground) < TOGETHER:
        return False
    gone = np.hypot(*(first[-1] - first[0])[[0, 3]])
    return bool(gone >= MOVED * np.median(height) or np.median(shared / (areas.sum(axis=0) - shared)) >= ALIKE)


def goes_on(lost: OpenTrack, later: OpenTrack) -> bool:
    """Is `later` the object that `lost` was, followed anew? Both are of one camera, in this order."""
    gap_s = later.first[0] - lost.last[0]
    if lost.camera != later.camera or not 0 < gap_s <= LATER_S or _unlike(lost, later):
        return False
    rows = lost.seen
    since = rows[np.searchsorted(rows[:, 0], lost.last[0] - MOTION_S)]
    took_s = lost.last[0] - since[0]
    motion = (np.array(lost.last[1:]) - since[1:]) / took_s if took_s > 0 else np.zeros(4)
    there, here = np.array(lost.last[1:]) + motion * gap_s, np.array(later.first[1:])
    height, other = there[3] - there[1], here[3] - here[1]
    if min(height, other) <= 0 or max(height, other) > AS_LARGE * min(height, other):
        return False
    shared = common_area(there, here)
    smaller = min(np.prod(there[2:] - there[:2]), np.prod(here[2:] - here[:2]))
    near = np.hypot((there[[0, 2]] - here[[0, 2]]).mean(), there[3] - here[3]) <= NEAR * min(height, other)
    return bool(near and shared >= REACHES * smaller)


def _unlike(one: OpenTrack, other: OpenTrack) -> bool:
    """Both were looked at, and are not one object by any two of their views."""
    if not one.embeddings or not other.embeddings:
        return False
    return float((np.stack(one.embeddings) @ np.stack(other.embeddings).T).max()) < UNLIKE


def _boxes_at(track: OpenTrack, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) → (T, 4)."""
    rows = track.seen
    return np.stack([np.interp(times, rows[:, 0], rows[:, column]) for column in range(1, 5)], axis=1)
