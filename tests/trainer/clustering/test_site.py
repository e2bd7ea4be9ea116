"""What a site knows beside pictures: tracks and time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("faiss", reason="clustering needs faiss")
pytest.importorskip("numba", reason="clustering needs numba")

from trainer.clustering.jaccard import JaccardSettings, jaccard_graph
from trainer.clustering.knn import nearest
from trainer.clustering.recluster import ClusterSettings, cluster
from trainer.clustering.site import kept_apart, spans_of, track_pulled

UNKNOWN = np.nan


def unit_rows(count: int, dimension: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.25, 0.5, 1.0]))
def test_crops_of_a_track_are_pulled_to_its_mean(seed: int, weight: float) -> None:
    rows = unit_rows(30, 8, seed)
    tracklets = np.random.default_rng(seed).integers(-1, 6, 30)
    pulled = track_pulled(rows, tracklets, weight)
    for number in range(30):
        expected = rows[number]
        if tracklets[number] >= 0:
            expected = (1 - weight) * rows[number] + weight * rows[tracklets == tracklets[number]].mean(0)
            expected /= np.linalg.norm(expected)
        np.testing.assert_allclose(pulled[number], expected, atol=1e-5)


def test_without_tracks_or_weight_nothing_moves() -> None:
    rows = unit_rows(10, 4, 0)
    assert track_pulled(rows, np.full(10, -1), 0.5) is rows
    assert track_pulled(rows, np.zeros(10, np.int64), 0.0) is rows


def test_tracks_are_seen_together_only_in_one_camera_at_one_time() -> None:
    tracklets = np.array([0, 0, 1, 1, 2, 3, -1, 4])
    cameras = np.array([0, 0, 0, 0, 1, 0, 0, 0])
    times_s = np.array([1.0, 5.0, 4.0, 9.0, 4.5, 10.0, 4.5, UNKNOWN])
    spans = spans_of(tracklets, cameras, times_s)
    pairs = {(0, 1): False, (0, 2): True, (1, 3): True, (0, 4): False, (3, 5): False, (0, 6): False, (0, 7): False}
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    assert spans.seen_together(first, second).tolist() == list(pairs.values())
    assert spans.seen_together(second, first).tolist() == list(pairs.values())


def test_a_graph_loses_exactly_the_forbidden_pairs() -> None:
    rows = unit_rows(120, 6, 3)
    graph = jaccard_graph(rows, nearest(rows, 12), JaccardSettings(k1=12, k2=3), 0.95)
    generator = np.random.default_rng(4)
    spans = spans_of(generator.integers(-1, 30, 120), generator.integers(0, 3, 120), generator.uniform(0, 50, 120))
    pruned = kept_apart(graph, spans)

    def pairs(of):
        owners = np.repeat(np.arange(len(of.half)), np.diff(of.half.starts))
        return {(int(a), int(b)): float(v) for a, b, v in zip(owners, of.half.columns, of.half.values, strict=True)}

    forbidden = {pair for pair in pairs(graph) if spans.seen_together(np.array(pair[:1]), np.array(pair[1:]))[0]}
    assert forbidden
    assert pairs(pruned) == {pair: value for pair, value in pairs(graph).items() if pair not in forbidden}


def test_two_look_alikes_in_one_view_stay_two_clusters() -> None:
    rows = np.repeat(unit_rows(6, 16, 5), 10, axis=0)  # crops 0-9 and 10-19: look-alikes
    rows[10:20] = rows[0:10]
    rows += 0.02 * unit_rows(60, 16, 6)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    tracklets, cameras = np.arange(60) // 10, np.zeros(60, np.int64)
    times_s = np.where(np.arange(60) < 20, np.arange(60) % 10, 100.0 + np.arange(60))
    chosen = ClusterSettings(jaccard=JaccardSettings(k1=8, k2=2))
    together = cluster(rows, chosen).labels
    apart = cluster(rows, chosen, None, spans_of(tracklets, cameras, times_s)).labels
    assert set(together[:10]) & set(together[10:20])
    assert not set(apart[:10][apart[:10] >= 0]) & set(apart[10:20][apart[10:20] >= 0])
    assert len(set(apart[20:])) == 4
