"""Who rides, by how vehicles move: tiny worlds, and through the real tracker."""

import json
import math

import numpy as np
import pytest
from test_riders import CAR, PERSON, see

from edge_app.perception.traffic import ENOUGH, REMEMBERED, Traffic, motion_of, read


def path(speed: tuple[float, float], height: float = 50.0, seconds: float = 4.0, stands_s: float = 0.0) -> np.ndarray:
    """Time and box, ten times a second, of one that moves at heights per second and may first stand."""
    times = np.arange(round(seconds * 10) + 1) / 10
    x, y = (100 + height * each * np.maximum(times - stands_s, 0) for each in speed)
    return np.stack([times, x, y, x + 30, y + height], axis=1)


def test_a_motion_is_in_heights_of_the_own_box() -> None:
    np.testing.assert_allclose(motion_of(path((2.0, 0.0))), (2.0, 0.0), atol=1e-6)
    np.testing.assert_allclose(motion_of(path((0.0, 1.5), height=200)), (0.0, 1.5), atol=1e-6)
    np.testing.assert_allclose(motion_of(path((2.0, 0.0), stands_s=1.0)), (2.0, 0.0), atol=0.05)
    assert motion_of(path((0.05, 0.0))) is None, "it stands"
    assert motion_of(path((2.0, 0.0), seconds=0.3)) is None, "too short to say"


def test_who_moves_as_vehicles_do() -> None:
    traffic = Traffic()
    for k in range(ENOUGH):
        assert not traffic.moves_so((5.0, 0.0)), "too few are known"
        traffic.learn((4.0 + k / 10, 0.5))
    assert traffic.moves_so((5.0, 0.0))
    assert traffic.moves_so((2.5, 0.3))
    assert not traffic.moves_so((0.8, 0.0)), "who walks the same way"
    assert not traffic.moves_so((0.0, 5.0)), "across the road"
    assert not traffic.moves_so((-5.0, 0.0)), "against it, where nobody drives"
    park = Traffic([(2.0, 0.1)] * ENOUGH)
    assert not park.moves_so((0.9, 0.0)), "who walks where vehicles crawl"
    for _ in range(3):
        traffic.learn((0.5, 0.0))
    assert not traffic.moves_so((0.8, 0.0)), "a queue makes nobody a rider"


def test_what_is_remembered_is_bounded_and_goes_on_after_a_restart() -> None:
    traffic = Traffic()
    for k in range(REMEMBERED + 50):
        traffic.learn((float(k), 1.0))
    assert (len(traffic.motions), traffic.motions[-1]) == (REMEMBERED, (REMEMBERED + 49.0, 1.0))
    assert read(json.loads(json.dumps(traffic.motions))) == traffic
    for damaged in ([[1.0, math.nan]], [["a", 1]], [[1.0]], [1.0]):
        with pytest.raises((ValueError, TypeError)):
            read(damaged)


def test_riders_of_whom_only_the_person_is_found_are_counted_once_traffic_is_known() -> None:
    """Cars and riders alternate in one lane; somebody walks beside it."""
    frames = []
    for turn in range(12):
        for k in range(40):
            x = 20.0 + 16 * k
            vehicle = (CAR, (x, 100, x + 90, 160), 0.8) if turn % 2 == 0 else (PERSON, (x, 100, x + 30, 170), 0.8)
            walker = (PERSON, (40.0 + 1.2 * k, 300, 65.0 + 1.2 * k, 370), 0.8)
            frames.append([vehicle, walker])
        frames += [[]] * 15
    _, told_apart, alone = see(frames, ("car", "motorcycle"), by_motion=False)
    assert ({tracklet.class_name for tracklet in told_apart}, alone.unasked) == ({"car"}, 18), (
        "where it is switched off"
    )
    views, tracklets, builder = see(frames, ("car", "motorcycle"))
    names = [tracklet.class_name for tracklet in tracklets]
    assert names.count("car") == 6
    assert names.count("motorcycle") == 2, (
        "the first three came before five cars were known; a rider is known from then on"
    )
    assert builder.unasked == 12 + 6 - 2
    assert {view.track for view in views} == {tracklet.id for tracklet in tracklets}
