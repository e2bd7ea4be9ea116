"""What detectors' outputs mean: three families of heads, recognised by shape, decoded to boxes in input pixels, and
brought back to pixels of the picture. The roadside runs this, the trainer measures with it.

A = number of anchors (grid cells of all strides), C = number of classes, K = number of candidates:

    ultralytics-end2end   (B, K, 6)      x1 y1 x2 y2 score class; already without duplicates
    ultralytics-raw       (B, 4 + C, A)  cx cy w h, then one score per class
    yolox                 (B, A, 5 + C)  offsets in the grid cell, log sizes, objectness, then one score per class
    yolox-decoded         the same with cx cy w h in pixels (exported with `--decode_in_inference`)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.errors import HeadError
from edge_app.contract.model import Head
from edge_app.contract.preprocess import InputSpec, LetterboxMap

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))  # usual, P6 and P2 variants


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes above the score threshold in one picture, before suppression of duplicates."""

    boxes: Floats  # (K, 4) float32, xyxy input pixels
    scores: Floats  # (K,) float32
    classes: Integers  # (K,) int64; -1 where the network gave no number
    damaged: int = 0  # boxes of the output whose score is no number; they are not among the candidates

    def in_picture(self, place: LetterboxMap) -> tuple[Floats, NDArray[np.bool_]]:
        """(K, 4) float32 boxes in pixels of the picture, clipped to it, and (K,) which of them are finite and at least
        one pixel wide and high."""
        finite = np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.scores)
        width, height = place.source_width_px, place.source_height_px
        boxes = np.clip(place.back(np.where(finite[:, None], self.boxes, 0)), 0, [width, height, width, height])
        large = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1)
        return boxes.astype(np.float32), finite & large


Decode = Callable[[NDArray[Any], float, InputSpec], Candidates]


def recognise(
    shape: tuple[int, ...], spec: InputSpec, classes: int | None, named: Head | None
) -> tuple[Head, int | None]:
    """Which head makes an output of this shape, and its number of classes (None where the shape does not say).

    `classes` is the known number of classes, if any; `named` the head that the manifest or the settings name.
    Raises `HeadError` when no head or more than one fits.
    """
    fits = {} if len(shape) != 3 else _fitting_heads(shape[1], shape[2], spec)
    if classes is not None:
        fits = {head: count for head, count in fits.items() if count in (None, classes)}
    possible = {head: count for head, count in fits.items() if named in (None, head)}
    if named is None:
        possible.pop("yolox-decoded", None)  # has the shape of `yolox`, which is what the exporter makes by default
    if len(possible) == 1:
        return next(iter(possible.items()))
    known = f"{classes} classes" if classes is not None else "any number of classes"
    wanted = f"the head {named!r}" if named else "exactly one known head"
    raise HeadError(
        f"detector output {shape} does not fit {wanted} with {known} and an input of "
        f"{spec.width_px}×{spec.height_px}; it could be: {', '.join(fits) or 'none'}. "
        "Name `head` and `class_names` in the manifest or settings, or export the model without extra outputs"
    )


def _fitting_heads(rows: int, columns: int, spec: InputSpec) -> dict[Head, int | None]:
    anchors = {len(grid(spec.width_px, spec.height_px, strides)[0]) for strides in _STRIDES}
    fits: dict[Head, int | None] = {}
    if columns == 6:
        fits["ultralytics-end2end"] = None
    if columns in anchors and rows >= 5:
        fits["ultralytics-raw"] = rows - 4
    if rows in anchors and columns >= 6:
        fits["yolox"] = fits["yolox-decoded"] = columns - 5
    return fits


def decode_end2end(output: NDArray[Any], threshold: float, spec: InputSpec) -> Candidates:
    """(K, 6) of one picture → candidates."""
    rows = output[output[:, 4] >= threshold].astype(np.float32)
    numbered = np.abs(rows[:, 5]) < 1e6  # false for what is no number
    classes = np.rint(np.where(numbered, rows[:, 5], -1)).astype(np.int64)
    return Candidates(rows[:, :4], rows[:, 4], classes, _damaged(output[:, 4]))


def decode_raw(output: NDArray[Any], threshold: float, spec: InputSpec) -> Candidates:
    """(4 + C, A) of one picture → candidates."""
    with np.errstate(invalid="ignore"):  # one class that is no number makes the box none
        best = output[4:].max(axis=0)
    chosen = np.flatnonzero(best >= threshold)
    columns = output[:, chosen].astype(np.float32)
    return Candidates(_corners(columns[:4].T), columns[4:].max(axis=0), columns[4:].argmax(axis=0), _damaged(best))


def decode_yolox(output: NDArray[Any], threshold: float, spec: InputSpec) -> Candidates:
    """(A, 5 + C) of one picture, offsets in grid cells → candidates."""
    chosen, scores, classes, damaged = _objects(output, threshold)
    strides = next(group for group in _STRIDES if len(grid(spec.width_px, spec.height_px, group)[0]) == len(output))
    cells, sizes = grid(spec.width_px, spec.height_px, strides)
    rows, stride = output[chosen, :4].astype(np.float32), sizes[chosen, None]
    with np.errstate(all="ignore"):  # a size beyond float32 becomes infinite, and is dropped with the other wild boxes
        boxes = np.concatenate([(rows[:, :2] + cells[chosen]) * stride, np.exp(rows[:, 2:]) * stride], axis=1)
    return Candidates(_corners(boxes), scores, classes, damaged)


def decode_yolox_decoded(output: NDArray[Any], threshold: float, spec: InputSpec) -> Candidates:
    """(A, 5 + C) of one picture, boxes in pixels → candidates."""
    chosen, scores, classes, damaged = _objects(output, threshold)
    return Candidates(_corners(output[chosen, :4].astype(np.float32)), scores, classes, damaged)


DECODERS: dict[Head, Decode] = {
    "ultralytics-end2end": decode_end2end,
    "ultralytics-raw": decode_raw,
    "yolox": decode_yolox,
    "yolox-decoded": decode_yolox_decoded,
}


@lru_cache(maxsize=16)
def grid(width_px: int, height_px: int, strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    """(A, 2) float32 cell coordinates x, y and (A,) float32 strides, in the order of YOLO outputs."""
    cells, sizes = [], []
    for stride in strides:
        rows, columns = np.mgrid[: height_px // stride, : width_px // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        sizes.append(np.full(rows.size, stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(sizes).astype(np.float32)


def _objects(output: NDArray[Any], threshold: float) -> tuple[NDArray[np.intp], Floats, Integers, int]:
    """Rows of a YOLOX output whose objectness × best class reaches the threshold, with scores and classes; and how many
    rows have a score that is no number."""
    likely = np.flatnonzero(output[:, 4] >= threshold)  # a class score is ≤ 1, so the rest cannot reach it
    classes = output[likely, 5:].argmax(axis=1)
    with np.errstate(all="ignore"):
        scores = (output[likely, 4] * output[likely, 5 + classes]).astype(np.float32)
    above = scores >= threshold
    return likely[above], scores[above], classes[above], _damaged(output[:, 4]) + _damaged(scores)


def _damaged(scores: NDArray[Any]) -> int:
    return int(np.isnan(scores).sum())


def _corners(boxes: Floats) -> Floats:
    """(K, 4) cx cy w h → x1 y1 x2 y2."""
    with np.errstate(all="ignore"):  # what is infinite here is dropped by whoever takes the boxes
        half = boxes[:, 2:] / 2
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
