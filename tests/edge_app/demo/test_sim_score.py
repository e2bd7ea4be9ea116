"""The judge: intervals, attribution, precision and recall on cases that can be counted by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from edge_app.associate.facts import EffectiveLink, End, Match, Revision, standing_matches
from edge_app.demo.baselines import baseline_global_cosine, ceiling_hungarian
from edge_app.demo.score import passages_of, score_pairs
from edge_app.judge.shares import Share, wilson
from edge_app.simulation.tracklets import simulated_tracklets
from edge_app.simulation.world import World
from edge_app.types import Tracklet


@pytest.fixture(scope="module")
def world() -> World:
    return World("town", seed=7, difficulty=0.2, seconds=180.0)


@pytest.fixture(scope="module")
def tracklets(world: World) -> list[Tracklet]:
    return simulated_tracklets(world)[0]


def match(event_id: str, first: str, second: str, state: str = "confirmed", supersedes: str | None = None) -> Match:
    begin, end = End(first.split("/")[1], first, 10.0), End(second.split("/")[1], second, 20.0)
    return Match(
        event_id, 21.0, state, "g", f"{begin.camera}--{end.camera}", begin, end, "car", 10.0, 0.99, 3.0, None, 1.5,
        supersedes, "v",
    )  # fmt: skip


def true_pairs(world: World, tracklets: list[Tracklet]) -> list[tuple[str, str]]:
    shown = passages_of(world, tracklets)
    track_of = {passage: track for track, passage in shown.items()}
    return [
        (track_of[link.from_], track_of[link.to])
        for link in world.true_links()
        if link.from_ in track_of and link.to in track_of
    ]


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (95, 100, 0.8882, 0.9785), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals_have_their_published_values(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=1e-4)


def test_an_impossible_share_is_refused_and_an_empty_one_has_no_value() -> None:
    with pytest.raises(ValueError, match="expected 0 ≤ hits ≤ count"):
        wilson(3, 2)
    assert math.isnan(Share(0, 0).value)
    assert str(Share(0, 0)) == "no data"
    assert str(Share(8, 10)) == "0.800 [0.490, 0.943] (8/10)"


def test_facts_that_were_taken_back_do_not_stand() -> None:
    facts = [
        match("a", "n/gate/1/1", "n/market/1/1", "provisional"),
        match("b", "n/gate/1/1", "n/market/1/1", supersedes="a"),
        match("b", "n/gate/1/1", "n/market/1/1", supersedes="a"),  # said twice
        match("c", "n/gate/1/2", "n/market/1/2"),
        Revision("d", 30.0, "retract", ("c",), "better", (EffectiveLink("n/market/1/2", None, "g"),)),
        match("e", "n/gate/1/3", "n/market/1/3"),
    ]
    assert [fact.event_id for fact in standing_matches(facts)] == ["b", "e"]


def test_the_truth_scores_one_and_one(world: World, tracklets: list[Tracklet]) -> None:
    pairs = true_pairs(world, tracklets)
    score = score_pairs(world, passages_of(world, tracklets), pairs, [1.0] * len(pairs) + [9.0])
    assert score.total.precision.value == 1.0
    assert score.total.seen_recall.value == 1.0
    assert score.total.recall.value > 0.9  # a few passages never became tracklets
    assert score.wrong == ()
    assert score.decision_delay_p50_s == 1.0
    assert {row.link for row in score.links} == {f"{link.from_}--{link.to}" for link in world.links}
    assert sum(row.recall.count for row in score.links) == score.total.recall.count


def test_one_wrong_and_one_missing_match_are_counted_once_each(world: World, tracklets: list[Tracklet]) -> None:
    pairs = true_pairs(world, tracklets)
    shown = passages_of(world, tracklets)
    whole = [pair for pair in pairs if shown[pair[0]].entry_time_s >= world.start_s]
    (first, second), (third, fourth) = whole[0], whole[1]
    changed = [pair for pair in pairs if pair not in whole[:2]] + [(first, fourth)]
    score = score_pairs(world, shown, changed)
    assert score.wrong == ((first, fourth),)
    assert score.total.precision == Share(len(pairs) - 2, len(pairs) - 1)
    assert score.total.seen_recall.count - score.total.seen_recall.hits == 2
    assert (second, third) != (fourth, first)


def test_saying_a_link_twice_finds_it_once(world: World, tracklets: list[Tracklet]) -> None:
    pairs = true_pairs(world, tracklets)
    once, twice = (score_pairs(world, passages_of(world, tracklets), pairs * times) for times in (1, 2))
    assert twice.total.recall == once.total.recall
    assert twice.total.precision.count == 2 * once.total.precision.count


def test_recall_counts_only_links_inside_the_observed_time(world: World, tracklets: list[Tracklet]) -> None:
    shown = passages_of(world, tracklets)
    whole = score_pairs(world, shown, [])
    part = score_pairs(world, shown, [], span_s=(world.start_s + 40.0, world.start_s + 120.0))
    assert 0 < part.total.recall.count < whole.total.recall.count
    assert math.isnan(part.total.precision.value)
    assert math.isnan(part.decision_delay_p95_s)


def test_a_match_of_an_unknown_tracklet_is_refused(world: World, tracklets: list[Tracklet]) -> None:
    with pytest.raises(ValueError, match="were not given, such as 'n/gate/1/1'"):
        score_pairs(world, passages_of(world, tracklets), [("n/gate/1/1", tracklets[0].id)])


def test_a_tracklet_of_nothing_belongs_to_nobody(world: World, tracklets: list[Tracklet]) -> None:
    corner = np.zeros_like(tracklets[0].path_boxes) + np.array([0, 0, 5, 5], np.float32)
    nothing = replace(tracklets[0], path_boxes=corner)
    assert passages_of(world, [nothing]) == {nothing.id: None}
    score = score_pairs(world, {nothing.id: None}, [(nothing.id, nothing.id)])
    assert score.total.precision == Share(0, 1)


def test_the_baseline_is_worse_than_the_ceiling(world: World, tracklets: list[Tracklet]) -> None:
    baseline = baseline_global_cosine(world, tracklets)
    ceiling = ceiling_hungarian(world, tracklets)
    assert baseline.oracle
    assert 0.0 < baseline.threshold < 1.0
    assert ceiling.total.precision.value > 0.9 > baseline.score.total.precision.value
    assert ceiling.total.recall.value > 0.85 > baseline.score.total.recall.value
    given = baseline_global_cosine(world, tracklets, threshold=baseline.threshold)
    assert (given.score.total, given.oracle) == (baseline.score.total, False)


def test_without_tracklets_there_is_nothing_to_score(world: World) -> None:
    assert baseline_global_cosine(world, []).score.total.precision.count == 0
    assert ceiling_hungarian(world, []).total.precision.count == 0
