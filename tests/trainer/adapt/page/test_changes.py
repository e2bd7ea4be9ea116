"""What changed sides: against loops over all pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from trainer.adapt.page import changes


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_counted_as_one_would_by_hand(seed):
    chance = np.random.default_rng(seed)
    before, after, cameras = (chance.integers(-1, 6, 60), chance.integers(-1, 5, 60), chance.integers(0, 3, 60))

    def together(labels, a, b):
        return labels[a] >= 0 and labels[a] == labels[b]

    pairs = list(combinations(range(60), 2))
    expected = sum(together(after, a, b) and not together(before, a, b) for a, b in pairs)
    count, shown = changes.came_together(before, after, cameras, 3)
    assert count == expected
    assert len(shown) == 3
    for a, b in shown:
        assert together(after, a, b)
        assert not together(before, a, b)
        assert cameras[a] != cameras[b], "there are pairs of two cameras in every cluster"
    assert len({after[a] for a, _ in shown}) == 3, "no two of one cluster"


def test_a_pair_of_one_camera_is_shown_where_there_is_no_other():
    before, after, cameras = np.array([0, 1, 2, 2]), np.array([0, 0, 1, 1]), np.array([7, 7, 1, 2])
    assert changes.came_together(before, after, cameras, 5) == (1, [(0, 1)])
    assert changes.came_together(after, after, cameras, 5) == (0, [])


def test_a_passage_belongs_where_most_of_its_crops_do():
    labels, passages = np.array([4, 4, -1, -1, -1, 2]), np.array([0, 0, 0, 1, 1, 1])
    assert changes.of_passages(labels, passages).tolist() == [4, -1]
    assert changes.of_passages(labels[:0], passages[:0]).tolist() == []


def test_the_widest_clusters_come_first_and_lone_passages_never():
    labels, cameras = np.array([0, 0, 0, 1, 1, 2, -1, -1]), np.array([0, 0, 0, 0, 1, 0, 0, 1])
    assert changes.widest(labels, cameras, 5).tolist() == [1, 0]
    assert changes.widest(np.full(3, -1), cameras[:3], 5).tolist() == []


def test_figures_of_nothing_and_of_something():
    assert changes.said(np.zeros(0, np.int64), np.zeros(0, np.int64))["crops in no group"] == "100.0%"
    found = changes.said(np.array([0, 0, 1, 1, -1]), np.array([0, 1, 0, 0, 0]))
    assert list(found.values()) == ["2", "50%", "2", "20.0%"]
