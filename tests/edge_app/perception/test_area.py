from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_app.perception.area import inside, within
from edge_app.types import Detections, Frame

LOWER_HALF = ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0))
FRAME = Frame("a", 0.0, None, 100, 200)
share = st.floats(0, 1).map(lambda value: round(value, 4))


def found(*boxes: tuple[float, float, float, float]) -> Detections:
    count = len(boxes)
    return Detections(np.array(boxes, np.float32), np.ones(count, np.float32), np.zeros(count, np.int64))


def contains(polygon: tuple[tuple[float, float], ...], point: tuple[float, float]) -> bool:
    """An odd number of edges to the point's right, one after the other."""
    x, y = point
    odd = False
    for (x1, y1), (x2, y2) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            odd = not odd
    return odd


def test_what_stands_in_the_area_is_kept() -> None:
    kept = within(LOWER_HALF, FRAME, found((10, 10, 20, 90), (10, 10, 20, 110), (90, 150, 100, 200)))
    assert kept.boxes[:, 3].tolist() == [110, 200]


def test_nothing_stays_nothing() -> None:
    assert len(within(LOWER_HALF, FRAME, Detections.empty())) == 0


def test_a_dented_area() -> None:
    arrow = np.array([(0.0, 0.0), (0.5, 0.2), (1.0, 0.0), (0.5, 1.0)])  # dented at the top
    assert inside(arrow, np.array([(0.5, 0.5), (0.5, 0.1), (0.1, 0.9)])).tolist() == [True, False, False]


@given(st.lists(st.tuples(share, share), min_size=3, max_size=6), st.lists(st.tuples(share, share), min_size=1))
def test_many_points_at_once_as_one_by_one(
    corners: list[tuple[float, float]], points: list[tuple[float, float]]
) -> None:
    assert inside(np.array(corners), np.array(points)).tolist() == [contains(tuple(corners), p) for p in points]
