"""Frames to measure a detector on: a folder of pictures, recordings, or pictures with labels in YOLO's layout.

Some measure the INT8 ranges, others, never the same, judge the result: the parts `train` and `val` where the data have
them, else every third frame judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.preprocess import InputSpec, LetterboxMap
from trainer.data.cache import fit
from trainer.data.images import read_image
from trainer.data.listing import find_images, reasons_of
from trainer.data.records import spread
from trainer.detector import labels
from trainer.detector.recordings import frames_of, recordings_of
from trainer.errors import DataError
from trainer.metrics.detection import Boxes

LEAST = 6  # frames
JUDGE_EVERY = 3
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frames:
    """Pictures as the network sees them."""

    pixels: Pixels  # (N, H, W, 3) in the network's size and channel order
    places: tuple[LetterboxMap, ...]  # N
    truth: tuple[Boxes, ...] | None  # N, in pixels of the picture; None without labels

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What measures, and what judges."""

    spare: Frames
    held: Frames


def gather(
    path: Path,
    spec: InputSpec,
    class_names: tuple[str, ...],
    count: int,
    judges: int,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Gathered:
    """At most `count` frames to measure ranges on and `judges` others to judge, evenly spread; `say` is told what is
    passed over. `DataError` when there are too few or one cannot be read."""
    known = labels.find(path)
    if known is None:
        frames = _stack((picture for _, picture in pictures_of(path, count + judges, say)), spec)
        _check_enough(path, len(frames))
        judging = np.arange(len(frames)) % JUDGE_EVERY == 0
        spare, held = (_take(frames, np.flatnonzero(rows)) for rows in (~judging, judging))
        return Gathered(spare, held)
    train, val = known.train, known.val
    if not val:
        train, val = tuple(each for row, each in enumerate(train) if row % JUDGE_EVERY), train[::JUDGE_EVERY]
    _check_enough(path, len(train) + len(val))
    numbers = labels.class_numbers(known.names, class_names)
    spare, held = (
        _labelled([pictures[row] for row in spread(len(pictures), limit)], spec, numbers, len(class_names))
        for pictures, limit in ((train, count), (val, judges))
    )
    return Gathered(spare, held)


def pictures_of(path: Path, limit: int, say: Callable[[str], None] = lambda line: None) -> Iterator[tuple[str, Pixels]]:
    """Name and picture (H, W, 3) uint8 BGR of at most `limit` frames of a folder of pictures or recordings, or of one
    recording, evenly spread; `say` is told what is passed over. `DataError` when there is none, or one cannot be read.
    """
    files = recordings_of(path)
    if not files:
        found = find_images(path)
        for line in reasons_of(found.passed_over, path):
            say(f"left out: {line}")
        every = found.pictures
        for row in spread(len(every), limit):
            yield every[row].stem, read_image(every[row])
        return
    for file in files:
        for number, picture in frames_of(file, max(1, limit // len(files)), say):
            yield f"{file.stem}-{number:06d}", picture


def _check_enough(path: Path, count: int) -> None:
    if count < LEAST:
        raise DataError(f"{path} has {count} frames; ranges and gate need at least {LEAST}, better 300")


def _labelled(pictures: list[Path], spec: InputSpec, numbers: NDArray[np.int64] | None, classes: int) -> Frames:
    frames = _stack(map(read_image, pictures), spec)
    truth = [
        labels.read_labels(
            labels.label_path(picture), (place.source_width_px, place.source_height_px), numbers, classes
        )
        for picture, place in zip(pictures, frames.places, strict=True)
    ]
    return Frames(frames.pixels, frames.places, tuple(truth))


def _stack(pictures: Iterable[Pixels], spec: InputSpec) -> Frames:
    pixels, places = [], []
    for picture in pictures:
        places.append(spec.place(picture.shape[1], picture.shape[0]))
        pixels.append(fit(picture, spec))
    return Frames(np.array(pixels, np.uint8), tuple(places), None)


def _take(frames: Frames, rows: NDArray[np.int64]) -> Frames:
    return Frames(frames.pixels[rows], tuple(frames.places[row] for row in rows), None)
