"""Average linkage with pairs that stay apart: held to a loop over dense matrices that merges one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the graph needs torch")
pytest.importorskip("faiss", reason="clustering needs faiss")
pytest.importorskip("numba", reason="clustering needs numba")

from trainer.clustering.jaccard import Graph, Rows
from trainer.clustering.linkage import average_linkage, in_order


def graph_of(distances: np.ndarray, reach: float) -> Graph:
    """The pairs within reach of a symmetric matrix."""
    kept = np.tril(distances <= reach, -1)
    rows, columns = np.nonzero(kept)
    starts = np.concatenate([[0], np.cumsum(kept.sum(1))])
    return Graph(Rows(starts, columns.astype(np.int32), distances[rows, columns].astype(np.float32)), reach)


def one_by_one(distances: np.ndarray, never: np.ndarray, reach: float, eps: float) -> np.ndarray:
    """The nearest two groups, again and again."""
    similar = np.where(distances <= reach, 1 - distances, 0)
    groups = [[item] for item in range(len(distances))]
    while True:
        best = None
        for a, first in enumerate(groups):
            for b, second in enumerate(groups[:a]):
                if not never[np.ix_(first, second)].any():
                    distance = 1 - similar[np.ix_(first, second)].mean()
                    if distance <= eps and (best is None or distance < best[0]):
                        best = distance, a, b
        if best is None:
            break
        groups[best[2]] += groups.pop(best[1])
    labels = np.empty(len(distances), np.int64)
    for number, group in enumerate(groups):
        labels[group] = number
    return in_order(labels)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([0.3, 0.6, 0.9]), st.sampled_from([0.0, 0.1, 0.5]))
def test_rounds_of_mutual_neighbours_are_the_greedy_merges(seed: int, eps: float, forbidden: float) -> None:
    generator, count = np.random.default_rng(seed), 14
    distances = generator.uniform(0, 1, (count, count)).astype(np.float32).astype(np.float64)
    distances = np.tril(distances, -1) + np.tril(distances, -1).T
    never = np.tril(generator.random((count, count)) < forbidden, -1)
    first, second = np.nonzero(never)
    merges = average_linkage(graph_of(distances, 0.9), (first, second), 0.9)
    expected = one_by_one(distances, never | never.T, 0.9, eps)
    assert merges.cut(eps).tolist() == expected.tolist()


def test_a_chain_of_chance_pairs_does_not_join_two_groups() -> None:
    """Two tight groups with one close pair between them: single linkage, and DBSCAN with it, would make them one."""
    distances = np.full((10, 10), 1.0)
    distances[:5, :5] = distances[5:, 5:] = 0.2
    distances[4, 5] = distances[5, 4] = 0.1
    labels = average_linkage(graph_of(distances, 0.6), (np.zeros(0, np.int64), np.zeros(0, np.int64)), 0.6).cut(0.6)
    assert len(set(labels[:4])) == len(set(labels[6:])) == 1
    assert labels[0] != labels[9]


def test_who_must_stay_apart_does_so_over_others_too() -> None:
    distances = np.full((3, 3), 0.1)
    merges = average_linkage(graph_of(distances, 0.6), (np.array([0]), np.array([2])), 0.6)
    assert merges.cut(0.6).tolist() in ([0, 0, 1], [0, 1, 1])


def test_equal_distances_end_and_nothing_makes_nothing() -> None:
    distances = np.full((30, 30), 0.5)
    none = np.zeros(0, np.int64), np.zeros(0, np.int64)
    assert set(average_linkage(graph_of(distances, 0.6), none, 0.6).cut(0.6)) == {0}
    assert average_linkage(graph_of(distances, 0.6), none, 0.6).cut(0.4).tolist() == list(range(30))
    assert average_linkage(graph_of(distances, 0.4), none, 0.4).cut(0.4).tolist() == list(range(30))
    assert in_order(np.array([5, -1, 2, 5])).tolist() == [0, -1, 1, 0]
