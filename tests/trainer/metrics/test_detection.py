"""Boxes against boxes: mAP, agreement, likeness, each beside a plain loop."""

import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="mAP needs pycocotools")

from trainer.errors import DataError
from trainer.metrics.detection import Boxes, agreement, likeness, mean_average_precision, own_average_precision


def boxes(*rows: tuple[float, ...]) -> Boxes:
    """Rows of x1 y1 x2 y2 score class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Boxes(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    size = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(np.maximum(size, 0)))
    return shared / float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]) - shared)


def loop_average_precision(truth: list[Boxes], found: list[Boxes], kind: int, threshold: float) -> float:
    """COCO's definition, one detection after the other."""
    listed = [(float(s), p, row) for p, one in enumerate(found) for row, s in enumerate(one.scores)]
    listed = [each for each in listed if found[each[1]].classes[each[2]] == kind]
    taken: set[tuple[int, int]] = set()
    hits = []
    for _, picture, row in sorted(listed, key=lambda each: -each[0]):
        best, chosen = threshold, None
        for number, box in enumerate(truth[picture].boxes):
            if truth[picture].classes[number] == kind and (picture, number) not in taken:
                value = overlap(found[picture].boxes[row].astype(float), box.astype(float))
                if value >= best:
                    best, chosen = value, (picture, number)
        hits.append(chosen is not None)
        if chosen:
            taken.add(chosen)
    count = sum(int((one.classes == kind).sum()) for one in truth)
    precisions = []
    for recall in np.linspace(0, 1, 101):
        reached = [sum(hits[:n]) / n for n in range(1, len(hits) + 1) if sum(hits[:n]) / count >= recall]
        precisions.append(max(reached, default=0.0))
    return sum(precisions) / 101


def world(seed: int) -> tuple[list[Boxes], list[Boxes]]:
    """Six pictures with objects of three classes (the last never occurs), and what a clumsy detector finds."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(6):
        low = rng.uniform(0, 80, (5, 2))
        corners = np.concatenate([low, low + rng.uniform(10, 30, (5, 2))], axis=1)
        kinds = rng.integers(0, 2, 5)
        truth.append(Boxes(corners.astype(np.float32), np.ones(5, np.float32), kinds))
        shaken = np.concatenate([corners + rng.normal(0, 2, (5, 4)), corners[:2] + 40])
        guessed = np.concatenate([np.where(rng.random(5) < 0.2, 2, kinds), [0, 1]])
        found.append(Boxes(shaken.astype(np.float32), rng.random(7).astype(np.float32), guessed))
    return truth, found


@pytest.mark.parametrize("seed", range(4))
def test_mean_average_precision_is_the_plain_loop(seed):
    truth, found = world(seed)
    judged = mean_average_precision(truth, found)
    thresholds = [0.5 + 0.05 * step for step in range(10)]
    table = [[loop_average_precision(truth, found, kind, each) for kind in (0, 1)] for each in thresholds]
    assert judged.mAP == pytest.approx(100 * np.mean(table), abs=1e-6)
    assert judged.mAP50 == pytest.approx(100 * np.mean(table[0]), abs=1e-6)


def test_what_is_right_has_all_and_what_is_empty_none():
    truth, _ = world(0)
    assert mean_average_precision(truth, truth).mAP == pytest.approx(100)
    assert mean_average_precision(truth, [boxes()] * 6).mAP == 0
    with pytest.raises(DataError, match="no picture has an object"):
        mean_average_precision([boxes()], truth[:1])


def loop_own_average_precision(own: list[Boxes], found: list[Boxes], sure: float) -> float:
    """All classes in one list, the strongest box first. What is unsure catches boxes and counts for nothing."""
    listed = [(float(s), p, row) for p, one in enumerate(found) for row, s in enumerate(one.scores)]
    taken: set[tuple[int, int]] = set()
    hits = []
    for _, picture, row in sorted(listed, key=lambda each: -each[0]):
        mine, box = own[picture], found[picture].boxes[row].astype(float)
        free = [n for n in range(len(mine)) if mine.classes[n] == found[picture].classes[row]]
        free = [n for n in free if (picture, n) not in taken and overlap(box, mine.boxes[n].astype(float)) >= 0.5]
        if not free:
            hits.append(False)
            continue
        best = max(free, key=lambda n: (mine.scores[n] >= sure, overlap(box, mine.boxes[n].astype(float))))
        taken.add((picture, best))
        if mine.scores[best] >= sure:
            hits.append(True)
    count = sum(len(one.above(sure)) for one in own)
    right = np.cumsum(hits)
    precisions = right / np.arange(1, len(hits) + 1)
    return float(np.mean([precisions[right / count >= each].max(initial=0) for each in np.linspace(0, 1, 1001)]))


@pytest.mark.parametrize("seed", range(4))
def test_own_average_precision_is_the_plain_loop(seed):
    truth, found = world(seed)
    rng = np.random.default_rng(seed)
    own = [Boxes(one.boxes, rng.random(len(one)).astype(np.float32), one.classes) for one in truth]
    judged = own_average_precision(own, found, 0.4)
    assert judged == pytest.approx(100 * loop_own_average_precision(own, found, 0.4), abs=1e-6)
    assert 0 < judged < 100
    assert own_average_precision(own, own, 0.4) == pytest.approx(100)


def test_a_class_that_is_seen_once_weighs_as_one_box():
    many = [(20.0 * n, 0, 20.0 * n + 10, 10, 0.9, 0) for n in range(49)]
    own = [boxes(*many, (0, 50, 10, 60, 0.9, 7))]
    found = [boxes(*many)]
    assert mean_average_precision(own, found).mAP50 == pytest.approx(50)
    assert own_average_precision(own, found, 0.3) == pytest.approx(98, abs=0.1)


def test_a_box_that_nobody_is_sure_of_is_neither_asked_for_nor_wrong():
    own = [boxes((0, 0, 10, 10, 0.9, 1), (50, 50, 60, 60, 0.2, 1))]
    strong, strange = (50, 50, 60, 60, 0.95, 1), (80, 80, 90, 90, 0.95, 1)
    assert own_average_precision(own, [boxes((0, 0, 10, 10, 0.9, 1))], 0.3) == pytest.approx(100)
    assert own_average_precision(own, [boxes((0, 0, 10, 10, 0.9, 1), strong)], 0.3) == pytest.approx(100)
    assert own_average_precision(own, [boxes((0, 0, 10, 10, 0.9, 1), strange)], 0.3) == pytest.approx(50)
    assert own_average_precision(own, [boxes()], 0.3) == 0
    with pytest.raises(DataError, match=r"no picture has a box of a score of 0\.95"):
        own_average_precision(own, own, 0.95)


def test_agreement_counts_every_found_box_once():
    reference = [boxes((0, 0, 10, 10, 0.9, 1), (0, 0, 10, 11, 0.8, 1), (50, 50, 60, 60, 0.7, 1))]
    assert agreement(reference, reference) == 1
    assert agreement(reference, [boxes((0, 0, 10, 10, 0.2, 1))]) == pytest.approx(1 / 3)
    assert agreement(reference, [boxes((0, 0, 10, 10, 0.9, 0))]) == 0  # another class
    assert agreement(reference, [boxes((0, 0, 10, 4, 0.9, 1))]) == 0  # hardly overlaps
    assert agreement(reference, [boxes()]) == 0
    assert agreement([boxes()], reference) == 1


def test_likeness_sees_boxes_scores_and_strangers():
    one = [boxes((0, 0, 10, 10, 0.8, 1))]
    assert likeness(one, one, 0.3) == pytest.approx(1)
    assert likeness(one, [boxes((0, 0, 10, 10, 0.4, 1))], 0.3) == pytest.approx(0.5)
    assert likeness(one, [boxes((0, 0, 10, 10, 0.2, 1))], 0.3) == pytest.approx(0.25)  # weak, but a partner
    assert likeness(one, [boxes((0, 0, 10, 5, 0.8, 1))], 0.3) == pytest.approx(0.5)
    assert likeness(one, [boxes((0, 0, 10, 10, 0.8, 1), (50, 50, 60, 60, 0.8, 1))], 0.3) == pytest.approx(2 / 3)
    assert likeness(one, [boxes()], 0.3) == 0
    assert likeness([boxes()], [boxes()], 0.3) == 1


def test_weak_boxes_are_left_out():
    assert len(boxes((0, 0, 1, 1, 0.3, 0), (0, 0, 1, 1, 0.2, 0)).above(0.25)) == 1
