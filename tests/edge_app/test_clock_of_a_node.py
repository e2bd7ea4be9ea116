"""A whole node whose clock is set while it runs and while it is off: the real parts, only time is moved."""

import itertools
import threading
from dataclasses import replace
from itertools import pairwise

import pytest
from hands import Hands

from edge_app import app
from edge_app.associate.facts import Match, standing_matches
from edge_app.contract import topics
from edge_app.contract.aggregates import Flow
from edge_app.contract.messages import Gap
from edge_app.delivery.aggregate import Aggregates, AggregateSettings
from edge_app.delivery.outgoing import Letterhead
from edge_app.demo.play import Play, site_config
from edge_app.simulation.world import START_S
from edge_app.sources.cameras import Cameras

HOUR_S = 3600.0
YEARS_S = 25 * 365 * 86400.0
STEP_AT_S = START_S + 45
INTERVALS = AggregateSettings(interval_s=20, settle_s=1, republish_s=1, minimum_coverage=0.5)


def town(folder, seconds):
    site = site_config(Play("town", 7, 0.3, seconds), folder / "s.db")
    return site.model_copy(update={"aggregate": INTERVALS})


def said(node):
    return [topics.decode(row.topic, row.payload) for row in node.store.pending(10**6)]


class Wrong:
    """Cameras whose clock is ahead until a moment. What they see is that of the true time, of course."""

    def __init__(self, node, ahead_s, until_s=STEP_AT_S):
        self.ahead_s, self.until_s = ahead_s, until_s
        self.detector, self.embedder = node.perception.detector, node.perception.embedder
        self.version, self.dimension = self.embedder.version, self.embedder.dimension
        self.class_names = self.detector.class_names
        node.perception.detector = node.perception.embedder = self

    def detect(self, frames):
        return self.detector.detect([replace(frame, time_s=self.true(frame.time_s)) for frame in frames])

    def embed(self, views):
        return self.embedder.embed([replace(view, time_s=self.true(view.time_s)) for view in views])

    def true(self, time_s):
        return time_s - self.ahead_s if time_s > self.until_s + self.ahead_s / 2 else time_s

    def ticks(self, ticks):
        for now, frames in ticks:
            ahead_s = self.ahead_s if now <= self.until_s else 0.0
            yield now + ahead_s, [replace(frame, time_s=frame.time_s + ahead_s) for frame in frames]


def steps_of(node, ahead_s):
    ticks = node.cameras.ticks(threading.Event())
    if ahead_s:
        ticks = Wrong(node, ahead_s).ticks(ticks)
    return [*node.pipeline.run(ticks), *node.pipeline.finish()]


def test_capture_time_that_goes_back_loses_no_vehicle_under_way(tmp_path):
    """Vehicles between two cameras are found again in the new time; only the tracks that were open are cut in two."""
    matches, facts = {}, {}
    for ahead_s in (0.0, HOUR_S):
        folder = tmp_path / f"{ahead_s}"
        with app.Node(town(folder, 75.0), Hands().clock(), lineage="t") as node:
            steps = steps_of(node, ahead_s)
            assert not [message for message in said(node) if isinstance(message, Gap)]
        assert sum(after.now < before.now - 1 for before, after in pairwise(steps)) == (1 if ahead_s else 0)
        facts[ahead_s] = [fact for step in steps for fact in step.facts]
        matches[ahead_s] = standing_matches(facts[ahead_s])
        assert all(abs(m.to.time_s - m.from_.time_s - m.transit_s) < 1e-6 for m in matches[ahead_s])
        assert all(0 <= m.decision_delay_s <= 61 for m in matches[ahead_s])
        assert {m.waited_for for m in matches[ahead_s]} == {"evidence", "open_tracks", "deadline"}
    straight, stepped = matches[0.0], matches[HOUR_S]
    assert len(stepped) > 0.8 * len(straight)
    spanning = [m for m in stepped if m.from_.time_s < STEP_AT_S < m.to.time_s]
    assert len(spanning) > 0.5 * len([m for m in straight if m.from_.time_s < STEP_AT_S < m.to.time_s]) > 3
    assert all(m.observed_at_s < START_S + 300 for m in spanning)  # in the right time again


def test_a_restart_onto_an_earlier_clock_goes_on(tmp_path):
    """The node ran an hour ahead, was stopped, and its clock is right when it starts again."""
    site = town(tmp_path, 75.0)
    with app.Node(site, Hands().clock(), lineage="t") as node:
        ticks = Wrong(node, HOUR_S).ticks(node.cameras.ticks(threading.Event()))
        for _ in itertools.takewhile(lambda step: step.now < STEP_AT_S + HOUR_S - 1, node.pipeline.run(ticks)):
            pass
        node.pipeline.save()
        positions = {camera: time_s - HOUR_S for camera, time_s in node.pipeline.positions.items()}
    with app.Node(site, Hands().clock(), lineage="t") as node:
        assert node.pipeline.now > START_S + HOUR_S
        cameras = Cameras(site.cameras, "lockstep", resume_after=positions)
        steps = [*node.pipeline.run(cameras.ticks(threading.Event(), STEP_AT_S)), *node.pipeline.finish()]
        cameras.close()
    matches = standing_matches(fact for step in steps for fact in step.facts)
    spanning = [match for match in matches if match.from_.time_s < STEP_AT_S < match.to.time_s]
    assert len(spanning) > 3
    assert all(fact.observed_at_s < START_S + 300 for step in steps[1:] for fact in step.facts)


@pytest.mark.parametrize("by_s", [YEARS_S, -HOUR_S])
def test_a_node_whose_wall_clock_is_set_sheds_nothing_and_says_suspect(tmp_path, by_s):
    """No broker: everything waits in the store. In 0.1 a clock set right by years gave up 100 of 100."""
    site, hands = town(tmp_path, 40.0), Hands(wall_s=YEARS_S)
    with app.Node(site, hands.clock(), lineage="t") as node:
        for count, _ in enumerate(node.steps(threading.Event())):
            hands.run(0.1)
            if count == 300:
                hands.set(by_s)
        messages, oldest_s = said(node), node.store.oldest_unsent_s()
    assert len(messages) > 10
    assert any(isinstance(message, topics.Match) for message in messages)
    assert not [message for message in messages if isinstance(message, Gap)]
    assert {message.clock_state for message in messages} == {"ok", "suspect"}  # read anew for each
    assert messages[0].clock_state == "ok"
    assert 0 < oldest_s < 1000
    with app.Node(site, hands.clock(), lineage="t") as node:  # and nothing at the next start
        assert not [message for message in said(node) if isinstance(message, Gap)]
        assert node.store.oldest_unsent_s() == pytest.approx(oldest_s, abs=1)


def test_health_counts_what_matches_waited_for(tmp_path):
    with app.Node(town(tmp_path, 40.0), Hands().clock(), lineage="t") as node:
        steps = list(node.steps(threading.Event()))
        confirmed = [f for step in steps for f in step.facts if isinstance(f, Match) and f.state == "confirmed"]
        counters = dict(node.health.counters)
    assert confirmed
    for reason in ("evidence", "open_tracks", "deadline"):
        assert counters.get(f"waited_for_{reason}", 0) == sum(match.waited_for == reason for match in confirmed)
    assert counters["messages_refused"] == 0


def test_aggregates_said_under_a_wrong_time_are_replaced_when_it_comes():
    """The same interval is said again with a higher revision; nothing is counted twice."""
    aggregates, letterhead = Aggregates(INTERVALS, ["a"], []), Letterhead("s", "n", "1")
    flows = []

    def run(from_s, seconds, pause):
        for second in range(seconds):
            aggregates.update([], [], ["a"] if second % pause else [], from_s + second)
            flows.extend(m for m in aggregates.due(letterhead, from_s + second, 0.0) if isinstance(m, Flow))

    run(1_000_000_000, 100, pause=5)
    before = [(m.interval_start_s, m.revision) for m in flows]
    aggregates.set_back(1_000_000_000 - 200)
    changes = aggregates.take_changes()
    assert [key for key, value in changes.items() if "coverage" in key and value is None]
    run(1_000_000_000 - 203, 320, pause=4)
    starts = [(m.interval_start_s, m.revision) for m in flows]
    assert len(set(starts)) == len(starts)
    assert all(0.5 <= m.coverage <= 0.81 for m in flows)  # not of both times together
    assert {start_s for start_s, revision in starts if revision > 1} >= {start_s for start_s, _ in before[1:]}
