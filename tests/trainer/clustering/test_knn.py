"""Nearest neighbours against a sorted matrix product."""

import numpy as np
import pytest

pytest.importorskip("faiss", reason="clustering needs faiss (extra `trainer`)")

from trainer.clustering import search
from trainer.clustering.knn import NeighbourSettings, nearest
from trainer.errors import DataError


def unit(count, dimension, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_order_is_that_of_the_similarity(monkeypatch):
    monkeypatch.setattr(search, "QUERY_BLOCK", 64)  # several blocks, the last one short
    features = unit(300, 16)
    expected = np.argsort(-(features.astype(np.float64) @ features.T.astype(np.float64)), axis=1)[:, :12]
    found = nearest(features, 12)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("search", ["exact", "inverted_lists"])
def test_a_crop_is_its_own_first_neighbour_among_many_equal_ones(search):
    features = np.concatenate([np.repeat(unit(3, 4), 20, axis=0), unit(2000, 4, seed=1)])
    found = nearest(features, 5, NeighbourSettings(search=search))
    np.testing.assert_array_equal(found[:, 0], np.arange(2060))
    assert all(len(set(row)) == 5 for row in found.tolist())
    for group in range(3):  # the others are equal crops too
        assert set((found[20 * group : 20 * (group + 1)] // 20).ravel()) == {group}


def test_inverted_lists_reach_the_recall_they_promise():
    features = unit(3000, 8)
    exact, near = nearest(features, 10), nearest(features, 10, NeighbourSettings(search="inverted_lists"))
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), near.tolist(), strict=True)])
    assert recall > 0.97


def test_inverted_lists_refuse_where_they_would_guess():
    features = unit(4000, 128)  # no structure: neighbours lie in any cell
    with pytest.raises(DataError, match=r"finds .* of the true neighbours .* use `search: exact`"):
        nearest(features, 20, NeighbourSettings(search="inverted_lists", minimum_recall=0.999))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((0, 4), np.float32), "were any crops read"),
        (np.zeros(4, np.float32), "shape"),
        (np.full((3, 2), np.nan, np.float32), "3 of 3 feature rows are not of unit length"),
        (np.array([[1, 0], [3, 4]], np.float32), r"1 of 2 feature rows .*row 1 has length 5"),
    ],
)
def test_broken_features_are_refused(features, message):
    with pytest.raises(DataError, match=message):
        nearest(features, 3)
