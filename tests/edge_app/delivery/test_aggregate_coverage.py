"""Aggregates of what was not seen: dead cameras, holes, kills, the end of recordings."""

import json

from counted_world import CAMERAS, LETTERHEAD, SETTINGS, START_S, World, match, of, tracklet, unmatched

from edge_app.contract.aggregates import Flow, OriginDestination, TravelTime
from edge_app.contract.topics import encode, topic_of
from edge_app.store.parts import unsealed
from edge_app.store.upgrade import upgraded


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
