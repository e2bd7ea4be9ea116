"""What is known of one crop, and the crop itself: pixels, `CropRecord` and embedding, each as bytes and back.

Everything here may come from a stranger: a size is bounded before it is used, nothing is decoded, nothing is run.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from edge_app.contract.envelope import Count, EpochSeconds, Part, Share, Slug, Text
from edge_app.contract.errors import ShardError

LARGEST_JPEG_BYTES, LARGEST_RECORD_BYTES = 4 << 20, 16 << 10
MOST_PIXELS = 1 << 24  # of one crop, as its JPEG header says them
MOST_VALUES = 8192  # of one embedding
LARGEST_NPY_BYTES = 128 + 2 * MOST_VALUES

Features: TypeAlias = NDArray[np.float16]
Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Px = Annotated[int, Field(ge=1, le=65_535)]
Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]


class Verdict(Part):
    """What the association said of the passage: whom it continues."""

    state: Literal["matched", "unmatched", "undecided"]
    """`undecided`: the crops could not be held until it was."""
    camera: Slug | None = None
    """Where the passage was before."""
    passage: Id | None = None
    """The passage that it continues."""
    posterior: Share | None = None
    """Probability of what was decided."""
    runner_up: Share | None = None
    """Probability of the best alternative."""
    similarity: Annotated[float, Field(ge=-1.01, le=1.01)] | None = None
    """Of the two passages, as the association compared them."""


class CropRecord(Part):
    """What is known of one crop. A reader ignores fields that it does not know."""

    format: Literal["crosslane-crop/1"] = "crosslane-crop/1"
    site: Slug
    node: Slug
    camera: Slug
    passage: Id
    """The track's id, unique in the site: as matches call it."""
    number: Annotated[int, Field(ge=0, le=9999)]
    """Counts the crops of the passage, in the order of capture."""
    class_name: Text
    captured_at_s: EpochSeconds
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    """x1, y1, x2, y2 in pixels of the frame; the crop is its part inside the frame."""
    frame_px: tuple[Px, Px]
    """Width and height of the frame."""
    score: Share
    """The detector's."""
    quality: Share
    """As `perception/crops.py` defines it."""
    embedding_version: Text | None = None
    entered_at_s: EpochSeconds
    left_at_s: EpochSeconds
    """Of the passage."""
    control: bool = False
    """Of a passage drawn by lot to judge by: never train on it."""
    person: Literal["none", "blurred", "kept"] = "none"
    """`blurred`: somebody stood in the crop and is made unrecognisable. `kept`: somebody may be seen."""
    verdict: Verdict | None = None
    views: Count = 0
    """How many crops the passage had, kept or not."""

    @property
    def key(self) -> str:
        return crop_key(self.passage, self.number)


def crop_key(passage: str, number: int) -> str:
    """The name of a crop's members without their endings: readable, and with the passage's digest unique."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", passage)[-48:].strip("-")
    return f"{readable}-{hashlib.sha256(passage.encode()).hexdigest()[:12]}-{number}"


@dataclass(frozen=True, slots=True)
class Crop:
    """One sample of a shard."""

    record: CropRecord
    jpeg: bytes
    embedding: Features | None = None  # (D,) float16, a unit vector within its precision


def encoded(crop: Crop) -> dict[str, bytes]:
    """Ending → content. Raises `ShardError` for a crop that no reader would take."""
    record = crop.record.model_dump_json(exclude_none=True).encode()
    members = {".jpg": crop.jpeg, ".json": record}
    if crop.embedding is not None:
        members[".npy"] = _npy(crop.embedding)
    decoded(crop.record.key, list(members.values()), "a crop")
    return members


def decoded(key: str, members: Sequence[bytes], where: str) -> Crop:
    """The crop of this key from its JPEG, its record and, where there is one, its embedding. Raises `ShardError`."""
    jpeg, record, *rest = members
    width, height = jpeg_size(jpeg, f"{where}: {key}.jpg")
    if len(jpeg) > LARGEST_JPEG_BYTES or len(record) > LARGEST_RECORD_BYTES or width * height > MOST_PIXELS:
        raise ShardError(f"{where}: {key} is larger than a crop may be: {width} × {height} in {len(jpeg)} bytes")
    try:
        read = CropRecord.model_validate_json(record)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ShardError(f"{where}: {key}.json: {'.'.join(map(str, first['loc']))}: {first['msg']}"[:500]) from None
    if read.key != key:
        raise ShardError(f"{where}: {key}.json is of another crop, {read.key}")
    return Crop(read, jpeg, _features(rest[0], f"{where}: {key}.npy") if rest else None)


def jpeg_size(jpeg: bytes, where: str) -> tuple[int, int]:
    """Width and height in pixels, from the frame header; nothing is decoded. Raises `ShardError` for another file."""
    place = 2 if jpeg[:2] == b"\xff\xd8" else len(jpeg)
    while place + 9 <= len(jpeg) and jpeg[place] == 0xFF:
        marker, length = jpeg[place + 1], int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if marker in (0xC0, 0xC1, 0xC2):
            height, width = struct.unpack(">HH", jpeg[place + 5 : place + 9])
            if width and height:
                return width, height
            break
        place += 2 + max(length, 2)
    raise ShardError(f"{where} is no JPEG picture")


def _npy(embedding: Features) -> bytes:
    """NumPy's file format 1.0 of one row of float16, byte by byte, so that a reader need not parse its header."""
    fields = f"{{'descr': '<f2', 'fortran_order': False, 'shape': ({len(embedding)},), }}"
    return b"\x93NUMPY\x01\x00v\x00" + f"{fields:<117}\n".encode() + embedding.astype("<f2").tobytes()


def _features(content: bytes, where: str) -> Features:
    embedding = np.frombuffer(content[128:], "<f2") if len(content) % 2 == 0 else np.zeros(0, "<f2")
    if not 1 <= len(embedding) <= MOST_VALUES or _npy(embedding) != content or not np.isfinite(embedding).all():
        raise ShardError(f"{where} is no row of 1 to {MOST_VALUES} finite values of float16")
    return embedding.astype(np.float16)
