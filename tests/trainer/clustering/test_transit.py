"""What time says about pairs: counted as plain loops count, harmless without information, helpful with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("faiss", reason="clustering needs faiss")
pytest.importorskip("numba", reason="clustering needs numba")

from trainer.clustering.dbscan import DbscanSettings
from trainer.clustering.jaccard import Graph, JaccardSettings, Rows, jaccard_graph
from trainer.clustering.knn import nearest
from trainer.clustering.quality import adjusted_rand
from trainer.clustering.recluster import ClusterSettings, cluster
from trainer.clustering.transit import BINS, EDGES_S, SHRINKAGE, Transits, by_time, reach_before, transits_of

UNKNOWN = np.nan


def loop_ratios(labels, cameras, times_s):
    """r_ab(Δ) pair by pair."""
    names = sorted({int(camera) for camera in cameras if camera >= 0})
    same, chance = np.zeros((len(names), len(names), BINS)), np.zeros((len(names), len(names), BINS))
    for i in range(len(labels)):
        for j in range(len(labels)):
            if i == j or cameras[i] < 0 or cameras[j] < 0 or np.isnan(times_s[i]) or np.isnan(times_s[j]):
                continue
            place = names.index(cameras[i]), names.index(cameras[j]), sum(times_s[j] - times_s[i] >= EDGES_S)
            chance[place] += 1
            same[place] += labels[i] == labels[j] >= 0
    ratios = np.ones_like(chance)
    for a in range(len(names)):
        for b in range(len(names)):
            for k in range(BINS):
                if chance[a, b, k]:
                    expected = chance[a, b, k] / chance[a, b].sum()
                    found = (same[a, b, k] + SHRINKAGE * expected) / (same[a, b].sum() + SHRINKAGE)
                    ratios[a, b, k] = found / expected
    return ratios


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([10.0, 3_000.0, 100_000.0]))
def test_waits_are_counted_as_pair_by_pair(seed: int, span_s: float) -> None:
    generator = np.random.default_rng(seed)
    labels, cameras = generator.integers(-1, 5, 40), generator.integers(-1, 3, 40) * 2
    times_s = 1.7e9 + np.round(generator.uniform(0, span_s, 40), 1)
    times_s[generator.random(40) < 0.1] = UNKNOWN
    found = transits_of(labels, np.maximum(cameras, -1), times_s)
    np.testing.assert_allclose(found.ratios, loop_ratios(labels, np.maximum(cameras, -1), times_s), rtol=1e-6)


def test_a_wait_that_is_usual_counts_and_one_never_seen_counts_against() -> None:
    generator = np.random.default_rng(0)
    leave_s = generator.uniform(0, 20_000, 200)
    labels, cameras = np.tile(np.arange(200), 2), np.repeat([0, 1], 200)
    times_s = np.concatenate([leave_s, leave_s + generator.uniform(60, 90, 200)])
    transits = transits_of(labels, cameras, times_s)
    one_way = [np.searchsorted(EDGES_S, wait, side="right") for wait in (75.0, -75.0, 5_000.0)]
    usual, backwards, late = transits.ratios[0, 1, one_way]
    assert usual > 10
    assert max(backwards, late) < 0.5
    assert transits.ratios[1, 0, np.searchsorted(EDGES_S, -75.0, side="right")] == pytest.approx(usual, rel=0.2)


def test_unknown_cameras_and_times_say_nothing() -> None:
    ratios = np.full((1, 1, BINS), 9.0)
    transits = Transits(ratios, np.zeros(1, np.int64), np.array([0, 0, -1, 0]), np.array([1.0, 2.0, 3.0, UNKNOWN]))
    first, second = np.array([0, 0, 0, 2]), np.array([1, 2, 3, 3])
    assert transits.weigh(first, second).tolist() == [9, 1, 1, 1]


def test_similarities_move_by_the_formula_and_far_pairs_leave() -> None:
    ratios = np.ones((1, 1, BINS))
    ratios[0, 0, BINS // 2] = 4.0  # waits below a second
    ratios[0, 0, 0] = ratios[0, 0, -1] = 0.0
    transits = Transits(ratios, np.zeros(1, np.int64), np.zeros(4, np.int64), np.array([0.0, 0.5, 50.0, 1e6]))
    half = Rows(np.array([0, 0, 1, 3, 4]), np.array([0, 0, 1, 2], np.int32), np.array([0.7, 0.4, 0.9, 0.1], np.float32))
    moved = by_time(Graph(half, 0.95), transits, 0.6)
    assert moved.reach == 0.6
    assert moved.half.starts.tolist() == [0, 0, 1, 2, 2]  # 0.9 stays and is too far, the similarity at a million goes
    np.testing.assert_allclose(moved.half.values, [1 - 0.3 * 4 / 3, 0.4], rtol=1e-6)
    assert reach_before(0.6) == pytest.approx(0.8)  # a similarity of 0.2 doubled is one of 0.4


def site(seed: int, informative: bool):
    """Forty identities, each one passage at two cameras, five crops each, poor features, a way of about a minute."""
    generator = np.random.default_rng(seed)
    identities, cameras = np.repeat(np.arange(40), 10), np.tile(np.repeat([0, 1], 5), 40)
    means = generator.standard_normal((40, 12))
    features = (means[identities] + 0.85 * generator.standard_normal((400, 12))).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    times_s = generator.uniform(0, 40_000, 40)[identities] + 60 * cameras + generator.uniform(0, 4, 400)
    return features, cameras, times_s if informative else generator.permutation(times_s), identities


@pytest.mark.parametrize("informative", [True, False])
def test_times_help_where_they_mean_something_and_never_harm(informative: bool) -> None:
    gains = []
    for seed in range(4):
        features, cameras, times_s, identities = site(seed, informative)
        chosen = ClusterSettings(jaccard=JaccardSettings(k1=12, k2=3), eps_candidates=(0.3, 0.4, 0.5, 0.6))
        plain, timed = (cluster(features, chosen, cameras, None, times) for times in (None, times_s))
        gains.append(adjusted_rand(timed.labels, identities) - adjusted_rand(plain.labels, identities))
    assert np.mean(gains) > 0.1 if informative else np.mean(gains) > -0.05


def test_one_graph_serves_both_clusterings() -> None:
    """The pairs that time brings within reach are those that a clustering of the far graph would have had."""
    features, cameras, times_s, _ = site(0, True)
    chosen = ClusterSettings(jaccard=JaccardSettings(k1=12, k2=3), dbscan=DbscanSettings(eps=0.5))
    found = cluster(features, chosen, cameras, None, times_s)
    whole = jaccard_graph(features, nearest(features, 12), chosen.jaccard, 0.999)
    near = jaccard_graph(features, nearest(features, 12), chosen.jaccard, reach_before(0.5))
    first = cluster(features, chosen, cameras).labels
    again = by_time(whole, transits_of(first, cameras, times_s), 0.5)
    assert len(near.half.columns) < len(whole.half.columns)
    assert np.array_equal(again.half.columns, found.graph.half.columns)
    np.testing.assert_array_equal(again.half.values, found.graph.half.values)
