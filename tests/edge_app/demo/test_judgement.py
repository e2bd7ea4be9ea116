"""Verdicts and score say the same."""

import pytest

from edge_app.associate.facts import End, Match
from edge_app.demo.judgement import judge
from edge_app.simulation.tracklets import simulated_tracklets
from edge_app.simulation.world import World


def match(first, second):
    return Match(
        event_id=first.id + second.id, observed_at_s=second.exit_time_s, state="confirmed", global_id="n-1-1",
        link=f"{first.camera}--{second.camera}", from_=End(first.camera, first.id, first.exit_time_s),
        to=End(second.camera, second.id, second.entry_time_s), class_name="car", transit_s=1.0, posterior=0.9,
        margin=1.0, runner_up=None, decision_delay_s=1.0, supersedes=None, embedding_version="v",
    )  # fmt: skip


@pytest.fixture(scope="module")
def town():
    world = World("town", seed=3, seconds=90)
    tracklets, vehicles = simulated_tracklets(world)
    return world, tracklets, vehicles, (world.start_s, world.end_s)


def test_without_matches_everything_that_was_seen_is_missed(town):
    world, tracklets, vehicles, span_s = town
    judgement = judge(world, tracklets, [], span_s)
    assert judgement.verdicts == {}
    assert len(judgement.missed) == judgement.score.total.seen_recall.count > 10
    assert all(vehicles[first] == vehicles[second] for first, second in judgement.missed)


def test_verdicts_agree_with_the_score(town):
    world, tracklets, vehicles, span_s = town
    by_id = {tracklet.id: tracklet for tracklet in tracklets}
    missed = judge(world, tracklets, [], span_s).missed
    right = [match(by_id[first], by_id[second]) for first, second in missed[::2]]
    strangers = [(by_id[a[0]], by_id[b[1]]) for a, b in zip(missed[1::2], missed[3::2], strict=False)]
    wrong = [match(first, second) for first, second in strangers if vehicles[first.id] != vehicles[second.id]]
    judgement = judge(world, tracklets, right + wrong, span_s)
    assert len(wrong) > 3
    assert {judgement.verdicts[m.from_.track, m.to.track] for m in right} == {"right"}
    assert {judgement.verdicts[m.from_.track, m.to.track] for m in wrong} == {"wrong"}
    assert judgement.score.total.precision.hits == len(right)
    assert judgement.missed == missed[1::2]


def test_a_match_of_nobody_knows_what_is_refused(town):
    world, tracklets, _, span_s = town
    with pytest.raises(ValueError, match="were not given"):
        judge(world, tracklets[:1], [match(*tracklets[:2])], span_s)
