"""Pictures that nobody took: always the same, and as different from each other as crops are."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="they are drawn with OpenCV")

from trainer.export import drawn


@pytest.mark.parametrize("size", [(256, 128), (64, 32), (8, 300)])
def test_they_are_the_same_for_ever_and_all_different(size):
    found = drawn.pictures(8, *size)
    assert found.shape == (8, *size, 3)
    assert found.dtype == np.uint8
    assert np.array_equal(found, drawn.pictures(8, *size))
    assert np.array_equal(found[:3], drawn.pictures(3, *size))
    for one, other in combinations(found.astype(np.float64), 2):
        assert np.abs(one - other).mean() > 10
    assert (found.reshape(8, -1).std(1) > 15).all(), "areas and edges, not one colour"
