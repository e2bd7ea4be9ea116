"""Aggregates: numbers of tiny worlds by hand, corrections with higher revisions, silence of dead cameras, restarts."""

import json
import random

import numpy as np
import pytest

from edge_app.associate.facts import EffectiveLink, End, Match, Revision, Unmatched
from edge_app.associate.settings import LinkSettings, TransitSettings
from edge_app.contract.aggregates import Flow, OriginDestination, TravelTime
from edge_app.contract.envelope import uuid7
from edge_app.contract.topics import encode, topic_of
from edge_app.delivery.aggregate import Aggregates, AggregateSettings
from edge_app.delivery.counting import MOST_FLOWS, Counted, flow
from edge_app.delivery.outgoing import Letterhead
from edge_app.store.parts import Parts, unsealed
from edge_app.store.upgrade import upgraded
from edge_app.types import Tracklet

LETTERHEAD = Letterhead("demo", "edge-1", "1")
CAMERAS = ("a", "b", "c")
LINKS = tuple(
    LinkSettings(from_camera=one, to_camera=other, transit=TransitSettings(min_s=1, max_s=40))
    for one, other in (("a", "b"), ("b", "c"), ("a", "c"))
)
SETTINGS = AggregateSettings(interval_s=60, settle_s=10, republish_s=1, keep_s=600)
START_S = 1_700_000_040.0  # a multiple of 60


def tracklet(name, entry_s, exit_s, class_name="car", zones=("left", "right")):
    return Tracklet(
        f"n/{name}", "n", name[0], class_name, START_S + entry_s, START_S + exit_s, 0.1, *zones, 0.0,
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), "v1", np.zeros(0), np.zeros((0, 4), np.float32),
    )  # fmt: skip


def match(from_name, to_name, at_s=0.0, state="confirmed"):
    return Match(
        uuid7(at_s, f"{from_name}{to_name}".encode()), at_s, state, "g", f"{from_name[0]}--{to_name[0]}",
        End(from_name[0], f"n/{from_name}", 0.0), End(to_name[0], f"n/{to_name}", 0.0),
        "car", 1.0, 0.9, 1.0, None, 1.0, None, "v1",
    )  # fmt: skip


def unmatched(name):
    return Unmatched(uuid7(0, name.encode()), 0.0, "g", End(name[0], f"n/{name}", 0.0), "car", 0.9, 1.0)


def retract(to_name, from_name=None):
    links = (EffectiveLink(f"n/{to_name}", from_name and f"n/{from_name}", "g"),)
    return Revision(uuid7(0, to_name.encode()), 0.0, "retract", (), "better", links)


class World:
    """Aggregates under a clock that ticks once a second."""

    def __init__(self, cameras=CAMERAS, settings=SETTINGS):
        self.parts: dict[str, bytes] = {}
        self.settings, self.now_s, self.said = settings, START_S, []
        self.delivering = set(cameras)
        self.aggregates = Aggregates(settings, CAMERAS, LINKS)

    def restart(self):
        self.aggregates = Aggregates(self.settings, CAMERAS, LINKS, Parts(self.parts))

    def run(self, until_s, tracklets=(), facts=()):
        said = []
        while self.now_s < START_S + until_s:
            self.now_s += 1
            self.aggregates.update(tracklets, facts, self.delivering, self.now_s)
            tracklets, facts = (), ()
            said += self.aggregates.due(LETTERHEAD, self.now_s, self.now_s)
            for key, value in self.aggregates.take_changes().items():
                if value is None:
                    self.parts.pop(key, None)
                else:
                    self.parts[key] = value
        self.said += said
        return said


def of(said, model, start_s=0.0):
    return [message for message in said if isinstance(message, model) and message.interval_start_s == START_S + start_s]


def test_one_interval_by_hand(validate):
    world = World()
    passages = [tracklet("a1", 5, 8), tracklet("a2", 10, 12), tracklet("a3", 20, 25, "bus")]
    passages += [tracklet("a4", 30, 33, zones=("right", "left"))]
    passages += [tracklet("b1", 18, 20), tracklet("b2", 24, 26), tracklet("c1", 40, 42)]
    facts = [unmatched("a1"), unmatched("a2"), unmatched("a3"), unmatched("a4")]
    facts += [match("a1", "b1"), match("a2", "b2"), match("b1", "c1"), match("a3", "c1", state="provisional")]
    said = world.run(200, passages, facts)
    for message in said:
        validate(topic_of(message, "demo"), encode(message))
    flows = {message.camera: message for message in of(said, Flow)}
    assert [(c.class_name, c.entry_zone, c.n) for c in flows["a"].counts] == [
        ("bus", "left", 1), ("car", "left", 2), ("car", "right", 1)
    ]  # fmt: skip
    assert flows["b"].coverage > 0.95
    links = {message.link: message for message in of(said, TravelTime)}
    ab = links["a--b"]
    assert (ab.exits, ab.eligible_exits, ab.entries, ab.n, ab.match_rate) == (4, 4, 2, 2, 0.5)
    assert (ab.median_s, ab.p10_s, ab.p90_s) == (11.0, 10.2, 11.8)
    assert (links["a--c"].eligible_exits, links["a--c"].n, links["a--c"].match_rate) == (2, 0, 0.0)
    assert (links["b--c"].n, links["b--c"].eligible_exits, links["b--c"].median_s) == (1, 2, 20.0)
    last = of(said, OriginDestination)[-1]
    assert {(pair.origin, pair.destination): pair.counts for pair in last.pairs} == {
        ("a", "a"): {"bus": 1, "car": 1}, ("a", "b"): {"car": 1}, ("a", "c"): {"car": 1}
    }  # fmt: skip
    assert [rate.link for rate in last.match_rates] == ["a--b", "b--c", "a--c"]
    assert last.missing_cameras == ()


def test_a_quiet_interval_is_a_zero_and_is_said_once():
    world = World()
    said = world.run(400)
    flows = of(said, Flow, 60)
    assert [(message.camera, message.counts, message.revision) for message in flows] == [
        ("a", (), 1),
        ("b", (), 1),
        ("c", (), 1),
    ]
    assert of(said, TravelTime, 60)[0].match_rate is None


def test_a_dead_camera_publishes_nothing():
    world = World(cameras=("a", "b"))
    said = world.run(200, [tracklet("a1", 70, 80), tracklet("c1", 90, 95)])
    assert {message.camera for message in said if isinstance(message, Flow)} == {"a", "b"}
    assert {message.link for message in said if isinstance(message, TravelTime)} == {"a--b"}
    assert {message.missing_cameras for message in said if isinstance(message, OriginDestination)} == {("c",)}
    world = World(cameras=())
    said = world.run(300, [tracklet("a1", 70, 80)])
    assert {type(message) for message in said} == {OriginDestination}
    assert {(message.pairs, message.missing_cameras) for message in said} == {((), CAMERAS)}


def test_half_an_interval_is_not_an_interval():
    world = World()
    world.run(30)
    world.delivering = {"b", "c"}
    said = world.run(130)
    assert {message.camera for message in of(said, Flow)} == {"b", "c"}


def test_a_kill_costs_no_more_coverage_than_its_last_step():
    """Intervals of ten seconds, a kill and a start in the middle of each: every one of them is said."""
    settings = SETTINGS.model_copy(update={"interval_s": 10, "minimum_coverage": 0.9})
    world = World(settings=settings)
    for second in range(15, 300, 10):
        world.run(second)
        world.restart()
        world.now_s -= 1  # the step that was not committed is made again
    world.run(300)
    said = {message.interval_start_s for message in world.said if isinstance(message, Flow)}
    assert said == {START_S + 10 * k for k in range(1, 29)}  # the first began before anybody watched
    assert min(message.coverage for message in world.said if isinstance(message, Flow)) >= 0.9


def test_the_end_of_all_recordings_says_what_is_left_with_its_true_coverage(validate):
    world = World()
    said = world.run(90, [tracklet("a1", 65, 68), tracklet("b1", 80, 82)], [unmatched("a1"), match("a1", "b1")])
    assert of(said, Flow, 60) == []
    last = world.aggregates.finish(LETTERHEAD, world.now_s)
    for message in last:
        validate(topic_of(message, "demo"), encode(message))
    assert [(m.camera, m.coverage) for m in of(last, Flow, 60)] == [(name, 0.517) for name in CAMERAS]
    assert [m.n for m in of(last, TravelTime, 60)] == [1, 0, 0]
    (trips,) = of(last, OriginDestination, 60)
    assert [(pair.origin, pair.destination) for pair in trips.pairs] == [("a", "b")]
    assert trips.missing_cameras == CAMERAS  # none of them saw the whole interval
    assert world.aggregates.finish(LETTERHEAD, world.now_s) == []


def test_a_hole_in_every_camera_is_named():
    """Nobody knows what passed meanwhile; that the numbers are missing is said all the same."""
    world = World()
    world.run(30)
    world.restart()
    world.now_s += 200  # nobody ran
    said = world.run(330)
    assert of(said, Flow) == []
    assert [message.missing_cameras for message in of(said, OriginDestination)] == [CAMERAS]


def test_intervals_in_which_nobody_ran_are_said():
    """Off for four minutes and back: each of the four is told, with every camera missing, and no zero is counted."""
    world = World()
    world.run(65)
    world.restart()
    world.now_s += 250
    said = world.run(450)
    told = {message.interval_start_s: message for message in said if isinstance(message, OriginDestination)}
    assert {START_S + 60 * k for k in range(1, 7)} <= told.keys()
    for k in (2, 3, 4):
        assert told[START_S + 60 * k].missing_cameras == CAMERAS
        assert told[START_S + 60 * k].pairs == ()
    seen = {message.interval_start_s for message in said if isinstance(message, Flow)}
    assert seen.isdisjoint({START_S + 60 * k for k in (1, 2, 3, 4, 5)})


def test_coverage_of_an_earlier_release_goes_on():
    world = World()
    world.run(59)
    of_camera = {}
    for key in [key for key in world.parts if key.startswith("aggregate/coverage/")]:
        for camera, covered_s in json.loads(unsealed(world.parts.pop(key), "crosslane.coverage/2")).items():
            of_camera.setdefault(camera, {})[key.rpartition("/")[2]] = covered_s
    changes = upgraded({"aggregate/coverage": json.dumps(of_camera).encode()})
    assert changes.pop("aggregate/coverage") is None
    world.parts.update(changes)
    world.restart()
    assert {message.camera for message in of(world.run(130), Flow)} == set(CAMERAS)


def test_a_late_match_and_its_retraction_are_revisions():
    world = World()
    world.run(1, [tracklet("a1", 5, 8), tracklet("b1", 18, 20), tracklet("a2", 6, 9)])
    first = world.run(80)
    assert [(message.revision, message.n) for message in of(first, TravelTime) if message.link == "a--b"] == [(1, 0)]
    later = world.run(100, facts=[match("a1", "b1")])
    assert [(m.revision, m.n, m.median_s) for m in of(later, TravelTime) if m.link == "a--b"] == [(2, 1, 10.0)]
    assert [(m.revision, m.eligible_exits) for m in of(later, TravelTime) if m.link == "a--c"] == [(2, 1)]
    assert of(later, Flow) == []  # its numbers are the same
    swapped = world.run(120, facts=[retract("b1", "a2")])
    assert [(m.revision, m.n, m.median_s) for m in of(swapped, TravelTime) if m.link == "a--b"] == [(3, 1, 9.0)]
    retracted = world.run(140, facts=[retract("b1")])
    assert [(m.revision, m.n, m.median_s) for m in of(retracted, TravelTime) if m.link == "a--b"] == [(4, 0, None)]
    events = [m.event_id for m in world.said]
    assert len(set(events)) == len(events)


def test_a_trip_across_intervals_counts_where_it_began():
    world = World()
    world.run(1, [tracklet("a1", 50, 55), tracklet("b1", 70, 72), tracklet("c1", 100, 103)], [unmatched("a1")])
    world.run(2, facts=[match("a1", "b1")])
    world.run(3, facts=[match("b1", "c1")])
    said = world.run(400)
    assert [pair.destination for pair in of(said, OriginDestination)[-1].pairs] == ["c"]
    assert of(said, OriginDestination, 60)[-1].pairs == ()
    assert [m.n for m in of(said, TravelTime) if m.link == "a--b"][-1] == 1


def test_what_was_confirmed_twice_or_belongs_to_the_forgotten_changes_nothing():
    world = World()
    world.run(100, [tracklet("a1", 5, 8), tracklet("b1", 18, 20)], [match("a1", "b1")])
    said = world.run(130, facts=[match("a1", "b1"), match("a9", "b9"), retract("b8", "a1")])
    assert {message.interval_start_s for message in said} == {START_S + 60}


def test_memory_is_bounded():
    world = World()
    for minute in range(40):
        world.run(minute * 60 + 60, [tracklet(f"a{minute}", minute * 60 + 5, minute * 60 + 8)])
    kept = [key for key in world.parts if "/passage/" in key]
    assert len(kept) <= 12
    assert len(world.parts) < 12 * 10
    assert len(world.aggregates._known_intervals()) <= 12


def random_history(seed):
    """(second, tracklets, facts) of a busy site with corrections."""
    chance, history, names = random.Random(seed), [], {camera: [] for camera in CAMERAS}
    for second in range(1, 400, 3):
        camera = chance.choice(CAMERAS)
        name = f"{camera}{second}"
        names[camera].append(name)
        facts = [chance.choice([unmatched(name), unmatched(name), retract(name)])]
        link = chance.choice(LINKS)
        if names[link.from_camera] and names[link.to_camera]:
            free = match(names[link.from_camera].pop(0), names[link.to_camera].pop(0))
            facts.append(free)
        history.append((second, [tracklet(name, second - 2, second)], facts))
    return history


@pytest.mark.parametrize("seed", range(3))
def test_restarts_change_nothing(seed):
    """With every tick's parts committed, an application that starts anew each time says exactly the same."""
    settings = SETTINGS.model_copy(update={"minimum_coverage": 0.5})  # each restart costs a second of coverage
    steady, restarted = World(settings=settings), World(settings=settings)
    for second, tracklets, facts in random_history(seed):
        steady.run(second, tracklets, facts)
        restarted.restart()
        restarted.run(second, tracklets, facts)
    steady.run(700)
    restarted.run(700)
    unequal = {"event_id", "seq", "coverage", "observed_at_s", "observed_at", "published_at_s", "published_at"}
    assert len(steady.said) > 50
    assert max(message.revision for message in steady.said) > 3
    said, said_anew = ([message.model_dump(exclude=unequal) for message in w.said] for w in (steady, restarted))
    assert said == said_anew


def test_rare_directions_are_counted_together_when_there_are_too_many(validate):
    passages = [Counted(str(i), "a", f"class-{i % 7}", 0, 1, f"zone-{i % 40}", f"zone-{i % 41}") for i in range(3000)]
    counts = flow("a", 1.0, passages)["counts"]
    assert sum(one["n"] for one in counts) == 3000
    assert len(counts) <= MOST_FLOWS + 7
    message = Flow(
        **LETTERHEAD.once(1.0), interval_start_s=0, interval_s=60, revision=1, camera="a", coverage=1.0, counts=counts
    )
    validate(topic_of(message, "demo"), encode(message))
