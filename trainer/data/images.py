"""Read pictures, and find those that cannot be read before training meets them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_app.contract.screen import MOST_PIXELS
from trainer.data.header import read_header
from trainer.data.records import Crops
from trainer.errors import DataError, shown

NAMES_SHOWN = 10
LOAD = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
BRIGHTEST_OF_12_BITS = 4095


@dataclass(frozen=True, slots=True)
class BadImage:
    """A file that is not read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The readable crops, their sizes, and the others by name."""

    crops: Crops
    sizes_px: NDArray[np.int32]  # (N, 2) int32, width and height of each readable crop
    kept: NDArray[np.int64]  # (N,) int64, row of each readable crop among those that were checked
    bad: tuple[BadImage, ...]


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """The picture (H, W, 3) uint8 BGR of a file's content, turned as its EXIF says; `DataError` with the reason when
    it cannot be read.

    Of 16 bits the upper eight are taken. Cameras write their 12 bits into 16 without scaling them; a picture in which
    no value needs more is taken for such a one, since as 16 bits it would be black for any eye.
    """
    if not data:
        raise DataError("the file is empty")
    header = read_header(data)
    if header is None:
        raise DataError(f"not a picture, or damaged ({len(data)} bytes)")
    if header.width_px * header.height_px > MOST_PIXELS:
        size = f"{header.width_px:,} × {header.height_px:,}"
        raise DataError(f"declares {size} pixels in {len(data):,} bytes, more than the {MOST_PIXELS:,} that are read")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), LOAD)
    except cv2.error:
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise DataError(f"damaged, or a {header.kind} of more than 16 bits ({len(data)} bytes)")
    if image.dtype == np.uint16:
        image = image // (16 if image.max() <= BRIGHTEST_OF_12_BITS else 256)
    return header.seen.turned(image.astype(np.uint8, copy=False))


def read_image(path: Path) -> NDArray[np.uint8]:
    """The picture (H, W, 3) uint8 BGR; `DataError` naming the file and the reason when it cannot be read."""
    found = try_image(path)
    if isinstance(found, BadImage):
        raise DataError(f"{shown(path)}: {found.reason}")
    return found


def try_image(path: Path) -> NDArray[np.uint8] | BadImage:
    """The picture (H, W, 3) uint8 BGR, or why there is none."""
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        return BadImage(path, f"cannot be read: {error.strerror or error}")
    except DataError as error:
        return BadImage(path, str(error))


def check_images(crops: Crops, limit: float = 0.01, workers: int = 4) -> Checked:
    """Decode every picture once; leave out the unreadable ones and name them.

    `DataError` when more than the share `limit` of them cannot be read (one always may), or none can.
    """
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(_size, crops.paths))
    readable = np.array([not isinstance(one, BadImage) for one in found], np.bool_)
    bad = tuple(one for one in found if isinstance(one, BadImage))
    if len(bad) == len(crops) or len(bad) > max(1, limit * len(crops)):
        raise DataError(
            f"{len(bad)} of {len(crops)} pictures cannot be read, allowed are {limit:.1%}:\n{names_of(bad)}\n"
            "restore or delete these files, or raise the limit"
        )
    sizes = np.array([one for one in found if not isinstance(one, BadImage)], np.int32).reshape(-1, 2)
    return Checked(crops.take(readable), sizes, np.flatnonzero(readable), bad)


def names_of(bad: Iterable[BadImage]) -> str:
    """The first few of the bad pictures, one line each."""
    bad = list(bad)
    lines = [f"  {shown(one.path)}: {one.reason}" for one in bad[:NAMES_SHOWN]]
    return "\n".join(lines + [f"  … and {len(bad) - NAMES_SHOWN} more"] * (len(bad) > NAMES_SHOWN))


def said_of(bad: Sequence[BadImage]) -> list[str]:
    """One line on the pictures that a command leaves out; none where it leaves out none."""
    return [f"left out: {len(bad)} pictures that cannot be read:\n{names_of(bad)}"] if bad else []


def _size(path: Path) -> tuple[int, int] | BadImage:
    """Width and height in pixels, or why there are none."""
    found = try_image(path)
    return found if isinstance(found, BadImage) else (found.shape[1], found.shape[0])
