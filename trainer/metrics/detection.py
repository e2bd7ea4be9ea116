"""How good boxes are, and how alike two detectors' boxes. Pure: boxes in, figures out.

mAP is COCO's, by COCO's own code (pycocotools, BSD): mean over classes that occur and over the IoU thresholds 0.5,
0.55 … 0.95 of the precision at 101 recalls, in percent. Without labels, a network's own boxes stand in for true ones
(`own_average_precision`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError
from trainer.quiet import quietly

SAME_IOU = 0.5
MOST = 300  # boxes per picture that count; the strongest
COUNTED_AREA = 1e10  # a reference box that says it is larger is one that need not be found, in COCO's code
FINE = 1001  # recalls; of COCO's 101 a single box missing of some hundreds costs one, which is a whole point


@dataclass(frozen=True, slots=True)
class Boxes:
    """The objects of one picture: true ones, or those that a detector found."""

    boxes: NDArray[np.float32]  # (N, 4) xyxy in pixels of the picture
    scores: NDArray[np.float32]  # (N,) in [0, 1]; 1 for true ones
    classes: NDArray[np.int64]  # (N,) index into the detector's class names

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> Boxes:
        chosen = self.scores >= score
        return Boxes(self.boxes[chosen], self.scores[chosen], self.classes[chosen])


@dataclass(frozen=True, slots=True)
class Precision:
    """Mean average precision in percent."""

    mAP: float  # noqa: N815  over the IoU thresholds 0.5 … 0.95
    mAP50: float  # noqa: N815  at IoU 0.5


def mean_average_precision(truth: Sequence[Boxes], found: Sequence[Boxes]) -> Precision:
    """Of the boxes `found` in each picture against the true ones. `DataError` when there is no true box at all."""
    if not sum(map(len, truth)):
        raise DataError("no picture has an object in it, so there is nothing to measure a detector on")
    if not sum(map(len, found)):
        return Precision(0.0, 0.0)
    precision = _precisions(truth, found)
    return Precision(float(precision.mean() * 100), float(precision[0].mean() * 100))


def own_average_precision(own: Sequence[Boxes], found: Sequence[Boxes], sure: float) -> float:
    """AP at IoU 0.5 in percent, the boxes `own` of the same pictures standing in for labels. `DataError` when none of
    them has at least the score `sure`.

    Unlike labels they hold single boxes of classes that are not there, and boxes that are hardly boxes. So a box counts
    the same whatever its class (a mean over classes would hang on the rarest of them), what is less than `sure` is
    neither asked for nor wrong, and recall is cut finely.
    """
    if not sum(len(each.above(sure)) for each in own):
        raise DataError(
            f"no picture has a box of a score of {sure:g} or more, so there is nothing to measure a detector on"
        )
    if not sum(map(len, found)):
        return 0.0
    kinds = np.unique(np.concatenate([each.classes for each in (*own, *found)]))
    wanted, given = ([_of_class(each, kind) for each in boxes for kind in kinds] for boxes in (own, found))
    return float(_precisions(wanted, given, sure, np.linspace(0, 1, FINE))[0].mean() * 100)


def agreement(reference: Sequence[Boxes], found: Sequence[Boxes]) -> float:
    """The share of the reference boxes that are found again: same class, IoU ≥ 0.5, every found box for one reference
    box, the strongest first. 1 where there is none to find."""
    again = sum(len(_pairs(first, second)) for first, second in zip(reference, found, strict=True))
    count = sum(map(len, reference))
    return again / count if count else 1.0


def likeness(first: Sequence[Boxes], second: Sequence[Boxes], score: float) -> float:
    """In [0, 1], 1 for equal boxes: the mean, over the boxes of both sides above `score`, of IoU · smaller score /
    larger score with the partner on the other side, 0 without one. Weaker boxes may be partners."""
    values: list[NDArray[np.float64]] = []
    for one, other in zip(first, second, strict=True):
        overlaps = np.where(one.classes[:, None] == other.classes, _overlaps(one.boxes, other.boxes), 0)
        ratios = one.scores[:, None] / np.maximum(other.scores, 1e-9)
        alike = overlaps * np.minimum(ratios, 1 / np.maximum(ratios, 1e-9))
        values += [_best(alike[one.scores >= score]), _best(alike.T[other.scores >= score])]
    every = np.concatenate(values) if values else np.zeros(0)
    return float(every.mean()) if len(every) else 1.0


def _precisions(
    truth: Sequence[Boxes], found: Sequence[Boxes], sure: float = 0.0, recalls: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """(10, recalls, classes) precision at IoU 0.5 … 0.95, for the classes that occur among true boxes of a score of at
    least `sure`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with quietly():
        known = COCO()
        known.dataset = _dataset(truth, sure)
        known.createIndex()
        judge = COCOeval(known, known.loadRes(_results(found)), "bbox")
        judge.params.areaRng, judge.params.areaRngLbl, judge.params.maxDets = [[0, COUNTED_AREA]], ["all"], [MOST]
        if recalls is not None:
            judge.params.recThrs = recalls
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][..., 0, 0]  # −1 for a class that does not occur
    return np.asarray(precision[:, :, precision[0, 0] > -1])


def _of_class(boxes: Boxes, kind: int) -> Boxes:
    """The boxes of one class, as if there were no other."""
    chosen = boxes.classes == kind
    return Boxes(boxes.boxes[chosen], boxes.scores[chosen], np.zeros(int(chosen.sum()), np.int64))


def _best(alike: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) → (N,) the largest of each row, 0 where M is 0."""
    return np.asarray(alike.max(axis=1, initial=0))


def _pairs(reference: Boxes, found: Boxes) -> list[tuple[int, int]]:
    """Rows of reference boxes and of the boxes that they were found again in."""
    overlaps = np.where(reference.classes[:, None] == found.classes, _overlaps(reference.boxes, found.boxes), 0)
    pairs = []
    for row in np.argsort(-reference.scores, kind="stable") if len(found) else ():
        best = int(overlaps[row].argmax())
        if overlaps[row, best] >= SAME_IOU:
            pairs.append((int(row), best))
            overlaps[:, best] = 0
    return pairs


def _overlaps(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 4), (M, 4) → (N, M) float64 intersection over union."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0, dtype=np.float64), axis=2)
    areas = [np.prod(each[:, 2:] - each[:, :2], axis=1, dtype=np.float64) for each in (first, second)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-9))


def corner_and_size(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 4) xyxy → (N, 4) float64 x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)


def _dataset(truth: Sequence[Boxes], sure: float) -> dict[str, Any]:
    """COCO's layout. Pictures, classes and annotations count from 1; an annotation 0 would match nothing. Boxes of less
    than `sure` say an area that does not count."""
    annotations: list[dict[str, Any]] = []
    for picture, one in enumerate(truth, 1):
        rows = zip(corner_and_size(one.boxes).tolist(), one.classes.tolist(), one.scores >= sure, strict=True)
        for box, kind, counts in rows:
            number = len(annotations) + 1
            about = {"id": number, "image_id": picture, "category_id": kind + 1, "iscrowd": 0}
            annotations.append({**about, "bbox": box, "area": box[2] * box[3] if counts else 2 * COUNTED_AREA})
    kinds = sorted({each["category_id"] for each in annotations})
    return {
        "info": {},
        "images": [{"id": picture} for picture in range(1, len(truth) + 1)],
        "categories": [{"id": kind} for kind in kinds],
        "annotations": annotations,
    }


def _results(found: Sequence[Boxes]) -> list[dict[str, Any]]:
    results = []
    for picture, one in enumerate(found, 1):
        for box, score, kind in zip(corner_and_size(one.boxes).tolist(), one.scores, one.classes, strict=True):
            results.append({"image_id": picture, "category_id": int(kind) + 1, "bbox": box, "score": float(score)})
    return results
