"""Aggregates: numbers of tiny worlds by hand, corrections with higher revisions, restarts."""

import random

import pytest
from counted_world import CAMERAS, LETTERHEAD, LINKS, SETTINGS, START_S, World, match, of, retract, tracklet, unmatched

from edge_app.contract.aggregates import Flow, OriginDestination, TravelTime
from edge_app.contract.topics import encode, topic_of
from edge_app.delivery.counting import MOST_FLOWS, Counted, flow


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
