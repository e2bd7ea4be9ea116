"""DBSCAN on half a sparse matrix against scikit-learn on the whole dense one."""

import numpy as np
import pytest

for library in ("faiss", "numba", "torch"):
    pytest.importorskip(library, reason=f"clustering needs {library} (extra `trainer`)")
DBSCAN = pytest.importorskip("sklearn.cluster", reason="the oracle needs scikit-learn (extra `trainer`)").DBSCAN

from trainer.clustering.dbscan import DbscanSettings, core_crops, dbscan  # noqa: E402
from trainer.clustering.jaccard import Graph, Rows  # noqa: E402


def graph_of(matrix, reach=0.95):
    """The half graph of a symmetric distance matrix."""
    kept = np.tril(matrix <= np.float32(reach), -1)
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64)
    return Graph(Rows(starts, np.nonzero(kept)[1].astype(np.int32), matrix[kept].astype(np.float32)), reach)


@pytest.mark.parametrize("seed", range(40))
def test_labels_are_those_of_scikit_learn(seed):
    """Sparse graphs near the threshold: many border crops between clusters, and ties with eps."""
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 120))
    matrix = generator.choice(np.linspace(0, 1, 9), (count, count), p=[0.02] * 4 + [0.92 / 5] * 5).astype(np.float32)
    matrix = np.minimum(matrix, matrix.T)
    np.fill_diagonal(matrix, 0)
    for min_samples in (1, 2, 3, 4, 8):
        expected = DBSCAN(eps=0.375, min_samples=min_samples, metric="precomputed").fit(matrix)
        density = DbscanSettings(eps=0.375, min_samples=min_samples)
        np.testing.assert_array_equal(dbscan(graph_of(matrix), density), expected.labels_)
        cores = np.flatnonzero(core_crops(graph_of(matrix), density))
        np.testing.assert_array_equal(cores, expected.core_sample_indices_)


def test_the_crop_itself_counts_and_eps_is_inclusive():
    matrix = np.full((4, 4), 0.9, np.float32)
    matrix[:3, :3] = 0.1
    np.fill_diagonal(matrix, 0)
    assert dbscan(graph_of(matrix), DbscanSettings(eps=0.5, min_samples=4)).tolist() == [-1] * 4
    assert dbscan(graph_of(matrix), DbscanSettings(eps=0.5, min_samples=3)).tolist() == [0, 0, 0, -1]
    pair = np.array([[0, 0.5], [0.5, 0]], np.float32)
    assert dbscan(graph_of(pair), DbscanSettings(eps=0.5, min_samples=2)).tolist() == [0, 0]


def test_a_border_crop_joins_the_lowest_cluster():
    matrix = np.ones((9, 9), np.float32)
    matrix[:4, :4], matrix[4:8, 4:8] = 0.1, 0.1
    matrix[8, 2] = matrix[2, 8] = matrix[8, 5] = matrix[5, 8] = 0.3
    np.fill_diagonal(matrix, 0)
    labels = dbscan(graph_of(matrix), DbscanSettings(eps=0.3, min_samples=4))
    np.testing.assert_array_equal(labels, DBSCAN(eps=0.3, min_samples=4, metric="precomputed").fit_predict(matrix))
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0]
