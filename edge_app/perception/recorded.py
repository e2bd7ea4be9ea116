"""A detector that reads its boxes in a file: those of another system, of public tracks, or the truth itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from edge_app.boxes import Boxes, read_boxes
from edge_app.errors import ConfigurationError, ModelError
from edge_app.perception.losses import EMPTY_BOXES
from edge_app.settings import FilePath, Settings
from edge_app.types import PERSON, Aside, Detections, Frame


class RecordedSettings(Settings):
    """Boxes from a file instead of a detector: JSON lines or MOTChallenge's rows, see `edge_app.boxes`."""

    recorded: FilePath
    """The file: `{"camera": "gate", "frame": 0, "box": [x1, y1, x2, y2], "score": 0.9, "class": "car"}` a line, or rows
    of `frame,id,left,top,width,height,score,class`, frames from 1. These name no camera: `{camera}` in the file's name
    stands for each camera's."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes that rows give as numbers, from 1; those of MOTChallenge where it is left out."""
    classes: tuple[str, ...] | None = None
    """Names of the classes to keep; all when absent. Persons are noticed in any case, as a detector's are."""
    score_threshold: float = Field(default=0.0, ge=0, le=1)
    """Weaker boxes are dropped; 0 keeps all."""

    @property
    def path(self) -> FilePath:
        """What the boxes are from, by the name that a detector's model has."""
        return self.recorded


class RecordedDetector:
    """A `Detector` of recordings: the boxes of each frame by its number, clipped to the picture."""

    def __init__(self, boxes: Mapping[str, Boxes], settings: RecordedSettings) -> None:
        """Raises `ConfigurationError` for a class that is to be kept and in no box."""
        known = sorted({name for each in boxes.values() for name in each.class_names})
        unknown = [name for name in settings.classes or () if name not in known]
        if unknown:
            raise ConfigurationError(
                [f"detector.classes: no box is a {name}; there are {', '.join(known)}" for name in unknown]
            )
        self.class_names: tuple[str, ...] = tuple(known)
        self._settings, self._boxes = settings, boxes
        number = {name: index for index, name in enumerate(known)}
        kept = {*(settings.classes or known), PERSON}
        self._numbers = {
            camera: np.array([number[name] for name in each.class_names], np.int64) for camera, each in boxes.items()
        }
        self._kept = {
            camera: np.array([name in kept for name in each.class_names], bool) for camera, each in boxes.items()
        }
        self.keeps_aside = False
        self.played: dict[str, int] = dict.fromkeys(boxes, 0)  # boxes of frames that came, whether kept or not

    def detect(self, frames: list[Frame]) -> list[Detections]:
        """One `Detections` per frame, strongest first. Raises `ModelError` for a frame without a number, as of a live
        camera."""
        return [self._of(frame) for frame in frames]

    def about(self) -> str:
        """How many boxes there are, of which classes."""
        counts = ", ".join(f"{camera} {len(each):,}" for camera, each in self._boxes.items())
        return f"recorded boxes: {counts}; classes {', '.join(self.class_names)}"

    def close(self) -> None:
        """Nothing is open."""

    def told(self) -> list[str]:
        """Boxes whose frames did not come, a line for each camera that has some."""
        return [
            f"camera {camera}: {len(each) - self.played[camera]:,} of {len(each):,} recorded boxes are of frames that "
            "did not come (the recording ends earlier, frames are left out by `fps`, or its numbers are others)"
            for camera, each in self._boxes.items()
            if self.played[camera] < len(each)
        ]

    def _of(self, frame: Frame) -> Detections:
        if frame.number is None:
            raise ModelError(f"camera {frame.camera}: recorded boxes are for recordings, this camera is live")
        found = self._boxes[frame.camera]
        rows = found.of(frame.number)
        self.played[frame.camera] += rows.stop - rows.start
        limits = np.array([frame.width_px, frame.height_px] * 2, np.float32)
        boxes, scores, classes = np.clip(found.boxes[rows], 0, limits), found.scores[rows], found.classes[rows]
        sized = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
        kept = sized & (scores >= self._settings.score_threshold) & self._kept[frame.camera][classes]
        numbers = self._numbers[frame.camera][classes]
        order = np.argsort(-scores, kind="stable")
        left, order = order[(sized & ~kept)[order]], order[kept[order]]
        asked = self._kept[frame.camera][classes[left]]
        why: tuple[Any, ...] = tuple("weak" if one else "class" for one in asked)
        aside = Aside(boxes[left], scores[left], numbers[left], why) if self.keeps_aside else None
        return Detections(boxes[order], scores[order], numbers[order], {EMPTY_BOXES: int((~sized).sum())}, aside)


def open_recorded(settings: RecordedSettings, cameras: Sequence[str]) -> RecordedDetector:
    """Raises `ConfigurationError` with everything in the file that cannot be read."""
    return RecordedDetector(read_boxes(settings.recorded, cameras, settings.class_names or ()), settings)
