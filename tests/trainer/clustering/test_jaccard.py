"""The sparse Jaccard distance against the dense definition, worked numbers and the numbers of the released code."""

import numpy as np
import pytest

for library in ("faiss", "numba", "torch"):
    pytest.importorskip(library, reason=f"clustering needs {library} (extra `trainer`)")
DBSCAN = pytest.importorskip("sklearn.cluster", reason="the oracle needs scikit-learn (extra `trainer`)").DBSCAN

from dense_oracle import dense_jaccard, dense_rows  # noqa: E402

from trainer.clustering.dbscan import DbscanSettings, core_crops, dbscan  # noqa: E402
from trainer.clustering.jaccard import (  # noqa: E402
    JaccardSettings,
    encode,
    expand_queries,
    half_width,
    jaccard_graph,
)
from trainer.clustering.knn import nearest  # noqa: E402
from trainer.errors import ConfigurationError, DataError  # noqa: E402

EVERYTHING = 0.999999


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def angles(*degrees):
    radians = np.deg2rad(np.array(degrees, np.float64))
    return unit(np.stack([np.cos(radians), np.sin(radians)], axis=1))


def dense(graph):
    """(N, N) float32 with 1 where the graph has no pair."""
    pairs = graph.both()
    matrix = np.ones((len(graph), len(graph)), np.float32)
    rows = np.repeat(np.arange(len(graph)), np.diff(pairs.starts))
    matrix[rows, pairs.columns] = pairs.values
    np.fill_diagonal(matrix, 0)
    return matrix


def sparse(rows):
    matrix = np.zeros((len(rows), len(rows)))
    matrix[np.repeat(np.arange(len(rows)), np.diff(rows.starts)), rows.columns] = rows.values
    return matrix


def problem(seed):
    """Random crops with noise from easy to hopeless, sometimes with exact copies and crops far from everything."""
    generator = np.random.default_rng(seed)
    count, dimension = int(generator.integers(60, 420)), int(generator.integers(4, 64))
    centres = generator.standard_normal((max(2, count // int(generator.integers(4, 20))), dimension))
    noise = generator.uniform(0.2, 1.5)
    rows = centres[generator.integers(0, len(centres), count)] + noise * generator.standard_normal((count, dimension))
    if seed % 2:
        copies = generator.integers(0, count, (2, count // 5))
        rows[copies[0]] = rows[copies[1]]
    if seed % 3 == 0:
        rows[:5] = 100 * generator.standard_normal((5, dimension))
    if seed % 5 == 0:
        rows[10:50] = rows[10]  # more equal crops than k1
    k1, k2 = ((30, 6), (20, 6), (6, 3), (5, 1), (8, 2))[seed % 5]
    return unit(rows), k1, k2


@pytest.mark.parametrize("seed", range(30))
def test_distances_and_labels_are_those_of_the_dense_definition(seed):
    features, k1, k2 = problem(seed)
    neighbours = nearest(features, k1)
    graph = jaccard_graph(features, neighbours, JaccardSettings(k1=k1, k2=k2), EVERYTHING, workers=2)
    expected = dense_jaccard(features, neighbours, k1, k2)

    np.testing.assert_allclose(dense(graph), expected, atol=3e-6)
    for eps in (0.35, 0.47, 0.62):  # no value that sixths and thirds of a row can meet exactly
        labels = dbscan(graph, DbscanSettings(eps=eps, min_samples=4))
        oracle = DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit_predict(expected)
        np.testing.assert_array_equal(labels, oracle)


def test_a_shorter_reach_only_leaves_pairs_out():
    features, k1, k2 = problem(3)
    neighbours = nearest(features, k1)
    far = dense(jaccard_graph(features, neighbours, JaccardSettings(k1=k1, k2=k2), EVERYTHING))
    near = dense(jaccard_graph(features, neighbours, JaccardSettings(k1=k1, k2=k2), 0.5))
    np.testing.assert_array_equal(near, np.where(far <= np.float32(0.5), far, 1))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_threads_does_not_change_a_bit(workers):
    generator = np.random.default_rng(1)
    features = unit(generator.standard_normal((900, 8)))
    neighbours = nearest(features, 10)
    one = jaccard_graph(features, neighbours, JaccardSettings(k1=10, k2=4), 0.9, workers=1).half
    many = jaccard_graph(features, neighbours, JaccardSettings(k1=10, k2=4), 0.9, workers=workers).half
    for name in ("starts", "columns", "values"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))


def test_rows_sum_to_one_before_and_after_query_expansion():
    features, k1, _ = problem(5)
    neighbours = nearest(features, k1)
    rows = encode(features, neighbours, half=half_width(k1), scales=np.ones(len(features), np.float32))
    np.testing.assert_allclose(sparse(rows).sum(axis=1), 1, atol=1e-6)
    expanded = expand_queries(rows, neighbours, 6)
    np.testing.assert_allclose(sparse(expanded).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(sparse(expanded), dense_rows(features, neighbours, k1, 6), atol=1e-6)


def test_half_width_rounds_half_to_even():
    assert [half_width(k1) for k1 in (1, 2, 3, 4, 5, 6, 7, 20, 30)] == [1, 2, 3, 3, 3, 4, 5, 11, 16]


def test_worked_numbers_six_directions():
    """`Cluster-Contrast` base, k1 = 4, k2 = 2 and k1 = 3, k2 = 1 (computed by hand-written float64 code)."""
    features = angles(0, 8, 20, 90, 99, 110)
    matrix = dense(jaccard_graph(features, nearest(features, 4), JaccardSettings(k1=4, k2=2), EVERYTHING))
    expected = {
        (0, 1): 0,
        (0, 2): 0.093779,
        (0, 3): 0.978110,
        (0, 5): 1,
        (2, 3): 0.955101,
        (2, 5): 0.977977,
        (3, 5): 0.089935,
    }
    for pair, distance in expected.items():
        assert matrix[pair] == pytest.approx(distance, abs=2e-6)
    np.testing.assert_array_equal(matrix, matrix.T)
    graph = jaccard_graph(features, nearest(features, 4), JaccardSettings(k1=4, k2=2), 0.6)
    assert dbscan(graph, DbscanSettings(eps=0.6, min_samples=2)).tolist() == [0, 0, 0, 1, 1, 1]

    matrix = dense(jaccard_graph(features, nearest(features, 3), JaccardSettings(k1=3, k2=1), EVERYTHING))
    expected = {
        (0, 1): 0.032779,
        (0, 2): 0.081556,
        (1, 2): 0.050395,
        (3, 4): 0.035769,
        (3, 5): 0.079032,
        (4, 5): 0.044835,
    }
    for pair, distance in expected.items():
        assert matrix[pair] == pytest.approx(distance, abs=2e-6)
    assert (matrix[:3, 3:] == 1).all()


def test_worked_numbers_two_pairs():
    features = unit([(1, 0), (0.98, 0.2), (0, 1), (0.2, 0.98)])
    neighbours = nearest(features, 2)
    rows = sparse(encode(features, neighbours, half=half_width(2), scales=np.ones(4, np.float32)))
    np.testing.assert_allclose(rows[0], [0.5101, 0.4899, 0, 0], atol=5e-5)
    matrix = dense(jaccard_graph(features, neighbours, JaccardSettings(k1=2, k2=1), EVERYTHING))
    assert matrix[0, 1] == pytest.approx(0.0396, abs=5e-5)
    matrix = dense(jaccard_graph(features, neighbours, JaccardSettings(k1=2, k2=2), EVERYTHING))
    np.testing.assert_allclose(matrix, [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]], atol=5e-7)


@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (30, 6), (6, 3)])
def test_numbers_of_the_released_code(k1, k2, shared_data):
    file = shared_data.parent / "golden" / "jaccard.npz"
    if not file.is_file():
        pytest.skip(f"the released code's numbers are not at {file}")
    golden = np.load(file)
    expected = golden[f"jaccard_{k1}_{k2}"]
    graph = jaccard_graph(
        golden["features"], nearest(golden["features"], k1), JaccardSettings(k1=k1, k2=k2), EVERYTHING
    )
    np.testing.assert_allclose(dense(graph), expected, atol=2e-6)
    for tenths in (4, 5, 6):
        labels = dbscan(graph, DbscanSettings(eps=tenths / 10, min_samples=4))
        # Two crops that share whole rows can lie at exactly eps; there the last bit of one machine's softmax decided.
        tied = (np.abs(expected - tenths / 10) < 2e-6).any(axis=1)
        different = labels != golden[f"labels_{k1}_{k2}_eps{tenths}"]
        assert not different[~tied].any(), (tenths, np.flatnonzero(different & ~tied))
        assert different.sum() <= 1


@pytest.mark.parametrize("seed", range(6))
def test_crops_at_exactly_eps_are_neighbours(seed):
    """With k1 6 and k2 3 two crops often lie at exactly 0.5. By the public code's rule, d ≤ eps, they belong together;
    float32 sums that end at 0.5 + 1e-7 made outliers of them."""
    generator = np.random.default_rng(seed)
    features = unit(generator.standard_normal((60, 8))[np.arange(480) % 60] + 0.5 * generator.standard_normal((480, 8)))
    neighbours, settings = nearest(features, 6), JaccardSettings(k1=6, k2=3)
    exact = np.round(dense_jaccard(features, neighbours, 6, 3), 7)
    ties = np.argwhere(np.tril(exact == 0.5, -1))
    graph = jaccard_graph(features, neighbours, settings, 0.5)
    assert len(ties) > 20
    assert (dense(graph)[tuple(ties.T)] < 1).all()
    oracle = DBSCAN(eps=0.5, min_samples=4, metric="precomputed").fit_predict(exact)
    np.testing.assert_array_equal(dbscan(graph, DbscanSettings(eps=0.5, min_samples=4)), oracle)
    np.testing.assert_array_equal(core_crops(graph, DbscanSettings(eps=0.5)), cores_of(exact, 0.5))


def cores_of(matrix, eps, min_samples=4):
    return (matrix <= eps).sum(axis=1) >= min_samples


def test_fewer_crops_than_neighbours():
    features = unit(np.random.default_rng(0).standard_normal((7, 3)))
    neighbours = nearest(features, 30)
    assert neighbours.shape == (7, 7)
    graph = jaccard_graph(features, neighbours, JaccardSettings(), EVERYTHING)
    np.testing.assert_allclose(dense(graph), dense_jaccard(features, neighbours, 30, 6), atol=3e-6)


def test_one_crop_is_an_outlier():
    features = np.ones((1, 1), np.float32)
    graph = jaccard_graph(features, nearest(features, 30), JaccardSettings(), 0.6)
    assert dbscan(graph, DbscanSettings()).tolist() == [-1]


def test_equal_crops_have_distance_zero_and_form_one_cluster():
    features = np.tile(np.array([[0.6, 0.8]], np.float32), (50, 1))
    graph = jaccard_graph(features, nearest(features, 50), JaccardSettings(k1=50), 0.6)
    assert graph.half.values.max() < 1e-6
    assert len(graph.half.columns) == 50 * 49 // 2
    assert (dbscan(graph, DbscanSettings()) == 0).all()


def test_neighbours_that_do_not_fit_are_refused():
    features = unit(np.random.default_rng(0).standard_normal((10, 3)))
    with pytest.raises(DataError, match=r"neighbours must be \(10, k\) int32"):
        jaccard_graph(features, nearest(features, 4)[:5], JaccardSettings(), 0.6)
    with pytest.raises(DataError, match="begin with the row itself"):
        jaccard_graph(features, nearest(features, 4)[::-1].copy(), JaccardSettings(), 0.6)


def test_an_eps_beyond_the_reach_is_refused():
    features = unit(np.random.default_rng(0).standard_normal((10, 3)))
    graph = jaccard_graph(features, nearest(features, 4), JaccardSettings(k1=4), 0.5)
    with pytest.raises(ConfigurationError, match=r"eps 0.6 exceeds the reach 0.5"):
        dbscan(graph, DbscanSettings(eps=0.6))
