"""Which looks at a track are worth embedding.

An embedding costs far more than a decision, and ten pictures of a standing car say no more than one. A look is taken
when its quality passes the gate and it is either due or clearly better than any look before:

    quality = score · size · (1 − covered) · cut · sharp        each factor in [0, 1]

- size: shorter side against `good_side_px`; below `minimum_side_px` never;
- covered: the largest share of the box that another box lies over; a box that reaches further down is in front and
  counts fully, one behind it by a third, because its pixels are in the crop but behind the object;
- cut: boxes at the frame's border show a part of the object only;
- sharp: energy of the Laplacian against the energy of the picture, in the crop at a fixed small size.

Looks become rarer with a track's age (`growth`), so their number grows with the logarithm of the time in view, and an
object that stands still is not looked at again (`moved_iou`). The same frames always give the same looks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_app.boxes import common_area
from edge_app.errors import StoreError
from edge_app.settings import Settings
from edge_app.store.parts import sealed, unsealed
from edge_app.types import Floats, Frame, Image, Tracks, View

Limit = Literal["weak", "small", "hidden", "cut off"]

_FORMAT = "crosslane.looks/2"
_SHARPNESS_SIDE_PX = 48


class CropSettings(Settings):
    """Which views of a track are embedded."""

    minimum_quality: float = Field(default=0.05, ge=0, le=1)
    """Views below this quality are never embedded."""
    minimum_side_px: float = Field(default=16, ge=1)
    """Boxes with a shorter side are too small to recognise anything."""
    good_side_px: float = Field(default=64, ge=1)
    """From this shorter side on, size no longer limits the quality."""
    cut_factor: float = Field(default=0.4, ge=0, le=1)
    """Quality of a view cut off by the frame's border, against the same view inside."""
    border: float = Field(default=0.01, ge=0, lt=0.5)
    """A box this close to the frame's border, as a share of the frame's side, is cut off."""
    minimum_interval_s: float = Field(default=0.4, ge=0)
    """Least time between two views of one track."""
    growth: float = Field(default=0.2, ge=0)
    """The interval is at least this share of the track's age."""
    moved_iou: float = Field(default=0.9, gt=0, le=1)
    """A box that overlaps the last embedded one more than this shows nothing new."""
    better: float = Field(default=1.3, gt=1)
    """A view this many times better than the best so far is taken even when it is not due."""
    maximum_views: int = Field(default=16, ge=1)
    """Views per track."""


@dataclass(slots=True)
class _Looks:
    """What was taken of one track so far."""

    first_s: float  # when the track was first seen
    last_s: float = 0.0  # when the last look was taken
    tried_s: float = 0.0  # when its pixels were last examined
    count: int = 0
    best: float = 0.0
    box: tuple[float, ...] = ()  # of the last look


class CropSelector:
    """Remembers what was embedded of every open track and decides what to embed next."""

    def __init__(self, settings: CropSettings) -> None:
        self._settings = settings
        self._open: dict[str, _Looks] = {}

    def select(self, frame: Frame, tracks: Tracks, unasked: Collection[str] = ()) -> list[View]:
        """The views of this frame worth embedding, none of tracks that nobody asked for; forgets the tracks that ended
        with it."""
        self.forget(tracks.ended)
        if not tracks.ids:
            return []
        quality = geometric_quality(tracks, frame.width_px, frame.height_px, self._settings)
        views = []
        for row, track in enumerate(tracks.ids):
            if track in unasked:
                continue
            looks = self._open.setdefault(track, _Looks(first_s=tracks.time_s))
            if self._wanted(looks, tracks.time_s, tracks.boxes[row], float(quality[row])):
                views += self._take(looks, frame, tracks, row, float(quality[row]))
        return views

    def forget(self, ended: Iterable[str]) -> None:
        """Drop what is known of tracks that will not come back."""
        for track in ended:
            self._open.pop(track, None)

    def snapshot(self) -> bytes:
        """Everything needed to go on exactly here after a restart."""
        rows = {track: asdict(looks) for track, looks in self._open.items()}
        return sealed(_FORMAT, json.dumps(rows).encode())

    def restore(self, snapshot: bytes) -> None:
        """Go on where `snapshot` was taken. Raises `StoreError` when it is damaged or of another format."""
        try:
            stored = json.loads(unsealed(snapshot, _FORMAT))
            self._open = {track: _looks(row) for track, row in stored.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"the stored looks are unusable ({error}); they begin anew") from None

    def _wanted(self, looks: _Looks, now_s: float, box: Floats, quality: float) -> bool:
        settings = self._settings
        if quality <= 0 or quality < settings.minimum_quality or looks.count >= settings.maximum_views:
            return False
        if looks.count == 0 or quality > settings.better * looks.best:
            return True
        interval = max(settings.minimum_interval_s, settings.growth * (now_s - looks.first_s))
        return _passed(looks.last_s, now_s, interval) and _iou(looks.box, box) <= settings.moved_iou

    def _take(self, looks: _Looks, frame: Frame, tracks: Tracks, row: int, quality: float) -> list[View]:
        """The view of one row, unless its pixels say otherwise: they can only lower the quality."""
        box, now_s = tracks.boxes[row], tracks.time_s
        if not _passed(looks.tried_s, now_s, self._settings.minimum_interval_s / 2):
            return []  # an object that grows into the frame gets better with every frame
        looks.tried_s, crop = now_s, None
        if frame.image is not None:
            crop = cut(frame.image, box)
            quality *= sharpness(crop) if crop.size else 0.0
            if not self._wanted(looks, now_s, box, quality):
                return []
        looks.last_s, looks.box = now_s, tuple(box.tolist())
        looks.count, looks.best = looks.count + 1, max(looks.best, quality)
        return [View(tracks.ids[row], tracks.camera, now_s, box, quality, crop, float(tracks.scores[row]))]


def geometric_quality(tracks: Tracks, width_px: int, height_px: int, settings: CropSettings) -> NDArray[np.float64]:
    """(N,) float64: quality of each track's box as far as boxes alone tell."""
    return np.asarray(np.prod([*factors(tracks, width_px, height_px, settings).values()], axis=0))


def factors(tracks: Tracks, width_px: int, height_px: int, settings: CropSettings) -> dict[Limit, NDArray[np.float64]]:
    """What makes up the quality of each track's box, (N,) float64 each."""
    boxes = tracks.boxes.astype(np.float64)
    side = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    size = np.where(side < settings.minimum_side_px, 0.0, np.minimum(side / settings.good_side_px, 1.0))
    near = np.array([width_px, height_px]) * settings.border
    inside = (boxes[:, :2] > near).all(axis=1) & (boxes[:, 2:] < np.array([width_px, height_px]) - near).all(axis=1)
    cut_off = np.where(inside, 1.0, settings.cut_factor)
    scores = tracks.scores.astype(np.float64)
    return {"weak": scores, "small": size, "hidden": 1 - covered(boxes), "cut off": cut_off}


def covered(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) → (N,) float64 in [0, 1]: the largest share of each box that one other box hides."""
    shared = common_area(boxes[:, None], boxes[None])  # (N, N)
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9), axis=1)
    in_front = boxes[None, :, 3] > boxes[:, None, 3]  # [i, j]: j reaches further down than i
    share = shared / area[:, None] * np.where(in_front, 1.0, 1 / 3)
    np.fill_diagonal(share, 0.0)
    return np.asarray(np.clip(share.max(axis=1, initial=0.0), 0.0, 1.0))


def cut(image: Image, box: Floats) -> Image:
    """The box's pixels as a copy (h, w, 3), so that a view does not keep its whole frame in memory."""
    height, width = image.shape[:2]
    left, top = max(int(box[0]), 0), max(int(box[1]), 0)
    right, bottom = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    crop: Image = image[top : max(bottom, top), left : max(right, left)].copy()
    return crop


def sharpness(crop: Image) -> float:
    """In [0.3, 1]: Laplacian energy against contrast, at a fixed size so that size does not count twice.

    A flat picture has no edges to judge and counts as blurred. The floor keeps a blurred view, which still shows
    colour, better than none.
    """
    import cv2

    small = cv2.resize(crop, (_SHARPNESS_SIDE_PX, _SHARPNESS_SIDE_PX), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    edges = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    contrast = float(grey.var()) + 25.0  # 25: sensor noise of five grey levels is no contrast
    return 0.3 + 0.7 * min(edges / contrast, 1.0)


def _looks(row: dict[str, Any]) -> _Looks:
    times = {name: float(row[name]) for name in ("first_s", "last_s", "tried_s", "best")}
    box = tuple(float(value) for value in row["box"])
    if not np.isfinite([*times.values(), *box]).all() or len(box) not in (0, 4):
        raise ValueError(f"a look at {box} at {times}")
    return _Looks(**times, count=int(row["count"]), box=box)


def _passed(since_s: float, now_s: float, interval_s: float) -> bool:
    return now_s - since_s >= interval_s - 1e-6  # differences of epoch seconds are exact to 0.5 µs


def _iou(first: tuple[float, ...], second: Any) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return float(width * height / (areas - width * height))
