"""The OpenCV path of `contract.preprocess`: pictures → one batch. Equal to the reference within one grey level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_app.contract.errors import InputSpecError
from edge_app.contract.preprocess import InputSpec, LetterboxMap, check_picture
from edge_app.types import Image

FLOAT = np.dtype(np.float32)


class Preprocessor:
    """Fills one preallocated batch again and again.

    Resizing is OpenCV's 8-bit arithmetic. Normalisation is one multiplication and one addition in float32, twice as
    fast as a table of `InputSpec.levels`, and differs from the reference by rounding only.
    """

    def __init__(self, spec: InputSpec, max_batch: int, dtype: np.dtype[Any] = FLOAT) -> None:
        """`dtype` is what the network takes: uint8 for one that normalises by itself. Raises `InputSpecError` when the
        spec then asks for a normalisation too."""
        self.spec = spec
        self._grey = dtype == np.uint8
        if self._grey and (spec.scale, set(spec.mean), set(spec.std)) != (1.0, {0.0}, {1.0}):
            raise InputSpecError(
                f"the network takes grey levels (uint8), but its description normalises them: scale {spec.scale}, "
                f"mean {spec.mean}, std {spec.std}; describe scale 1, mean 0, std 1"
            )
        self._batch = np.empty((max_batch, 3, spec.height_px, spec.width_px), np.uint8 if self._grey else np.float32)
        self._painted: list[LetterboxMap | None] = [None] * max_batch  # the padding that each slot holds
        self._levels = spec.levels()
        self._slopes = (spec.scale / np.array(spec.std)).astype(np.float32)  # in channel order, as the levels
        self._offsets = (-np.array(spec.mean) / np.array(spec.std)).astype(np.float32)

    def __call__(self, images: Sequence[Image]) -> tuple[NDArray[Any], list[LetterboxMap]]:
        """M pictures (H, W, 3) uint8 BGR → (M, 3, h, w) float32 or uint8, contiguous, and where each lies in it.

        The batch is valid until the next call. Raises `InputSpecError` for what is no picture; M must not exceed
        the `max_batch` given at the start.
        """
        return self._batch[: len(images)], [self._fill(slot, image) for slot, image in enumerate(images)]

    def _fill(self, slot: int, image: Image) -> LetterboxMap:
        check_picture(image)
        place = self.spec.place(image.shape[1], image.shape[0])
        if place != self._painted[slot]:  # cameras keep their slots and sizes, so padding is painted once
            self._batch[slot] = self._levels[:, self.spec.pad_value, None, None]
            self._painted[slot] = place
        rows = slice(place.top_px, place.top_px + place.height_px)
        columns = slice(place.left_px, place.left_px + place.width_px)
        pixels = self._resize(image, place)
        targets = [plane[rows, columns] for plane in self._batch[slot]]
        if self.spec.channel_order == "RGB":
            targets.reverse()
        if self._grey:
            cv2.split(pixels, targets)  # one pass over a picture that comes cold from another thread
        else:
            self._normalise(pixels, targets)
        return place

    def _normalise(self, pixels: cv2.typing.MatLike, targets: list[NDArray[Any]]) -> None:
        """`targets`: the planes of blue, green and red, to be filled."""
        to_spec = reversed(range(3)) if self.spec.channel_order == "RGB" else range(3)
        for source, (channel, target) in enumerate(zip(to_spec, targets, strict=True)):
            np.multiply(pixels[:, :, source], self._slopes[channel], out=target)
            if self._offsets[channel]:
                target += self._offsets[channel]

    def _resize(self, image: Image, place: LetterboxMap) -> cv2.typing.MatLike:
        if (place.width_px, place.height_px) == (image.shape[1], image.shape[0]):
            return image
        shrinks = place.width_px <= image.shape[1] and place.height_px <= image.shape[0]
        kernel = cv2.INTER_AREA if self.spec.kernel == "area" and shrinks else cv2.INTER_LINEAR
        return cv2.resize(image, (place.width_px, place.height_px), interpolation=kernel)
