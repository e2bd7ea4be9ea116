"""Whoever looks at what a camera sees while it is seen. Nobody does, mostly, and then nothing is kept for them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from edge_app.perception.open_track import OpenTrack
from edge_app.types import Detections, Frame, Tracks, View

Ending: TypeAlias = Literal["passage", "short", "unasked"]  # too short to count; a person who was followed in vain


@dataclass(frozen=True, slots=True)
class Sight:
    """One frame and everything that was made of it."""

    frame: Frame
    found: Detections  # by the detector; `aside` what it did not keep
    followed: Detections  # of these, what stands in the area and is tracked
    tracks: Tracks
    unasked: Collection[str]  # tracks that are no passages as far as is known
    taken: list[View]  # views that are embedded


class Witness(Protocol):
    """Sees every frame of every camera, which tracks are pieces of one object, and how each passage ended."""

    def saw(self, sight: Sight) -> None: ...
    def joined(self, camera: str, track: str, passage: str) -> None: ...  # what was seen of the track is of the passage
    def ended(self, track: OpenTrack, how: Ending) -> None: ...
