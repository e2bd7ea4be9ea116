"""Tiny worlds of persons and two-wheelers through the real tracker, crops and tracklets."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pytest
from test_perception import Colours, drive

from edge_app.meter import Meter
from edge_app.perception.crops import CropSelector, CropSettings
from edge_app.perception.finished import TrackletSettings
from edge_app.perception.perception import Perception
from edge_app.perception.riders import Asked
from edge_app.perception.track import TrackerBank, TrackSettings
from edge_app.perception.tracklets import TrackletBuilder
from edge_app.store.parts import Parts
from edge_app.types import Detections, Frame

NAMES = ("person", "car", "motorcycle")
PERSON, CAR, MOTORCYCLE = range(3)
TWO_WHEELERS = ("bicycle", "motorcycle")
Seen = tuple[int, tuple[float, ...], float]  # class, box, score


@dataclass
class Table:
    """A `Detector` of what a table says of each frame."""

    frames: list[list[Seen]]
    class_names: tuple[str, ...] = NAMES

    def detect(self, frames: list[Frame]) -> list[Detections]:
        return [self._found(self.frames[frame.sequence]) for frame in frames]

    def _found(self, seen: list[Seen]) -> Detections:
        classes, boxes, scores = zip(*seen, strict=True) if seen else ((), (), ())
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes, np.int64)
        )


def see(
    frames: list[list[Seen]],
    classes: Iterable[str] | None,
    two_wheelers: tuple[str, ...] = TWO_WHEELERS,
    by_motion: bool = True,
):
    """The views and the tracklets of ten frames a second, and the builder that made them."""
    asked = Asked(None if classes is None else frozenset(classes), two_wheelers, by_motion)
    settings = {"gate": TrackSettings(two_wheelers=two_wheelers)}
    node = Perception(
        Table(frames),
        TrackerBank("n1", "1", settings, NAMES),
        CropSelector(CropSettings()),
        Colours(),
        TrackletBuilder("n1", NAMES, {}, TrackletSettings(), asked),
        Meter(),
        {},
    )
    node.restore(Parts())
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (400, 800, 3)).astype(np.uint8) for _ in range(4)]
    views, tracklets = drive(
        node, [Frame("gate", 1.79e9 + k / 10, pictures[k % 4], 800, 400, k) for k in range(len(frames))]
    )
    return views, tracklets, node.builder


def rider(x: float, of: str) -> list[Seen]:
    """Who rides at x, of whom the detector finds the person, the machine, both or nobody."""
    person = (PERSON, (x + 5, 100, x + 55, 190), 0.8)
    machine = (MOTORCYCLE, (x, 140, x + 70, 220), 0.6)
    return {"person": [person], "machine": [machine], "both": [person, machine], "nobody": []}[of]


@pytest.mark.parametrize(
    "found",
    [
        ["both"] * 30,
        ["machine"] * 30,
        ["person", "person", "both"] * 10,
        ["person"] * 12 + ["machine"] * 6 + ["person"] * 12,
        ["machine", "person", "nobody", "person", "person", "both"] * 5,
    ],
)
@pytest.mark.parametrize("classes", [("motorcycle", "car"), NAMES, None])
def test_a_rider_is_one_motorcycle_whichever_part_is_found(found: list[str], classes: tuple[str, ...] | None) -> None:
    views, (tracklet,), _ = see([rider(40 + 15.0 * k, of) for k, of in enumerate(found)], classes)
    assert tracklet.class_name == "motorcycle"
    assert len(tracklet.embeddings) > 0
    assert views


def test_of_three_on_one_machine_one_is_counted() -> None:
    frames = [
        [
            (PERSON, (x + 5, 100, x + 45, 190), 0.8),
            (PERSON, (x + 25, 105, x + 60, 190), 0.7),
            (PERSON, (x + 40, 110, x + 75, 190), 0.6),
            (MOTORCYCLE, (x, 140, x + 80, 220), 0.5),
        ]
        for x in (40 + 15.0 * k for k in range(30))
    ]
    _, tracklets, _ = see(frames, NAMES)
    assert [tracklet.class_name for tracklet in tracklets] == ["motorcycle"]
    assert np.ptp(tracklets[0].path_boxes[2:, 2] - tracklets[0].path_boxes[2:, 0]) < 1, "the box is around all of them"


def walk_past(k: int) -> list[Seen]:
    """Somebody walks past a parked motorcycle, close in front of it."""
    x = 100.0 + 6 * k
    return [(MOTORCYCLE, (300, 140, 370, 220), 0.7), (PERSON, (x, 120, x + 35, 225), 0.9)]


def test_who_walks_past_a_parked_motorcycle_stays_a_person() -> None:
    frames = [walk_past(k) for k in range(80)]
    _, tracklets, _ = see(frames, NAMES)
    assert sorted(tracklet.class_name for tracklet in tracklets) == ["motorcycle", "person"]
    walker = next(tracklet for tracklet in tracklets if tracklet.class_name == "person")
    assert walker.exit_time_s - walker.entry_time_s > 7.5, "all the way, also in front of it"
    views, (parked,), builder = see(frames, ("motorcycle", "car"))
    assert parked.class_name == "motorcycle"
    assert builder.unasked == 1, "who is followed and not asked for is counted"
    assert {view.track for view in views} == {parked.id}, "and is not embedded"


def test_persons_are_not_followed_where_nothing_that_is_asked_for_is_ridden() -> None:
    frames = [[*rider(40 + 15.0 * k, "person"), (CAR, (10, 10, 90, 60), 0.9)] for k in range(30)]
    views, (car,), builder = see(frames, ("car",))
    assert (car.class_name, builder.unasked) == ("car", 0)
    assert all(len(view.persons) == 0 for view in views)
    close = [[(PERSON, (60.0, 20, 90, 80), 0.2), (CAR, (10, 10, 90, 60), 0.9)]] * 30
    assert all(len(view.persons) == 1 for view in see(close, ("car",))[0]), "but they are noticed in crops"


def test_told_apart_where_that_is_asked_for() -> None:
    frames = [rider(40 + 15.0 * k, "both") for k in range(30)]
    _, tracklets, _ = see(frames, NAMES, two_wheelers=())
    assert sorted(tracklet.class_name for tracklet in tracklets) == ["motorcycle", "person"]


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ({"person": 9.0}, "person"),
        ({"person": 9.0, "motorcycle": 0.5}, "person"),  # a machine that somebody walked past
        ({"person": 9.0, "motorcycle": 1.0}, "motorcycle"),
        ({"person": 9.0, "motorcycle": 0.5, "bicycle": 0.6}, "bicycle"),
        ({"car": 5.0, "motorcycle": 4.0}, "car"),
        ({"car": 5.0, "truck": 5.0}, "car"),  # the same answer each time
    ],
)
def test_what_a_track_is_by_its_votes(votes: dict[str, float], expected: str) -> None:
    assert Asked(None, TWO_WHEELERS).class_of(votes) == expected
