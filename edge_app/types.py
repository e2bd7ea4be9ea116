"""The values that travel through the pipeline: frozen structs of arrays, checked when they are made.

Boxes are xyxy in pixels of the frame, float32. Times are capture times, seconds since the epoch, float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Times = NDArray[np.float64]
Integers = NDArray[np.int64]
Image = NDArray[np.uint8]

PERSON = "person"  # what detectors call people


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_rows(owner: str, count: int, **arrays: tuple[NDArray[Any], tuple[int, ...]]) -> None:
    """Every array has `count` rows of the given trailing shape."""
    for name, (array, trailing) in arrays.items():
        expected = (count, *trailing)
        _require(array.shape == expected, f"{owner}.{name} has shape {array.shape}, expected {expected}")


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of one camera. `image` is None where a simulated camera delivers detections instead of pixels."""

    camera: str
    time_s: float
    image: Image | None  # (H, W, 3) uint8, BGR
    width_px: int
    height_px: int
    sequence: int = 0  # counts the frames this camera delivered since it was opened
    number: int | None = None  # of the recording's frames, from 0, by its time; None of a live camera

    def __post_init__(self) -> None:
        if self.image is not None:
            expected = (self.height_px, self.width_px, 3)
            _require(self.image.shape == expected, f"Frame.image has shape {self.image.shape}, expected {expected}")
            _require(self.image.dtype == np.uint8, f"Frame.image is {self.image.dtype}, expected uint8")


@dataclass(frozen=True, slots=True)
class Aside:
    """What the network found in one frame and the detector did not keep; for whoever looks at a camera."""

    boxes: Floats  # (N, 4) float32, xyxy pixels
    scores: Floats  # (N,) float32
    classes: Integers  # (N,) int64
    why: tuple[Literal["weak", "class"], ...]  # N: weaker than asked for, or of another class


@dataclass(frozen=True, slots=True)
class Detections:
    """What the detector found in one frame."""

    boxes: Floats  # (N, 4) float32, xyxy pixels
    scores: Floats  # (N,) float32 in [0, 1]
    classes: Integers  # (N,) int64, index into the detector's class names
    lost: Mapping[str, int] = field(default_factory=dict)  # what is not here although the network found it: why → boxes
    aside: Aside | None = None  # only where somebody looks

    def __post_init__(self) -> None:
        _check_rows(
            "Detections",
            len(self.scores),
            boxes=(self.boxes, (4,)),
            scores=(self.scores, ()),
            classes=(self.classes, ()),
        )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracked objects of one camera in one frame, and the tracks that ended with it."""

    camera: str
    time_s: float
    ids: tuple[str, ...]  # N ids `{node}/{camera}/{boot}/{track}`, never reused
    boxes: Floats  # (N, 4) float32, xyxy pixels
    scores: Floats  # (N,) float32
    classes: Integers  # (N,) int64
    ended: tuple[str, ...] = ()  # ids that will not come back

    def __post_init__(self) -> None:
        _check_rows(
            "Tracks", len(self.ids), boxes=(self.boxes, (4,)), scores=(self.scores, ()), classes=(self.classes, ())
        )


@dataclass(frozen=True, slots=True)
class View:
    """One look at one track that is worth embedding."""

    track: str
    camera: str
    time_s: float
    box: Floats  # (4,) float32, xyxy pixels
    quality: float  # in [0, 1], larger is better
    crop: Image | None  # (h, w, 3) uint8, BGR; None where a simulated camera has no pixels
    score: float = 0.0  # the detector's
    persons: Floats = field(
        default_factory=lambda: np.zeros((0, 4), np.float32)
    )  # (K, 4) boxes that reach into its own
    embedding: Floats | None = None  # (D,) float32, a unit vector; None until it is embedded
    embedding_version: str = ""


@dataclass(frozen=True, slots=True)
class Tracklet:
    """A finished track: everything the association may know about one passage of one camera."""

    id: str  # `{node}/{camera}/{boot}/{track}`
    node: str
    camera: str
    class_name: str
    entry_time_s: float
    exit_time_s: float
    time_sigma_s: float  # standard deviation of both times
    entry_zone: str  # a zone of the camera's configuration, or the frame edge: left | right | top | bottom | inside
    exit_zone: str
    heading_rad: float  # direction of travel in the image, 0 = right, π/2 = down; nan when it did not move
    embeddings: Floats  # (M, D) float32, unit rows, 0 ≤ M ≤ 8; M = 0 when no view passed the quality gate
    qualities: Floats  # (M,) float32
    embedding_version: str
    path_times_s: Times = field(repr=False)  # (T,) float64, ascending
    path_boxes: Floats = field(repr=False)  # (T, 4) float32, xyxy pixels; the first is the entry, the last the exit
    frame_px: tuple[int, int] = (0, 0)  # width and height of the frame that the boxes are in; (0, 0): not known

    def __post_init__(self) -> None:
        _require(self.entry_time_s <= self.exit_time_s, f"Tracklet {self.id} ends before it begins")
        _require(self.embeddings.ndim == 2, f"Tracklet.embeddings has shape {self.embeddings.shape}, expected (M, D)")
        _check_rows("Tracklet", len(self.embeddings), qualities=(self.qualities, ()))
        _check_rows("Tracklet", len(self.path_times_s), path_boxes=(self.path_boxes, (4,)))


class Detector(Protocol):
    """Frames of any cameras in, one `Detections` per frame out."""

    class_names: tuple[str, ...]

    def detect(self, frames: list[Frame]) -> list[Detections]: ...


class Embedder(Protocol):
    """Views in, (M, D) float32 out: unit rows, and a row of nan for a view that the network can make nothing of.
    Embeddings of two versions are never compared."""

    version: str
    dimension: int

    def embed(self, views: list[View]) -> Floats: ...
