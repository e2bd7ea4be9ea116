"""Decoded, resized crops as one memory-mapped array, so that no training step waits for a JPEG decoder.

The first run reads every picture once and writes (N, H, W, 3) uint8; later runs of the same files and the same
`InputSpec` open it at once. Pages that are in use stay in the system's file cache, so the array may be larger than
the memory.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_app.contract.preprocess import InputSpec
from trainer.data.images import BadImage, names_of, try_image
from trainer.data.records import Crops
from trainer.errors import DataError, WorldError

Pixels = NDArray[np.uint8]
BLOCK = 512  # crops decoded between two writes


@dataclass(frozen=True, slots=True)
class Cached:
    """The readable crops and their pictures."""

    crops: Crops
    pixels: Pixels  # (N, H, W, 3) uint8 in the channel order of the spec, memory-mapped, read-only
    kept: NDArray[np.int64]  # (N,) int64, row of each readable crop among those asked for
    bad: tuple[BadImage, ...]


def cached(
    crops: Crops,
    spec: InputSpec,
    folder: Path,
    bad_limit: float = 0.01,
    progress: Callable[[int], None] = lambda done: None,
) -> Cached:
    """The pictures of `crops` as `spec` wants them, from the cache folder; decoded now where they are not there yet.

    Another process that decodes the same crops is waited for. `DataError` naming the files when more than the share
    `bad_limit` (one always may) cannot be read; `WorldError` when the disk has no room. `progress` is told how many
    crops each block added.
    """
    if not len(crops):
        raise DataError("there is no crop to read: check the folder, and that its pictures have a known suffix")
    name = folder / f"crops-{_key(crops, spec)}"
    if not _is_whole(name):
        _write(crops, spec, name, bad_limit, progress)
    facts = json.loads(name.with_suffix(".json").read_text(encoding="utf-8"))
    bad = tuple(BadImage(Path(path), reason) for path, reason in facts["bad"])
    _check_bad(bad, len(crops), bad_limit)
    unreadable = {item.path for item in bad}
    kept = np.array([row for row, path in enumerate(crops.paths) if path not in unreadable], np.int64)
    shape = (len(kept), spec.height_px, spec.width_px, 3)
    return Cached(crops.take(kept), np.memmap(name.with_suffix(".u8"), np.uint8, "r", shape=shape), kept, bad)


def fit(image: Pixels, spec: InputSpec) -> Pixels:
    """(H, W, 3) uint8 BGR → (height_px, width_px, 3) uint8 in the channel order of the spec: `preprocess` without its
    numbers."""
    place = spec.place(image.shape[1], image.shape[0])
    shrinks = place.width_px <= image.shape[1] and place.height_px <= image.shape[0]
    kernel = cv2.INTER_AREA if spec.kernel == "area" and shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image, (place.width_px, place.height_px), interpolation=kernel)
    canvas = np.full((spec.height_px, spec.width_px, 3), spec.pad_value, np.uint8)
    canvas[place.top_px : place.top_px + place.height_px, place.left_px : place.left_px + place.width_px] = resized
    return canvas[:, :, ::-1] if spec.channel_order == "RGB" else canvas


def _key(crops: Crops, spec: InputSpec) -> str:
    """Changes with any file's path, size or time, and with everything of the spec that moves a pixel."""
    geometry = spec.model_dump(
        include={"width_px", "height_px", "channel_order", "resize", "kernel", "pad_value", "letterbox_align"}
    )
    digest = hashlib.sha256(json.dumps(geometry, sort_keys=True).encode())
    for path in crops.paths:
        try:
            state = path.stat()
            said = f"{state.st_size}\0{state.st_mtime_ns}"
        except OSError as error:
            said = str(error.errno)
        digest.update(os.fsencode(path) + f"\0{said}\n".encode())  # a name need not be UTF-8
    return digest.hexdigest()[:24]


def _is_whole(name: Path) -> bool:
    return name.with_suffix(".json").is_file() and name.with_suffix(".u8").is_file()


def _write(crops: Crops, spec: InputSpec, name: Path, bad_limit: float, progress: Callable[[int], None]) -> None:
    """Decode into a file of its own, then give it its name: a broken run never leaves a cache that looks whole."""
    try:
        name.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(name.parent)
        with _locked(name.with_suffix(".part")) as file:
            if _is_whole(name):  # by the process that has been waited for
                return
            _need_room(len(crops) * spec.height_px * spec.width_px * 3, name.parent)
            bad = _decode_all(crops, spec, file, progress)
            _check_bad(bad, len(crops), bad_limit)
            facts = {"bad": [(str(item.path), item.reason) for item in bad]}
            name.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
            file.flush()
            name.with_suffix(".part").replace(name.with_suffix(".u8"))
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise WorldError(f"the decoded crops cannot be written to {name.parent}: {reason}") from error


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """An empty file at `path` that no other process writes: those wait here. Removed at the end, where it has not got
    another name."""
    while True:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(path, file):  # the process that had it has finished or removed it
                continue
            file.truncate(0)
            try:
                yield file
            finally:
                if _is_at(path, file):
                    path.unlink()
            return


def _remove_leftovers(folder: Path) -> None:
    """Files of processes that were killed: the system has taken their locks away."""
    for path in folder.glob("crops-*.part"):
        with suppress(OSError), path.open("r+b") as file:  # it is in use, gone, or not ours
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, file):
                path.unlink()


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether the open file still has this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _need_room(needed_bytes: int, folder: Path) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise WorldError(
            f"the decoded crops need {needed_bytes / 2**30:.1f} GiB in {folder}, only {free_bytes / 2**30:.1f} GiB "
            "are free: make room or set data.cache to another disk"
        )


def _decode_all(crops: Crops, spec: InputSpec, file: BinaryIO, progress: Callable[[int], None]) -> list[BadImage]:
    """Write all pictures that can be read, in order; returns the others."""
    bad: list[BadImage] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(crops), BLOCK):
            paths = crops.paths[first : first + BLOCK]
            for item in pool.map(lambda path: _decode(path, spec), paths):
                if isinstance(item, BadImage):
                    bad.append(item)
                else:
                    file.write(item)
            progress(len(paths))
    return bad


def _decode(path: Path, spec: InputSpec) -> bytes | BadImage:
    found = try_image(path)
    return found if isinstance(found, BadImage) else fit(found, spec).tobytes()


def _check_bad(bad: tuple[BadImage, ...] | list[BadImage], count: int, limit: float) -> None:
    if len(bad) == count or len(bad) > max(1, limit * count):
        raise DataError(
            f"{len(bad)} of {count} pictures cannot be read, allowed are {limit:.1%}:\n{names_of(bad)}\n"
            "restore or delete these files, or raise data.bad_limit"
        )
