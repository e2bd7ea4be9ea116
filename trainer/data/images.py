"""Read pictures, and find those that cannot be read before training meets them."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.records import Crops
from trainer.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class BadImage:
    """A picture that cannot be read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The readable crops, their sizes, and the others by name."""

    crops: Crops
    sizes_px: NDArray[np.int32]  # (N, 2) int32, width and height of each readable crop
    kept: NDArray[np.int64]  # (N,) int64, row of each readable crop among those that were checked
    bad: tuple[BadImage, ...]


def read_image(path: Path) -> NDArray[np.uint8]:
    """The picture (H, W, 3) uint8 BGR; `DataError` naming the file and the reason when it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not data:
        raise DataError(f"{path}: the file is empty")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path}: not a picture, or damaged ({len(data)} bytes)")
    return image.astype(np.uint8, copy=False)


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
    lines = [f"  {one.path}: {one.reason}" for one in bad[:NAMES_SHOWN]]
    return "\n".join(lines + [f"  … and {len(bad) - NAMES_SHOWN} more"] * (len(bad) > NAMES_SHOWN))


def list_images(folder: Path) -> list[Path]:
    """All picture files below a folder, sorted; `DataError` when the folder is missing or has none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"{folder}: no pictures below it (looked for {', '.join(sorted(SUFFIXES))})")
    return found


def _size(path: Path) -> tuple[int, int] | BadImage:
    """Width and height in pixels, or why there are none."""
    try:
        image = read_image(path)
    except DataError as error:
        return BadImage(path, str(error).removeprefix(f"{path}: "))
    return image.shape[1], image.shape[0]
