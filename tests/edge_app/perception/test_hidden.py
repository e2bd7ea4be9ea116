"""A standing vehicle that is hidden and seen again is one passage; two vehicles at one stop line are two."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pytest

from edge_app.meter import Meter
from edge_app.perception.crops import CropSelector, CropSettings
from edge_app.perception.finished import TrackletSettings
from edge_app.perception.hidden import MOST, HiddenSettings
from edge_app.perception.perception import Perception
from edge_app.perception.track import TrackerBank, TrackSettings
from edge_app.perception.tracklets import TrackletBuilder
from edge_app.store.parts import Parts
from edge_app.types import Detections, Frame, Tracklet, Tracks, View

EPOCH_S = 1_790_000_000.0
PLACE = (300.0, 200.0, 420.0, 290.0)
FRAME = Frame("a", EPOCH_S, None, 800, 600)
WHITE, RED = np.array([1, 0, 0], np.float32), np.array([0.6, 0.8, 0], np.float32)


@dataclass
class Street:
    """Detector and embedder of a street: when (s) which vehicle is seen in which box, and how each looks."""

    seen: list[tuple[float, float, tuple[float, ...], str]]
    looks: dict[str, np.ndarray]
    class_names: tuple[str, ...] = ("car",)
    version: str = "v1"
    dimension: int = 3

    def detect(self, frames: list[Frame]) -> list[Detections]:
        return [self._found(frame.time_s - EPOCH_S) for frame in frames]

    def _found(self, now_s: float) -> Detections:
        boxes = np.array([box for from_s, to_s, box, _ in self.seen if from_s <= now_s < to_s], np.float32)
        chance = np.random.default_rng(round(now_s * 10))
        boxes = boxes.reshape(-1, 4) + chance.normal(0, 1.0, (len(boxes), 4)).astype(np.float32)
        return Detections(boxes, np.full(len(boxes), 0.9, np.float32), np.zeros(len(boxes), np.int64))

    def embed(self, views: list[View]) -> np.ndarray:
        rows = []
        for view in views:
            now_s = view.time_s - EPOCH_S
            (who,) = [name for from_s, to_s, box, name in self.seen
                      if from_s <= now_s < to_s and np.abs(view.box - box).max() < 10]  # fmt: skip
            rows.append(self.looks[who] + np.random.default_rng(round(now_s * 10)).normal(0, 0.05, 3))
        rows = np.array(rows, np.float32).reshape(-1, 3)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def watched(self, seconds: float) -> list[Tracklet]:
        node = Perception(
            self,
            TrackerBank("n1", "1", {"a": TrackSettings()}, self.class_names),
            CropSelector(CropSettings()),
            self,
            TrackletBuilder("n1", self.class_names, {}, TrackletSettings()),
            Meter(),
            {},
        )
        node.restore(Parts())
        found = []
        for index in range(round(10 * seconds)):
            time_s = EPOCH_S + index / 10
            found += node.see(time_s, [Frame("a", time_s, None, 800, 600, index)])[1]
        return found + node.end()


def test_a_parked_car_hidden_again_and_again_is_one_passage() -> None:
    street = Street([(12.0 * k, 12.0 * k + 9.0, PLACE, "white") for k in range(10)], {"white": WHITE})
    (tracklet,) = street.watched(120.0)
    assert (tracklet.entry_time_s - EPOCH_S, tracklet.exit_time_s - EPOCH_S) == pytest.approx((0.1, 116.9), abs=0.2)
    assert tracklet.id == "n1/a/1/1"
    assert np.isnan(tracklet.heading_rad)
    assert len(tracklet.embeddings) == 8
    assert tracklet.time_sigma_s == 0.05  # the time for which it was hidden is no time between two frames


def test_the_next_vehicle_at_a_stop_line_is_another_one() -> None:
    """The first drives off, and the second moves up, behind a lorry that hides both."""
    seen = [(0.0, 12.0, PLACE, "white"), (15.0, 27.0, PLACE, "red")]
    assert len(Street(seen, {"white": WHITE, "red": RED}).watched(60.0)) == 2


def test_a_twin_that_is_seen_to_move_up_is_another_one() -> None:
    moving = [(13.5 + k / 10, 13.6 + k / 10, tuple(np.add(PLACE, (-200 + 8 * k, 0) * 2)), "twin") for k in range(25)]
    seen = [(0.0, 12.0, PLACE, "white"), *moving, (16.0, 27.0, PLACE, "twin")]
    found = Street(seen, {"white": WHITE, "twin": WHITE}).watched(60.0)
    assert [round(one.entry_time_s - EPOCH_S) for one in found] == [0, 14]


def builder(**hidden: float) -> TrackletBuilder:
    made = TrackletBuilder("n1", ("car",), {}, TrackletSettings(hidden=HiddenSettings(**hidden)))
    made.use_embedder("v1", 3)
    return made


def see(made: TrackletBuilder, track: str, seconds: Iterable[float], box=PLACE, step=(0, 0), look=WHITE) -> None:
    """The track is seen, and at its second observation a view is embedded."""
    for k, second in enumerate(seconds):
        here = np.add(box, np.multiply(step, k).tolist() * 2)
        arrays = np.array([here], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64)
        made.observe(FRAME, Tracks("a", EPOCH_S + second, (track,), *arrays))
        if k == 1 and look is not None:
            made.add_views([View(track, "a", EPOCH_S + second, np.float32(here), 0.8, None)], look[None])


def between(from_s: float, to_s: float) -> Iterable[float]:
    return np.arange(from_s, to_s, 0.1).tolist()


def test_who_does_not_come_back_is_told_as_much_later_as_it_had_stood() -> None:
    made = builder()
    see(made, "stood", between(0, 8))
    assert made.close(["stood"]) == made.give_up(EPOCH_S + 15) == []
    assert made.seen_until(EPOCH_S + 15) == {}, "nobody else waits for it"
    (told,) = made.give_up(EPOCH_S + 16)
    assert told.exit_time_s == pytest.approx(EPOCH_S + 7.9)
    see(made, "parked", between(0, 100))
    assert made.close(["parked"]) == made.give_up(EPOCH_S + 129) == []
    assert len(made.give_up(EPOCH_S + 130.1)) == 1


@pytest.mark.parametrize(
    "how",
    [
        {"step": (8, 0)},  # it drives away, and is told at once
        {"look": None},  # nothing to know it by
        {"seconds": between(0, 5)},  # a glimpse
    ],
)
def test_nobody_else_is_waited_for(how) -> None:
    made = builder()
    see(made, "x", **({"seconds": between(0, 8)} | how))
    assert [one.id for one in made.close(["x"])] == ["x"]


def test_it_can_be_switched_off() -> None:
    made = builder(longest_s=0)
    see(made, "x", between(0, 8))
    assert len(made.close(["x"])) == 1


def test_half_a_car_behind_a_bus_that_leaves_is_the_car() -> None:
    made = builder()
    see(made, "before", between(0, 8))
    made.close(["before"])
    assert made.names() == {"before"}, "its crops are kept while it is waited for"
    half = (300.0, 200.0, 365.0, 290.0)
    see(made, "after", [10.0], half)
    see(made, "after", between(10.1, 12))
    assert made.passage_of("after") == "before"
    assert made.found_again == 1
    (told,) = made.flush()
    assert (told.id, len(told.path_times_s)) == ("before", 64)


def test_it_goes_on_over_a_restart() -> None:
    made, again = builder(), builder()
    see(made, "before", between(0, 8))
    made.close(["before"])
    again.restore(made.snapshot())
    assert again.snapshot() == made.snapshot()
    for one in (made, again):
        see(one, "after", between(10, 12))
    assert again.snapshot() == made.snapshot()
    assert [one.id for one in again.flush()] == ["before"]


def test_looks_of_two_embedders_are_never_compared() -> None:
    made = builder()
    see(made, "before", between(0, 8))
    made.close(["before"])
    made.use_embedder("v2", 3)
    see(made, "after", between(10, 12))
    assert sorted((one.id, one.embedding_version) for one in made.flush()) == [("after", "v2"), ("before", "v1")]


def test_so_many_are_waited_for_and_no_more() -> None:
    made = builder()
    for number in range(MOST + 5):
        see(made, f"{number}", between(0, 7)[::10])
        made.close([f"{number}"])
    assert [one.id for one in made.give_up(EPOCH_S + 9)] == ["0", "1", "2", "3", "4"]
