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


def cost(chosen: tuple[int, ...], pairs: np.ndarray, wrong: float, missed: float) -> float:
    """What an assignment costs on average, where each pair is right with its own probability."""
    taken = {(row, column) for row, column in enumerate(chosen) if column >= 0}
    every = itertools.product(range(pairs.shape[0]), range(pairs.shape[1]))
    return sum(wrong * (1 - pairs[pair]) if pair in taken else missed * pairs[pair] for pair in every)


@pytest.mark.parametrize("threshold", [0.2, 0.35, 0.5, 0.85])
@pytest.mark.parametrize("seed", range(10))
def test_the_cheapest_assignment_costs_least_of_all(seed: int, threshold: float) -> None:
    pairs, _, _ = enumerate_all(np.random.default_rng(seed).normal(0, 3, (4, 3)))
    chosen = tuple(assign.cheapest(pairs, threshold))
    every = [one for one in itertools.product(range(-1, 3), repeat=4) if len({*one} - {-1}) == 4 - one.count(-1)]
    least = min(cost(one, pairs, threshold, 1 - threshold) for one in every)
    assert cost(chosen, pairs, threshold, 1 - threshold) == pytest.approx(least)


def test_what_is_not_worth_its_cost_is_never_chosen() -> None:
    pairs = np.array([[0.0, 0.5], [0.0, 0.4]])
    assert list(assign.cheapest(pairs, 0.6)) == [-1, -1]
    assert list(assign.cheapest(pairs, 0.45)) == [1, -1]
    assert list(assign.cheapest(np.zeros((2, 2)), 0.35)) == [-1, -1]


def test_impossible_pairs_have_no_probability() -> None:
    pairs, _ = assign.marginals(np.array([[-np.inf, 5.0], [-np.inf, 6.0]]))
    assert pairs[:, 0].tolist() == [0.0, 0.0]


def test_components_are_split_and_complete() -> None:
    edges = [("a", "1"), ("b", "1"), ("c", "2"), ("d", "3"), ("c", "3")]
    found = {(frozenset(rows), frozenset(columns)) for rows, columns in assign.components(edges)}
    assert found == {(frozenset("ab"), frozenset("1")), (frozenset("cd"), frozenset("23"))}


def test_a_row_and_a_column_may_share_a_name() -> None:
    """A tracklet is a row as the later and a column as the earlier end of two different matches."""
    assert assign.components([("b", "a"), ("c", "b")]) == [(["b"], ["a"]), (["c"], ["b"])]
