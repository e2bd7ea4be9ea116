"""Marginals and best assignments against enumeration of every joint assignment."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edge_app.associate import assign


def enumerate_all(log_odds: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Pair and no-match probabilities and the best assignment, by listing every one."""
    rows, columns = log_odds.shape
    pairs, nobody, total, best = np.zeros((rows, columns)), np.zeros(rows), 0.0, ((), -np.inf)
    for chosen in itertools.product(range(-1, columns), repeat=rows):
        taken = [c for c in chosen if c >= 0]
        if len(set(taken)) < len(taken):
            continue
        score = sum(log_odds[i, c] for i, c in enumerate(chosen) if c >= 0)
        weight = np.exp(score)
        total += weight
        for i, c in enumerate(chosen):
            if c >= 0:
                pairs[i, c] += weight
            else:
                nobody[i] += weight
        if score > best[1]:
            best = (chosen, score)
    return pairs / total, nobody / total, best[0]


@pytest.mark.parametrize("seed", range(10))
def test_marginals_are_exact_without_cycles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_odds = np.full((4, 4), -np.inf)  # a path: row 0 - column 0 - row 1 - column 1 - …
    for i in range(4):
        log_odds[i, i] = rng.normal(0, 3)
        if i:
            log_odds[i, i - 1] = rng.normal(0, 3)
    pairs, nobody = assign.marginals(log_odds)
    expected_pairs, expected_nobody, _ = enumerate_all(log_odds)
    np.testing.assert_allclose(pairs, expected_pairs, atol=1e-7)
    np.testing.assert_allclose(nobody, expected_nobody, atol=1e-7)


@pytest.mark.parametrize("seed", range(10))
def test_marginals_are_close_with_cycles(seed: int) -> None:
    log_odds = np.random.default_rng(seed).normal(0, 3, (4, 3))
    pairs, nobody = assign.marginals(log_odds)
    expected_pairs, expected_nobody, _ = enumerate_all(log_odds)
    assert np.abs(pairs - expected_pairs).max() < 0.1
    np.testing.assert_allclose(pairs.sum(1) + nobody, 1.0, atol=1e-12)
    assert np.abs(nobody - expected_nobody).max() < 0.1


@pytest.mark.parametrize("seed", range(10))
def test_best_is_the_most_probable_joint_assignment(seed: int) -> None:
    log_odds = np.random.default_rng(seed).normal(0, 3, (4, 3))
    assert tuple(assign.best(log_odds, np.zeros(4))) == enumerate_all(log_odds)[2]


def test_impossible_pairs_are_never_chosen() -> None:
    log_odds = np.array([[-np.inf, 5.0], [-np.inf, 6.0]])
    assert list(assign.best(log_odds, np.zeros(2))) == [-1, 1]
    pairs, _ = assign.marginals(log_odds)
    assert pairs[:, 0].tolist() == [0.0, 0.0]


def test_a_reason_to_stay_alone_is_heard() -> None:
    assert list(assign.best(np.array([[1.0]]), np.array([2.0]))) == [-1]
    assert list(assign.best(np.array([[3.0]]), np.array([2.0]))) == [0]


def test_components_are_split_and_complete() -> None:
    edges = [("a", "1"), ("b", "1"), ("c", "2"), ("d", "3"), ("c", "3")]
    found = {(frozenset(rows), frozenset(columns)) for rows, columns in assign.components(edges)}
    assert found == {(frozenset("ab"), frozenset("1")), (frozenset("cd"), frozenset("23"))}


def test_a_row_and_a_column_may_share_a_name() -> None:
    """A tracklet is a row as the later and a column as the earlier end of two different matches."""
    assert assign.components([("b", "a"), ("c", "b")]) == [(["b"], ["a"]), (["c"], ["b"])]
