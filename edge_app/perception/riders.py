"""Riders: a person and the two-wheeler under them are one object, whichever of the two the detector finds.

Of a motorcycle under way a detector finds the machine, the rider or both, now this and now that. Told apart they are
three objects in pieces. So the boxes of both in one frame become one, and both kinds are tracked together: a track that
goes on from one to the other is one passage, which is a motorcycle when it was seen as one often enough. Who walks past
a parked motorcycle stays a person: two that are known as two tracks are not put together. Pure; O(P · (W + T)) for P
persons, W two-wheelers and T tracks of the camera.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_app.boxes import common_area, intersection_over_union
from edge_app.types import PERSON, Detections, Floats, Integers

RIDDEN = 0.1  # votes for a two-wheeler as a share of those for a person, from which a track is one
TOUCHES = 0.3  # of the smaller box lies in the other one
BESIDE = 0.5  # of the wider one's width: so far apart are their middles at most
ABOVE = 0.25  # of the two-wheeler's height: so far the person's head may lie below its top, and the feet below its foot
KNOWN = 0.3  # overlap of a box with the track that it is


@dataclass(frozen=True, slots=True)
class Asked:
    """What a site asks of its detector, and what is tracked for it."""

    classes: frozenset[str] | None = None  # None: all
    two_wheelers: tuple[str, ...] = ()
    by_motion: bool = True  # who moves as vehicles do rides

    def follows(self, name: str) -> bool:
        """Is a box of this class tracked? Persons are where two-wheelers are asked for: they may ride one."""
        if self.classes is None or name in self.classes:
            return True
        return name == PERSON and not self.classes.isdisjoint(self.two_wheelers)

    def class_of(self, votes: Mapping[str, float], rides: bool = False) -> str:
        """What a track is, by the votes of its boxes: the class with the most; a person seen on a two-wheeler is that,
        and one who is known to ride is the first of those that are asked for."""
        most = max(sorted(votes), key=votes.__getitem__)
        if most != PERSON:
            return most
        ridden = {name: votes[name] for name in sorted(self.two_wheelers) if name in votes}
        if sum(ridden.values()) >= RIDDEN * votes[PERSON] and ridden:
            return max(ridden, key=ridden.__getitem__)
        asked = [name for name in self.two_wheelers if self.classes is None or name in self.classes]
        return asked[0] if rides and asked else PERSON

    def wants(self, votes: Mapping[str, float], rides: bool = False) -> bool:
        """Is a track of these votes asked for, as far as it is known?"""
        return self.classes is None or self.class_of(votes, rides) in self.classes


EVERYTHING = Asked()


class Riders:
    """What is put together in the frames of one camera."""

    def __init__(self, class_names: tuple[str, ...], two_wheelers: Collection[str]) -> None:
        self._person = np.array([name == PERSON for name in class_names], bool)  # (C,)
        self._wheels = np.array([name in two_wheelers for name in class_names], bool)  # (C,)

    def together(self, found: Detections, tracks: Floats) -> Detections:
        """One frame's detections, with one box around a two-wheeler and those who sit on it. `tracks`: (T, 4) the last
        boxes of the camera's tracks."""
        persons = np.flatnonzero(self._person[found.classes])
        wheels = np.flatnonzero(self._wheels[found.classes])
        if not len(persons) or not len(wheels):
            return found
        share = _seated(found.boxes[persons], found.boxes[wheels])  # (P, W)
        one, other = (_known_as(found.boxes[rows], tracks) for rows in (persons, wheels))
        apart = (one[:, None] >= 0) & (other[None, :] >= 0) & (one[:, None] != other[None, :])
        share = np.where(apart, 0.0, share)
        boxes, scores = found.boxes.copy(), found.scores.copy()
        rides = share.max(axis=1) > 0
        for person, wheel in zip(persons[rides], wheels[share.argmax(axis=1)[rides]], strict=True):
            boxes[wheel, :2] = np.minimum(boxes[wheel, :2], boxes[person, :2])
            boxes[wheel, 2:] = np.maximum(boxes[wheel, 2:], boxes[person, 2:])
            scores[wheel] = max(scores[wheel], scores[person])
        kept = np.ones(len(found), bool)
        kept[persons[rides]] = False
        return Detections(boxes[kept], scores[kept], found.classes[kept], found.lost)


def _seated(persons: Floats, wheels: Floats) -> NDArray[np.float64]:
    """(P, 4), (W, 4) → (P, W) how much of the smaller box lies in the other; 0 where nobody can sit like that."""
    one, other = persons[:, None].astype(np.float64), wheels[None].astype(np.float64)
    size, size_other = one[..., 2:] - one[..., :2], other[..., 2:] - other[..., :2]  # width and height
    share = common_area(one, other) / np.maximum(np.minimum(size.prod(-1), size_other.prod(-1)), 1e-9)
    middles = np.abs(one[..., 0] + one[..., 2] - other[..., 0] - other[..., 2]) / 2
    slack = ABOVE * size_other[..., 1]
    sits = (
        (share >= TOUCHES)
        & (middles <= BESIDE * np.maximum(size[..., 0], size_other[..., 0]))
        & (one[..., 1] <= other[..., 1] + slack)
        & (one[..., 3] <= other[..., 3] + slack)
    )
    return np.where(sits, share, 0.0)


def _known_as(boxes: Floats, tracks: Floats) -> Integers:
    """(N, 4), (T, 4) → (N,) the track that each box overlaps most, -1 where it is none's."""
    if not len(tracks):
        return np.full(len(boxes), -1, np.int64)
    overlap = intersection_over_union(boxes, tracks)
    return np.where(overlap.max(axis=1) >= KNOWN, overlap.argmax(axis=1), -1).astype(np.int64)
