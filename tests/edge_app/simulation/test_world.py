"""The world: the same for everyone, at any moment, and plausible."""

from itertools import pairwise

import numpy as np
import pytest

from edge_app.simulation.looks import Look
from edge_app.simulation.sites import site_named
from edge_app.simulation.world import START_S, World


@pytest.fixture(scope="module")
def world() -> World:
    return World("town", seed=7, seconds=180.0)


def summary(world: World) -> list[tuple]:
    return [
        (p.vehicle, p.camera, p.entry_time_s, p.exit_time_s, p.class_name, p.look, p.lateral_m)
        for p in world.passages()
    ]


def test_equal_parameters_give_an_equal_world_and_another_seed_another(world: World) -> None:
    assert summary(World("town", seed=7, seconds=180.0)) == summary(world)
    assert summary(World("town", seed=8, seconds=180.0)) != summary(world)


def test_a_longer_world_begins_like_a_shorter_one(world: World) -> None:
    short = summary(World("town", seed=7, seconds=60.0))
    assert short == [row for row in summary(world) if row[2] < START_S + 60.0]


def test_another_start_only_shifts_the_times(world: World) -> None:
    moved = World("town", seed=7, seconds=180.0, start_s=5_000.0)
    first, second = world.passages(), moved.passages()
    assert [p.vehicle for p in first] == [p.vehicle for p in second]
    shifts = np.array([p.entry_time_s - q.entry_time_s for p, q in zip(first, second, strict=True)])
    assert np.allclose(shifts, START_S - 5_000.0, atol=1e-5)


def test_random_access_equals_sequential_access(world: World) -> None:
    moments = [("gate", START_S + 3.3), ("bridge", START_S + 60.0), ("gate", START_S + 120.7), ("market", START_S)]
    forwards = [world.visible(*moment) for moment in sorted(moments)]
    fresh = World("town", seed=7, seconds=180.0)
    backwards = [fresh.visible(*moment) for moment in sorted(moments, reverse=True)][::-1]
    for first, second in zip(forwards, backwards, strict=True):
        assert np.array_equal(first.ids, second.ids)
        assert np.array_equal(first.boxes, second.boxes)
        assert np.array_equal(first.occluded, second.occluded)


def test_what_is_visible_is_what_is_passing(world: World) -> None:
    for camera in world.cameras:
        for time_s in START_S + np.arange(0.05, 180.0, 1.7):
            seen = set(world.visible(camera.id, time_s).ids.tolist())
            passing = {
                p.vehicle
                for p in world.passages()
                if p.camera == camera.id and p.entry_time_s <= time_s < p.exit_time_s
            }
            assert seen == passing


def test_arrays_have_their_shapes_and_boxes_lie_in_the_frame(world: World) -> None:
    counts = []
    for camera in world.cameras:
        for time_s in START_S + np.arange(0.0, 180.0, 2.3):
            seen = world.visible(camera.id, time_s)
            counts.append(len(seen))
            assert (seen.ids.dtype, seen.boxes.dtype, seen.classes.dtype) == (np.int64, np.float32, np.int64)
            assert seen.boxes.shape == (len(seen), 4)
            assert (seen.boxes >= 0).all()
            assert (seen.boxes[:, [0, 2]] <= camera.width_px).all()
            assert (seen.boxes[:, [1, 3]] <= camera.height_px).all()
            assert (seen.boxes[:, 2:] - seen.boxes[:, :2] > 8).all()
            assert ((seen.occluded >= 0) & (seen.occluded <= 1)).all()
    assert min(counts) == 0  # moments without traffic
    assert max(counts) >= 5  # and queues


def test_a_vehicle_is_never_in_front_of_two_cameras(world: World) -> None:
    by_vehicle: dict[int, list] = {}
    for passage in world.passages():
        by_vehicle.setdefault(passage.vehicle, []).append(passage)
    for passages in by_vehicle.values():
        for before, after in pairwise(passages):
            assert before.exit_time_s < after.entry_time_s


def test_vehicles_of_one_lane_never_drive_into_each_other(world: World) -> None:
    closest = np.inf
    for camera in world.cameras:
        for time_s in START_S + np.arange(0.0, 180.0, 0.9):
            lanes: dict[float, list[tuple[float, float]]] = {}
            for p in world.visible(camera.id, time_s).passages:
                lanes.setdefault(p.lateral_m, []).append((p.position_m(time_s), p.shape.length_m))
            for lane in lanes.values():
                lane.sort(reverse=True)
                for (ahead, length), (behind, _) in pairwise(lane):
                    closest = min(closest, ahead - length - behind)
    assert closest > 0.3


def test_occlusion_happens_and_grows_from_the_far_to_the_near() -> None:
    world = World("town", seed=11, difficulty=1.0, seconds=200.0)
    hidden = np.concatenate(
        [world.visible("harbour", t).occluded for t in world.start_s + np.arange(0.0, 200.0, 0.5)] or [np.zeros(0)]
    )
    assert (hidden > 0.5).any()
    for t in world.start_s + np.arange(0.0, 200.0, 5.0):
        seen = world.visible("harbour", t)
        assert len(seen) == 0 or seen.occluded[-1] == 0.0  # nothing stands before the nearest


def test_true_links_follow_roads_and_their_transit_times(world: World) -> None:
    roads = {f"{link.from_}--{link.to}": link for link in world.links}
    links = World("town", seed=3, seconds=900.0, difficulty=0.0).true_links()
    assert {link.link for link in links} == set(roads)
    for name, road in roads.items():
        transits = np.array([link.transit_s for link in links if link.link == name])
        assert abs(np.median(transits) - road.median_s) < 0.15 * road.median_s
        assert ((transits >= road.p1_s) & (transits <= road.p99_s)).mean() > 0.93
        assert transits.min() > 0


def test_the_town_has_a_fork_and_vehicles_that_never_return(world: World) -> None:
    assert sum(link.from_ == "gate" for link in world.links) == 2
    onward = {link.from_ for link in world.true_links()}
    early = [p for p in world.passages() if p.exit_time_s < world.end_s - 90.0 and p.camera == "harbour"]
    lost = [p for p in early if p not in onward]
    assert len(early) > 5
    assert lost
    for camera in world.cameras:
        assert sum(link.share for link in world.links if link.from_ == camera.id) < 1.0


def test_difficulty_makes_more_look_alikes_and_more_traffic() -> None:
    worlds = [World("town", seed=5, difficulty=difficulty, seconds=600.0) for difficulty in (0.0, 0.5, 1.0)]
    shares = [world.look_alike_share() for world in worlds]
    assert shares[0] < shares[1] < shares[2]
    assert shares[0] < 0.25
    assert shares[2] > 0.45
    traffic = [len(world.passages()) for world in worlds]
    assert traffic[0] < traffic[2]


def test_persons_walk_only_where_they_are_asked_for(world: World) -> None:
    assert "person" not in {p.class_name for p in world.passages()}
    assert world.class_names == ("car", "van", "truck", "bus")
    busy = World("town", seed=7, seconds=180.0, persons=True)
    assert busy.class_names[-1] == "person"
    assert sum(p.class_name == "person" for p in busy.passages()) > 5


def test_large_sites_are_built_quickly_and_hang_together() -> None:
    world = World("grid-16", seed=1, seconds=600.0)
    assert len(world.cameras) == 16
    names = {camera.id for camera in world.cameras}
    assert {link.from_ for link in world.links} | {link.to for link in world.links} <= names
    assert len(world.passages()) > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"site": "village"}, "expected 'town' or 'grid-N'"),
        ({"site": "grid-1"}, "expected 'town' or 'grid-N'"),
        ({"difficulty": 1.5}, "difficulty is 1.5"),
        ({"seconds": 0.0}, "seconds is 0.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_parameters_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        World(**arguments)


def test_an_unknown_camera_names_the_known_ones(world: World) -> None:
    with pytest.raises(ValueError, match="gate, market, bridge, harbour"):
        world.camera("zoo")
    assert site_named("town").name == "town"


def test_a_look_is_what_can_be_seen() -> None:
    first = Look("saloon", "red", (("roof_sign", "white"),), (1.0, 1.01, 0.99))
    second = Look("saloon", "red", (("roof_sign", "white"),), (0.97, 1.0, 1.0))
    assert first.key == second.key
    assert first != second
