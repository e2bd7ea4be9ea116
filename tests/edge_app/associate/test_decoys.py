"""Matches that cannot be right, counted: an upper bound of the wrong ones that needs no truth."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from tiny_world import link, rules, stream

from edge_app.associate.decoys import MOVED, Estimate, _moved, _moves, estimate, prior_of, told
from edge_app.associate.decoys import link as way
from edge_app.associate.settings import SimilarityPrior
from edge_app.contract.similarity import Certain


def span(tracklets: list) -> tuple[float, float]:
    return min(one.entry_time_s for one in tracklets), max(one.exit_time_s for one in tracklets) + 1.0


@pytest.fixture(scope="module")
def world():
    return stream(3, vehicles=45, rate=0.04, models=8, noise=0.18)


@pytest.fixture(scope="module")
def found(world):
    return estimate(world.tracklets, world.rules.links, world.rules.settings, [span(world.tracklets)])


def test_decoys_bound_the_wrong_matches(world, found) -> None:
    wrong = sum(world.parents[to] != from_ for from_, to in found.matches) / found.target
    assert found.target > 30
    assert wrong <= found.decoy_share < 0.5
    assert 0 < found.wrong_share < found.decoy_share
    assert (found.passages, found.left_out) == (len(world.tracklets), 0)


def test_without_looks_fewer_are_right(world, found) -> None:
    """All vehicles equal: time alone confirms some, and of these more may be wrong."""
    equal = [replace(one, embeddings=np.ones_like(one.embeddings) / np.float32(32**0.5)) for one in world.tracklets]
    untold = estimate(equal, world.rules.links, world.rules.settings, [span(world.tracklets)])
    assert untold.target - untold.decoy < found.target - found.decoy
    assert untold.decoy_share > found.decoy_share


def test_a_period_too_short_to_be_moved_is_left_out(world) -> None:
    begin, end = span(world.tracklets)
    short = estimate(world.tracklets, world.rules.links, world.rules.settings, [(begin, begin + 100.0)])
    assert (short.target, short.decoy, short.passages, short.left_out) == (0, 0, 0, len(world.tracklets))
    assert short.decoy_share == 1.0
    none = estimate(world.tracklets, world.rules.links, world.rules.settings, [])
    assert none.left_out == len(world.tracklets)
    assert end - begin > 800  # long enough as a whole


def test_every_link_is_moved_out_of_its_time_and_back_into_the_period(world) -> None:
    """No pair that could meet before can meet now: for each link the ends differ by more than 2 · max_s, round the
    period in both directions."""
    ring = [link(a, b) for a, b in ("ab", "bc", "ca", "cd", "da")]
    moves, longest = _moves(ring), max(one.transit.max_s for one in ring)
    period = (0.0, max(moves.values()) + 2 * longest + 1.0)
    for one in ring:
        apart = abs(moves[one.to_camera] - moves[one.from_camera])
        assert 2 * longest < MOVED * longest <= apart
        assert period[1] - apart > 2 * longest
    last = replace(world.tracklets[0], entry_time_s=period[1] - 1.0, exit_time_s=period[1] + 4.0)
    moved = _moved(last, 10.0, period)
    assert (moved.entry_time_s, moved.exit_time_s) == (pytest.approx(9.0), pytest.approx(14.0))


def test_the_same_passages_give_the_same_counts(world) -> None:
    some = world.tracklets[:30]
    first, second = (
        estimate(each, world.rules.links, world.rules.settings, [span(some)]) for each in (some, some[::-1])
    )
    assert first == second


def test_the_precision_is_told_in_a_line(world, found) -> None:
    where, settings = world.rules.links, world.rules.settings
    line, *curve = told(world.tracklets, where, settings)
    decoy, target = (int(number) for number in re.findall(r"(\d+) (?:were|among)", line))
    assert target == pytest.approx(found.target, abs=2)  # the period ends with the last exit here
    estimated, bound = (float(share) for share in re.findall(r"([\d.]+)%", line))
    assert bound == pytest.approx(100 * decoy / target, abs=0.05)
    assert 0 < estimated < bound
    rows = [
        re.fullmatch(r"  prefer: (\w+) +\(([\d.]+)\) +(\d+) matches, about ([\d.]+)% of them wrong", row)
        for row in curve
    ]
    assert [row[1] for row in rows if row] == ["recall", "balance", "precision"]
    matches = [int(row[3]) for row in rows if row]
    assert matches == sorted(matches, reverse=True), "who asks for more gets fewer"
    assert matches[-1] > 0
    (short,) = told(world.tracklets[:3], where, settings)
    assert "can be told without a truth from 246 s on, not from this recording" in short
    assert told([], where, settings) == told(world.tracklets, [], settings) == []


@pytest.mark.long
def test_over_many_worlds_the_estimate_is_near_the_truth_and_the_bound_above_it() -> None:
    wrong, estimated, bound, matches = 0, 0.0, 0, 0
    for seed, rate in ((seed, rate) for seed in range(1, 7) for rate in (0.04, 0.08)):
        world = stream(seed, vehicles=70, rate=rate)
        found = estimate(world.tracklets, world.rules.links, world.rules.settings, [span(world.tracklets)])
        wrong += sum(world.parents[to] != from_ for from_, to in found.matches)
        matches, estimated, bound = (
            matches + found.target,
            estimated + found.wrong_share * found.target,
            bound + found.decoy,
        )
    assert matches > 900
    assert 0.5 * wrong < estimated < 2 * wrong  # 21 and 26 when this was written
    assert wrong < bound  # 111


@pytest.mark.parametrize(
    ("target", "decoy", "entries", "expected"),
    [
        (80, 10, 100, 10 * 20 / 90 / 80),  # one in ten of the 20 + F that are not right: F = 10 · 20 / 90
        (80, 0, 100, 0.0),
        (0, 0, 100, 1.0),
        (80, 100, 100, 1.0),
        (10, 50, 100, 50 * 90 / 50 / 10),  # more decoys than matches
    ],
)
def test_who_is_matched_rightly_cannot_be_wrong_too(target: int, decoy: int, entries: int, expected: float) -> None:
    counted = Estimate((("a", "b"),) * target, decoy, entries, 200, 0)
    assert counted.wrong_share == pytest.approx(min(expected, counted.decoy_share))


def test_a_prior_is_fitted_to_the_embedder() -> None:
    pairs = Certain(np.array([0.95, 0.97, 0.93]), np.array([0.5, 0.6, 0.7, 0.6]))
    prior = prior_of(pairs)
    assert prior.impostor_mean == pytest.approx(0.6)
    assert 0.8 < prior.genuine_mean < 0.95  # less alike on a link than within a track
    assert prior.genuine_std > 0.1
    assert prior_of(Certain(np.zeros(0), np.ones(2))) == SimilarityPrior()
    constant = prior_of(Certain(np.ones(5), np.ones(5)))
    assert constant.genuine_mean == constant.impostor_mean == 1.0
    assert min(constant.genuine_std, constant.impostor_std) > 0


def test_a_link_without_a_configuration() -> None:
    one = way("a", "b", 10.0, 40.0)
    assert (one.id, one.transit.median_s) == ("a--b", 20.0)
    assert rules(one).into["b"] == (one,)
