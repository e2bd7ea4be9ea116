"""Collapse and the area under the curve, against what can be worked out by hand."""

import numpy as np
import pytest

from trainer.adapt.gate.features import auc, auc_interval, camera_share, effective_rank


def test_effective_rank():
    assert effective_rank(np.eye(8)) == pytest.approx(8)
    assert effective_rank(np.ones((8, 5))) == pytest.approx(1)
    assert effective_rank(np.zeros((3, 3))) == 1
    two_to_one = np.diag([2.0, 1.0])
    assert effective_rank(two_to_one) == pytest.approx(np.exp(-(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))))


def test_camera_share():
    rng = np.random.default_rng(0)
    cameras = ["a", "b"] * 500
    free = rng.normal(size=(1000, 4))
    shift = np.where(np.arange(1000) % 2, 1.0, -1.0)[:, None] * np.array([1.0, 0, 0, 0])
    assert camera_share(free, cameras) < 0.01
    assert camera_share(free + 2 * shift, cameras) == pytest.approx(4 / (4 + 4), abs=0.05)
    assert camera_share(shift, cameras) == pytest.approx(1)
    assert camera_share(np.ones((10, 3)), cameras[:10]) == 1


def test_auc_counts_every_pair():
    rng = np.random.default_rng(0)
    genuine, impostor = rng.integers(0, 6, 40).astype(float), rng.integers(0, 5, 30).astype(float)
    pairs = [1.0 if g > i else 0.5 * (g == i) for g in genuine for i in impostor]
    assert auc(genuine, impostor) == pytest.approx(np.mean(pairs))
    assert auc(np.array([2.0]), np.array([1.0])) == 1


def test_the_interval_of_an_auc():
    """Hanley and McNeil's own example of the table: an area of 0.8 from 50 and 50 has a standard error of 0.0446."""
    low, high = auc_interval(0.8, 50, 50)
    assert (high - low) / 2 / 1.96 == pytest.approx(0.0446, abs=0.001)
    assert auc_interval(1.0, 50, 50) == (1.0, 1.0)
