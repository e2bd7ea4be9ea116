"""Heads: recognised from shapes, decoded as a plain loop does."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_app.contract.errors import HeadError
from edge_app.contract.heads import DECODERS, grid, recognise
from edge_app.contract.preprocess import InputSpec

SPEC = InputSpec(width_px=64, height_px=96)
ANCHORS = 8 * 12 + 4 * 6 + 2 * 3  # strides 8, 16, 32
THRESHOLD = 0.3


def loop_end2end(output, threshold):
    return [(*row[:4], row[4], int(row[5])) for row in output if row[4] >= threshold]


def loop_raw(output, threshold):
    found = []
    for anchor in range(output.shape[1]):
        x, y, width, height = output[:4, anchor]
        scores = output[4:, anchor]
        best = max(range(len(scores)), key=lambda index: (scores[index], -index))
        if scores[best] >= threshold:
            found.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2, scores[best], best))
    return found


def loop_yolox(output, threshold, decoded):
    found, row = [], 0
    for stride in (8, 16, 32):
        for cell_y in range(SPEC.height_px // stride):
            for cell_x in range(SPEC.width_px // stride):
                x, y, width, height, objectness, *classes = (float(value) for value in output[row])
                row += 1
                if not decoded:
                    x, y = (x + cell_x) * stride, (y + cell_y) * stride
                    width, height = math.exp(width) * stride, math.exp(height) * stride
                best = max(range(len(classes)), key=lambda index: (classes[index], -index))
                score = objectness * classes[best]
                if score >= threshold:
                    found.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2, score, best))
    return found


LOOPS = {
    "ultralytics-end2end": loop_end2end,
    "ultralytics-raw": loop_raw,
    "yolox": lambda output, threshold: loop_yolox(output, threshold, decoded=False),
    "yolox-decoded": lambda output, threshold: loop_yolox(output, threshold, decoded=True),
}


def random_output(head: str, rng: np.random.Generator, classes: int) -> np.ndarray:
    if head == "ultralytics-end2end":
        rows = rng.uniform(0, 60, (20, 6))
        rows[:, 4], rows[:, 5] = rng.random(20), rng.integers(0, classes, 20)
        return rows.astype(np.float32)
    if head == "ultralytics-raw":
        return np.concatenate([rng.uniform(1, 60, (4, ANCHORS)), rng.random((classes, ANCHORS))]).astype(np.float32)
    rows = rng.random((ANCHORS, 5 + classes))
    rows[:, :4] = rng.normal(size=(ANCHORS, 4)) if head == "yolox" else rng.uniform(1, 60, (ANCHORS, 4))
    return rows.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(LOOPS)), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_every_decoder_is_its_plain_loop(head: str, classes: int, seed: int) -> None:
    output = random_output(head, np.random.default_rng(seed), classes)
    found = DECODERS[head](output, THRESHOLD, SPEC)
    expected = LOOPS[head](output, THRESHOLD)
    rows = np.concatenate([found.boxes, found.scores[:, None], found.classes[:, None]], axis=1)
    np.testing.assert_allclose(rows, np.array(expected, np.float32).reshape(-1, 6), rtol=1e-4, atol=1e-3)
    assert (found.boxes.dtype, found.scores.dtype, found.classes.dtype) == (np.float32, np.float32, np.int64)


@pytest.mark.parametrize("head", sorted(LOOPS))
def test_nothing_above_the_threshold_is_empty(head: str) -> None:
    output = random_output(head, np.random.default_rng(0), 3)
    assert DECODERS[head](output, 1.1, SPEC).boxes.shape == (0, 4)


def test_grid_is_the_order_of_yolo_outputs() -> None:
    cells, strides = grid(64, 96, (8, 16, 32))
    assert len(cells) == ANCHORS
    np.testing.assert_array_equal(cells[:9], [[x, 0] for x in range(8)] + [[0, 1]])
    np.testing.assert_array_equal(np.unique(strides, return_counts=True)[1], [96, 24, 6])


@pytest.mark.parametrize(
    ("shape", "classes", "named", "expected"),
    [
        ((1, 300, 6), None, None, ("ultralytics-end2end", None)),
        ((1, 300, 6), 4, None, ("ultralytics-end2end", None)),
        ((1, 7, ANCHORS), None, None, ("ultralytics-raw", 3)),
        ((1, 84, ANCHORS), 80, None, ("ultralytics-raw", 80)),
        ((1, ANCHORS, 85), None, None, ("yolox", 80)),
        ((1, ANCHORS, 85), None, "yolox-decoded", ("yolox-decoded", 80)),
        ((1, ANCHORS, 6), 1, "yolox", ("yolox", 1)),
        ((1, ANCHORS, 6), 2, None, ("ultralytics-end2end", None)),
    ],
)
def test_recognised(shape, classes, named, expected) -> None:
    assert recognise(shape, SPEC, classes, named) == expected


@pytest.mark.parametrize(
    ("shape", "classes", "named", "said"),
    [
        ((1, ANCHORS, 6), None, None, "ultralytics-end2end, yolox"),  # one class, or as many rows as anchors
        ((1, 10, 20), None, None, "could be: none"),
        ((1, 512), None, None, "could be: none"),
        ((1, 84, ANCHORS), 3, None, "with 3 classes"),
        ((1, 300, 6), None, "yolox", "does not fit the head 'yolox'"),
    ],
)
def test_ambiguous_or_foreign_shapes_are_refused(shape, classes, named, said) -> None:
    with pytest.raises(HeadError, match=said):
        recognise(shape, SPEC, classes, named)
