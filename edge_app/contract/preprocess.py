"""How a picture becomes a network's input: the description (`InputSpec`) and the numpy code that defines it.

    (H, W, 3) uint8 BGR ─► resize (stretch | letterbox) ─► channel order ─► (value·scale − mean) / std ─► (3, h, w)

Two resizers differ by 2–4 grey levels when shrinking, so the kernel is named here and everyone who trains or runs a
model is tested against `preprocess`. The resized picture is 8-bit again, halves rounded up. Kernels:

- `bilinear`: the two nearest pixels per axis, half-pixel centres, edges repeated, no antialiasing
  (`cv2.resize(..., interpolation=cv2.INTER_LINEAR)`);
- `area`: the mean over the covered source area where both axes shrink or stay, else `bilinear`
  (`cv2.INTER_AREA` where both shrink, else `cv2.INTER_LINEAR`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from edge_app.contract.errors import InputSpecError

Kernel = Literal["bilinear", "area"]


@dataclass(frozen=True, slots=True)
class LetterboxMap:
    """Where a source picture lies inside the network's input. Continuous pixel coordinates, 0 = outer edge.

    `forward` and `back` are exact inverses: the scale of each axis is the one really used after rounding the
    resized size to whole pixels. A stretched picture is the case without padding.
    """

    source_width_px: int
    source_height_px: int
    width_px: int  # of the resized picture, without padding
    height_px: int
    left_px: int  # padding before it
    top_px: int

    @property
    def scale(self) -> NDArray[np.float64]:
        """(4,) float64: input pixels per source pixel, for x, y, x, y."""
        x, y = self.width_px / self.source_width_px, self.height_px / self.source_height_px
        return np.array([x, y, x, y])

    @property
    def offset(self) -> NDArray[np.float64]:
        """(4,) float64: padding in input pixels, for x, y, x, y."""
        return np.array([self.left_px, self.top_px, self.left_px, self.top_px], np.float64)

    def forward(self, boxes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(..., 4) xyxy in source pixels → (..., 4) float64 xyxy in input pixels."""
        return boxes * self.scale + self.offset

    def back(self, boxes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(..., 4) xyxy in input pixels → (..., 4) float64 xyxy in source pixels."""
        return (boxes - self.offset) / self.scale


class InputSpec(BaseModel):
    """What a network wants to see. Output layout is always NCHW float32."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    width_px: int = Field(gt=0, le=8192)
    """Width of the network's input."""
    height_px: int = Field(gt=0, le=8192)
    """Height of the network's input."""
    channel_order: Literal["RGB", "BGR"] = "RGB"
    """Order of the network's three input channels. Pictures themselves are always BGR."""
    scale: float = Field(default=1 / 255, gt=0, allow_inf_nan=False)
    """Factor applied to 8-bit values first: 1/255, or 1 for networks that take 0–255."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted after `scale`, one per channel, in `channel_order`."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Divided by last, one per channel, in `channel_order`."""
    resize: Literal["stretch", "letterbox"] = "stretch"
    """`stretch` ignores the aspect ratio; `letterbox` keeps it and pads."""
    kernel: Kernel = "bilinear"
    """Resampling kernel."""
    pad_value: int = Field(default=114, ge=0, le=255)
    """Grey level of the padding, all channels, before `scale`."""
    letterbox_align: Literal["center", "top-left"] = "center"
    """Where the picture lies in the padding: `center` as Ultralytics does, `top-left` as YOLOX does."""

    @field_validator("mean", "std")
    @classmethod
    def _finite(cls, values: tuple[float, float, float]) -> tuple[float, float, float]:
        if not all(math.isfinite(value) for value in values):
            raise ValueError("values must be finite numbers")
        return values

    @field_validator("std")
    @classmethod
    def _positive(cls, values: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(values) <= 0:
            raise ValueError("each std must be larger than 0")
        return values

    def levels(self) -> NDArray[np.float32]:
        """(3, 256) float32: the network's input value of every grey level, in `channel_order`."""
        grey = np.arange(256, dtype=np.float64) * self.scale
        mean, std = np.array(self.mean)[:, None], np.array(self.std)[:, None]
        values: NDArray[np.float32] = ((grey - mean) / std).astype(np.float32)
        return values

    def place(self, source_width_px: int, source_height_px: int) -> LetterboxMap:
        """Where a picture of this size comes to lie in the input. Sizes round half up and are at least one pixel."""
        if source_width_px < 1 or source_height_px < 1:
            raise InputSpecError(
                f"a picture of {source_width_px}×{source_height_px} pixels cannot be preprocessed: "
                "both sides must be at least 1; clip boxes to the frame and drop empty ones first"
            )
        if self.resize == "stretch":
            return LetterboxMap(source_width_px, source_height_px, self.width_px, self.height_px, 0, 0)
        ratio = min(self.width_px / source_width_px, self.height_px / source_height_px)
        width = min(max(math.floor(source_width_px * ratio + 0.5), 1), self.width_px)
        height = min(max(math.floor(source_height_px * ratio + 0.5), 1), self.height_px)
        centred = self.letterbox_align == "center"
        left = (self.width_px - width) // 2 if centred else 0
        top = (self.height_px - height) // 2 if centred else 0
        return LetterboxMap(source_width_px, source_height_px, width, height, left, top)


def check_picture(image: NDArray[np.uint8]) -> None:
    """Raise `InputSpecError` unless `image` is (H, W, 3) uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputSpecError(f"expected a picture (H, W, 3) uint8 BGR, got {image.shape} {image.dtype}")


def preprocess(image: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """(H, W, 3) uint8 BGR → (3, h, w) float32: the reference. Clear, not fast.

    Raises `InputSpecError` when `image` is not such a picture or is empty.
    """
    check_picture(image)
    place = spec.place(image.shape[1], image.shape[0])
    canvas = np.full((spec.height_px, spec.width_px, 3), spec.pad_value, np.uint8)
    rows, columns = slice(place.top_px, place.top_px + place.height_px), slice(place.left_px, None)
    canvas[rows, columns][:, : place.width_px] = resize(image, place.width_px, place.height_px, spec.kernel)
    channels = canvas[:, :, ::-1] if spec.channel_order == "RGB" else canvas
    levels = spec.levels()
    return np.stack([levels[index][channels[:, :, index]] for index in range(3)])


def resize(image: NDArray[np.uint8], width_px: int, height_px: int, kernel: Kernel) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 → (height_px, width_px, 3) uint8, halves rounded up. See the module for the kernels."""
    source_height, source_width = image.shape[:2]
    shrinks = width_px <= source_width and height_px <= source_height
    weights = _area_weights if kernel == "area" and shrinks else _bilinear_weights
    vertical = weights(source_height, height_px)  # (height_px, H)
    horizontal = weights(source_width, width_px)  # (width_px, W)
    rows = (vertical @ image.reshape(source_height, -1)).reshape(height_px, source_width, 3)
    values = horizontal @ rows  # (height_px, width_px, 3) float64
    return np.floor(values + 0.5).astype(np.uint8)


def _bilinear_weights(source: int, target: int) -> NDArray[np.float64]:
    """(target, source) float64, rows sum to 1: the two pixels around each target pixel's centre."""
    centre = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    first = np.minimum(np.floor(centre).astype(int), source - 1)
    share = centre - first
    weights = np.zeros((target, source))
    weights[np.arange(target), first] = 1 - share
    weights[np.arange(target), np.minimum(first + 1, source - 1)] += share
    return weights


def _area_weights(source: int, target: int) -> NDArray[np.float64]:
    """(target, source) float64, rows sum to 1: how much of each source pixel a target pixel covers."""
    edges = np.arange(target + 1) * (source / target)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(source)[None, :]
    overlap = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True))
