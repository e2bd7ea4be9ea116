"""Sparse k-reciprocal re-ranking against the dense algorithm of the paper's code."""

import numpy as np
import pytest

for library in ("faiss", "numba", "torch"):
    pytest.importorskip(library, reason=f"re-ranking needs {library} (extra `trainer`)")

from trainer.errors import DataError  # noqa: E402
from trainer.metrics.rerank import RerankSettings, reranked_distances  # noqa: E402


def dense_reranked(query, gallery, k1, k2, weight):
    """Float64 matrices, straight from the paper's definitions."""
    features = np.concatenate([query, gallery]).astype(np.float64)
    plain = 2 - 2 * features @ features.T
    plain /= plain.max(axis=1, keepdims=True)
    rank = np.argsort(plain, axis=1)
    count = len(features)
    full, half = np.zeros((2, count, count), bool)
    np.put_along_axis(full, rank[:, : k1 + 1], True, axis=1)
    np.put_along_axis(half, rank[:, : int(np.around(k1 / 2)) + 1], True, axis=1)
    full, half = full & full.T, half & half.T
    rows = np.zeros((count, count))
    for i in range(count):
        members = full[i].copy()
        for j in np.flatnonzero(full[i]):
            if (half[j] & full[i]).sum() > 2 / 3 * half[j].sum():
                members |= half[j]
        rows[i] = np.where(members, np.exp(-plain[i]), 0)
        rows[i] /= rows[i].sum()
    rows = rows[rank[:, :k2]].mean(axis=1)
    shared = np.stack([np.minimum(row, rows).sum(axis=1) for row in rows[: len(query)]])
    jaccard = 1 - shared / (2 - shared)
    return ((1 - weight) * jaccard + weight * plain[: len(query)])[:, len(query) :]


def crops(count, seed, people=12):
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((people, 16))
    rows = centres[generator.integers(0, people, count)] + 0.8 * generator.standard_normal((count, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (5, 1, 0.0), (8, 3, 1.0)])
def test_distances_are_those_of_the_dense_algorithm(k1, k2, weight):
    query, gallery = crops(40, 1), crops(150, 2)
    settings = RerankSettings(k1=k1, k2=k2, weight_of_distance=weight)
    blocks = list(reranked_distances(query, gallery, settings, block=16))
    assert [len(block) for block in blocks] == [16, 16, 8]
    np.testing.assert_allclose(np.concatenate(blocks), dense_reranked(query, gallery, k1, k2, weight), atol=1e-5)


def test_equal_crops_everywhere_are_at_distance_zero():
    same = np.tile(np.array([[1, 0]], np.float32), (5, 1))
    distances = np.concatenate(list(reranked_distances(same[:2], same)))
    np.testing.assert_allclose(distances, 0, atol=1e-6)


def test_features_of_two_models_are_refused():
    with pytest.raises(DataError, match="of one model"):
        list(reranked_distances(crops(3, 0), crops(3, 0)[:, :4]))
