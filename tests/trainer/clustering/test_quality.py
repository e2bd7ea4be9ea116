"""Label-free quality against plain loops and scikit-learn."""

import numpy as np
import pytest

for library in ("faiss", "numba", "torch"):
    pytest.importorskip(library, reason=f"clustering needs {library} (extra `trainer`)")
metrics = pytest.importorskip("sklearn.metrics", reason="the oracle needs scikit-learn (extra `trainer`)")

from trainer.clustering import recluster  # noqa: E402
from trainer.clustering.jaccard import Graph, Rows  # noqa: E402
from trainer.clustering.knn import nearest  # noqa: E402
from trainer.clustering.quality import (  # noqa: E402
    adjusted_rand,
    choose_eps,
    measure,
    silhouettes,
    track_consistency,
)
from trainer.clustering.recluster import ClusterSettings, cluster  # noqa: E402


def graph_of(matrix, reach=0.95):
    kept = np.tril(matrix <= np.float32(reach), -1)
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64)
    return Graph(Rows(starts, np.nonzero(kept)[1].astype(np.int32), matrix[kept].astype(np.float32)), reach)


def random_matrix(seed, count=60):
    generator = np.random.default_rng(seed)
    matrix = generator.uniform(0, 1.3, (count, count)).clip(0, 1).astype(np.float32)
    matrix = np.minimum(matrix, matrix.T)
    np.fill_diagonal(matrix, 0)
    return matrix


def blobs(identities, per_identity, noise, dimension=32, seed=0):
    generator = np.random.default_rng(seed)
    truth = np.repeat(np.arange(identities), per_identity)
    rows = generator.standard_normal((identities, dimension))[truth]
    rows = rows + noise * generator.standard_normal(rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), truth


@pytest.mark.parametrize("seed", range(8))
def test_silhouettes_are_those_of_scikit_learn(seed):
    matrix, reach = random_matrix(seed), 0.7
    labels = np.random.default_rng(seed).integers(0, 5, len(matrix))
    truncated = np.where(matrix <= np.float32(reach), matrix, 1)
    expected = metrics.silhouette_samples(truncated, labels, metric="precomputed")
    np.testing.assert_allclose(silhouettes(labels, graph_of(matrix, reach).both()), expected, atol=1e-5)


def test_outliers_and_single_crops_have_silhouette_zero():
    matrix = random_matrix(0)
    labels = np.random.default_rng(0).integers(-1, 4, len(matrix))
    labels[labels == 3] = -1
    labels[7] = 3
    found = silhouettes(labels, graph_of(matrix).both())
    assert (found[labels < 0] == 0).all()
    assert found[7] == 0
    assert (found[labels == 0] != 0).any()


@pytest.mark.parametrize("seed", range(8))
def test_adjusted_rand_is_that_of_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 6, (2, 80))
    assert adjusted_rand(first, second) == pytest.approx(metrics.adjusted_rand_score(first, second))


def test_adjusted_rand_takes_outliers_one_by_one():
    first, second = np.array([0, 0, 1, 1, -1, -1]), np.array([0, 0, 1, 1, 2, 2])
    assert adjusted_rand(first, second) == pytest.approx(metrics.adjusted_rand_score([0, 0, 1, 1, 2, 3], second))
    assert adjusted_rand(first, first) == 1
    everything_out = np.full(5, -1)
    assert adjusted_rand(everything_out, everything_out) == 1


def test_facts_about_a_small_clustering():
    labels = np.array([0, 0, 0, 0, 1, 1, -1, -1])
    cameras = np.array([0, 1, 1, 2, 3, 3, 0, -1])
    quality = measure(labels, graph_of(random_matrix(0, 8)).both(), cameras)
    assert (quality.crops, quality.clusters, quality.outlier_share) == (8, 2, 0.25)
    assert (quality.size_median, quality.size_max) == (3, 4)
    assert (quality.cameras_per_cluster, quality.one_camera_share) == (2, 0.5)
    assert measure(labels, graph_of(random_matrix(0, 8)).both()).cameras_per_cluster is None


def test_everything_an_outlier_is_a_report_not_a_crash():
    labels = np.full(8, -1)
    quality = measure(labels, graph_of(random_matrix(0, 8)).both(), np.zeros(8, np.int64))
    assert (quality.clusters, quality.outlier_share, quality.silhouette, quality.size_max) == (0, 1, 0, 0)


def test_eps_is_chosen_near_the_best_one():
    features, truth = blobs(150, 12, noise=0.55)
    candidates = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    result = cluster(features, ClusterSettings(eps_candidates=candidates))
    scores = [
        adjusted_rand(cluster(features, ClusterSettings(dbscan={"eps": eps})).labels, truth) for eps in candidates
    ]
    assert adjusted_rand(result.labels, truth) >= max(scores) - 0.02
    assert [trial.eps for trial in result.trials] == list(candidates)
    assert all(-1 <= trial.stability <= 1 for trial in result.trials)


def test_one_candidate_is_simply_taken():
    choice = choose_eps(graph_of(random_matrix(2)), (0.4,), 4)
    assert choice.eps == 0.4
    assert choice.trials[0].stability == 1


def test_candidates_outside_the_unit_interval_are_named():
    with pytest.raises(ValueError, match="eps_candidates must lie between 0 and 1"):
        ClusterSettings(eps_candidates=(0.5, 1.0))


def test_tracks_tell_of_split_and_impossible_clusters():
    #                 track 0 split  | tracks 1, 2 of camera 0 at once in cluster 2 | 3, 4 after one another
    tracks = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, -1])
    labels = np.array([0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4])
    cameras = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0])
    times = np.array([0, 1, 0, 9, 5, 12, 0, 1, 2, 3, 0.0])
    facts = track_consistency(labels, cameras, times, tracks)
    assert facts.split_tracks == pytest.approx(1 / 5)
    assert facts.impossible_clusters == pytest.approx(1 / 4)
    other_camera = cameras.copy()
    other_camera[4:6] = 5
    assert track_consistency(labels, other_camera, times, tracks).impossible_clusters == 0
    assert track_consistency(labels, np.full(11, -1), times, tracks).split_tracks == 0


def test_a_choice_at_the_lower_end_widens_the_range_where_that_is_clearly_better():
    features, truth = blobs(150, 12, noise=0.45)
    narrow = cluster(features, ClusterSettings(eps_candidates=(0.7, 0.75)))
    assert narrow.eps < 0.7
    assert min(trial.eps for trial in narrow.trials) <= narrow.eps  # one more was tried, if there was room
    fixed = cluster(features, ClusterSettings(dbscan={"eps": 0.7}))
    assert adjusted_rand(narrow.labels, truth) >= adjusted_rand(fixed.labels, truth)


def test_a_choice_at_the_upper_end_widens_the_range(monkeypatch):
    """And does not search for the neighbours again, which is most of the work of many crops."""
    searched = []
    monkeypatch.setattr(recluster, "nearest", lambda *given: searched.append(given) or nearest(*given))
    features, _ = blobs(150, 12, noise=0.9)
    found = cluster(features, ClusterSettings(eps_candidates=(0.1, 0.15)))
    assert len(searched) == 1
    assert found.eps > 0.15
    assert max(trial.eps for trial in found.trials) > 0.15
