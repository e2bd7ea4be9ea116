"""From a view to the JPEG that may be kept of it: whoever stands in it is left out, made unrecognisable, or kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from edge_app.contract.crop import LARGEST_JPEG_BYTES, MOST_PIXELS, Features
from edge_app.types import Floats, Image, View

Persons: TypeAlias = Literal["never", "blur", "keep"]
Person: TypeAlias = Literal["none", "blurred", "kept"]
BLOCKS = (3, 6)  # a person is shown as so many blocks of colour, across and down


@dataclass(frozen=True, slots=True)
class Look:
    """A view as it may be kept."""

    jpeg: bytes
    captured_at_s: float
    box: tuple[float, float, float, float]
    score: float
    quality: float
    person: Person
    embedding: Features | None  # (D,) float16
    embedding_version: str


def look_of(view: View, persons: Persons, jpeg_quality: int) -> Look | Literal["person", "unfit"]:
    """The look; `person` when it must not be kept, `unfit` when there are no pixels or too many."""
    crop = view.crop
    if crop is None or not 0 < crop.shape[0] * crop.shape[1] <= MOST_PIXELS:
        return "unfit"
    person: Person = "none"
    if len(view.persons):
        if persons == "never":
            return "person"
        person = "kept" if persons == "keep" else "blurred"
        crop = crop if persons == "keep" else without(crop, view.box, view.persons)
    jpeg = _jpeg(crop, jpeg_quality)
    if not 0 < len(jpeg) <= LARGEST_JPEG_BYTES:
        return "unfit"
    left, top, right, bottom = (float(value) for value in view.box)
    embedding = None if view.embedding is None else view.embedding.astype(np.float16)
    return Look(
        jpeg,
        view.time_s,
        (left, top, right, bottom),
        view.score,
        view.quality,
        person,
        embedding,
        view.embedding_version,
    )


def without(crop: Image, box: Floats, persons: Floats) -> Image:
    """A copy of the crop (h, w, 3) that was cut along `box`, with the boxes of `persons` (K, 4), all in pixels of the
    frame, as a few blocks of colour: nothing finer is left to be recognised."""
    import cv2

    crop = crop.copy()
    height, width = crop.shape[:2]
    origin = np.maximum(np.trunc(box[:2]), 0)  # as `perception.crops.cut` rounds
    for person in persons:
        left, top = np.clip(np.floor(person[:2] - origin), 0, (width, height)).astype(int).tolist()
        right, bottom = np.clip(np.ceil(person[2:] - origin), 0, (width, height)).astype(int).tolist()
        if left < right and top < bottom:
            size = (right - left, bottom - top)
            few = cv2.resize(
                crop[top:bottom, left:right],
                (min(BLOCKS[0], size[0]), min(BLOCKS[1], size[1])),
                interpolation=cv2.INTER_AREA,
            )
            crop[top:bottom, left:right] = cv2.resize(few, size, interpolation=cv2.INTER_NEAREST)
    return crop


def _jpeg(crop: Image, quality: int) -> bytes:
    import cv2

    try:
        made, content = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        return b""
    return content.tobytes() if made else b""
