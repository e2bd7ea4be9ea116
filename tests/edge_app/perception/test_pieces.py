"""Two tracks that are one object, and two that are not."""

import numpy as np
import pytest

from edge_app.perception.open_track import OpenTrack
from edge_app.perception.pieces import goes_on, same_object


def track(*rows: tuple[float, ...], camera: str = "a") -> OpenTrack:
    """Time and box of each observation."""
    made = OpenTrack("n1/a/7/1", camera, (1280, 720), rows[0], rows[0])
    for row in rows:
        made.observe(row, "car", 0.9, 100)
    return made


def way(begin_s: float, end_s: float, box: tuple[float, ...], speed: float = 60.0, **more) -> OpenTrack:
    """Ten looks a second at a box that moves to the right, and was at `box` at time 0."""
    times = np.arange(round(begin_s * 10), round(end_s * 10) + 1) / 10
    return track(*((t, box[0] + speed * t, box[1], box[2] + speed * t, box[3]) for t in times), **more)


CAR = (100.0, 300.0, 220.0, 380.0)


@pytest.mark.parametrize(
    ("other", "expected", "why"),
    [
        (way(1, 3, (105, 310, 210, 381)), True, "nearly the same box"),
        (way(0, 5, (120, 330, 180, 382)), True, "a part of it, on the same ground"),
        (way(3.5, 9, (105, 300, 225, 378)), True, "which goes on when the first has ended"),
        (way(0, 4, (120, 330, 180, 420)), False, "in front of it: its foot is further down"),
        (way(0, 4, (215, 300, 330, 380)), False, "behind it in the lane"),
        (way(0, 4, (100, 300, 220, 380), speed=-60), False, "it only meets it"),
        (way(3.9, 9, CAR), False, "together for a moment only"),
        (way(5, 9, CAR), False, "never together"),
        (way(0, 4, CAR, camera="b"), False, "at another camera"),
    ],
)
def test_two_at_one_time(other: OpenTrack, expected: bool, why: str) -> None:
    first = way(0, 4, CAR)
    assert same_object(first, other) is expected, why
    assert same_object(other, first) is expected, why


def test_who_stands_beside_a_parked_car_is_another() -> None:
    parked = way(0, 4, CAR, speed=0)
    assert not same_object(parked, way(0, 4, (130, 320, 160, 382), speed=0))
    assert same_object(parked, way(1, 4, (102, 302, 222, 381), speed=0)), "but this is the car once more"


@pytest.mark.parametrize(
    ("later", "expected", "why"),
    [
        (way(2.4, 4, CAR), True, "where it would be"),
        (way(3.4, 5, CAR), True, "a second later"),
        (way(2.4, 4, (130, 320, 190, 400)), True, "another part of it"),
        (way(4.0, 6, CAR), False, "two seconds later"),
        (way(2.4, 4, (-40, 300, 80, 380)), False, "the next one in the lane"),
        (way(2.4, 4, (100, 320, 125, 350)), False, "much smaller"),
        (way(2.4, 4, (100, 380, 220, 460)), False, "nearer to the camera"),
        (way(1.5, 4, CAR), False, "both at one time"),
        (way(2.4, 4, CAR, camera="b"), False, "at another camera"),
    ],
)
def test_one_after_the_other(later: OpenTrack, expected: bool, why: str) -> None:
    assert goes_on(way(0, 2, CAR), later) is expected, why


def test_another_vehicle_at_the_same_place_is_no_piece() -> None:
    """One drives behind a bus, and another comes out."""
    lost, later = way(0, 2, CAR), way(2.4, 4, CAR)
    lost.look(0.9, np.array([1, 0], np.float32))
    assert goes_on(lost, later), "it was not looked at yet"
    later.look(0.9, np.array([0.1, 0.995], np.float32))
    assert not goes_on(lost, later)
    later.look(0.5, np.array([0.8, 0.6], np.float32))
    assert goes_on(lost, later), "one of its views is like"
