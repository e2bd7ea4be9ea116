"""Tiny worlds for the tracker adapter: names, ends, clocks, classes, and going on after a restart."""

import json

import numpy as np
import pytest

from edge_app.errors import StoreError
from edge_app.perception.track import TrackerBank, TrackSettings
from edge_app.store.parts import sealed, unsealed
from edge_app.types import Detections, Tracks

NAMES = ("person", "car", "truck")
EPOCH_S = 1_790_000_000.0


def bank(boot: str = "7", cameras: tuple[str, ...] = ("a",), **changes) -> TrackerBank:
    return TrackerBank("n1", boot, {camera: TrackSettings(**changes) for camera in cameras}, NAMES)


def seen(*objects: tuple[float, float, int] | tuple[float, float, int, float]) -> Detections:
    """Objects x, y, class and score → 40×40 boxes."""
    rows = np.array([each[:2] for each in objects], np.float32).reshape(-1, 2)
    scores = np.array([each[3] if len(each) > 3 else 0.9 for each in objects], np.float32)
    classes = np.array([each[2] for each in objects], np.int64)
    return Detections(np.concatenate([rows, rows + 40], axis=1), scores, classes)


def drive(tracker: TrackerBank, frames: range, camera: str = "a", start_s: float = EPOCH_S) -> list[Tracks]:
    """A car and a truck that move right, ten frames a second."""
    return [tracker.update(camera, start_s + k / 10, seen((5.0 * k, 50, 1), (5.0 * k, 200, 2))) for k in frames]


def same(first: Tracks, second: Tracks) -> bool:
    arrays = all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("boxes", "scores", "classes"))
    return arrays and (first.ids, first.ended, first.time_s) == (second.ids, second.ended, second.time_s)


def test_objects_keep_their_names_and_their_measured_boxes() -> None:
    tracks = drive(bank(), range(20))
    assert tracks[0].ids == ()  # one look is not a track yet
    assert {each.ids for each in tracks[1:]} == {("n1/a/7/1", "n1/a/7/2")}
    np.testing.assert_array_equal(tracks[9].boxes, [[45, 50, 85, 90], [45, 200, 85, 240]])
    assert tracks[9].classes.tolist() == [1, 2]
    assert tracks[9].boxes.dtype == np.float32


def test_cameras_do_not_know_each_other() -> None:
    both = bank(cameras=("a", "b"))
    left, right = drive(both, range(5), "a"), drive(both, range(5), "b")
    assert left[-1].ids == ("n1/a/7/1", "n1/a/7/2")
    assert right[-1].ids == ("n1/b/7/1", "n1/b/7/2")


def test_a_track_ends_when_it_was_lost_for_long_enough() -> None:
    tracker = bank(lost_after_s=1.0)
    drive(tracker, range(10))
    empty = [tracker.update("a", EPOCH_S + 0.9 + k / 10, seen()) for k in range(1, 15)]
    ended = [k for k, each in enumerate(empty, start=1) if each.ended]
    assert ended == [11]  # the first frame more than a second after the last look
    assert set(empty[10].ended) == {"n1/a/7/1", "n1/a/7/2"}
    assert [each.ids for each in drive(tracker, range(40, 43))][-1] == ("n1/a/7/3", "n1/a/7/4")


def test_a_short_gap_and_a_weak_look_keep_the_track() -> None:
    tracker = bank()
    for k in range(10):
        tracker.update("a", EPOCH_S + k / 10, seen((5.0 * k, 50, 1)))
    tracker.update("a", EPOCH_S + 1.0, seen())
    weak = tracker.update("a", EPOCH_S + 1.3, seen((65, 50, 1, 0.2)))
    assert weak.ids == ("n1/a/7/1",)
    assert not weak.ended


def test_a_pause_of_the_camera_ends_what_was_there() -> None:
    tracker = bank()
    drive(tracker, range(10))
    after = tracker.update("a", EPOCH_S + 60, seen((45, 50, 1)))  # at the very place of the old car
    assert set(after.ended) == {"n1/a/7/1", "n1/a/7/2"}
    assert after.ids == ()
    assert tracker.update("a", EPOCH_S + 60.1, seen((45, 50, 1))).ids == ("n1/a/7/3",)


def test_a_dead_camera_does_not_keep_its_tracks_open() -> None:
    tracker = bank(cameras=("a", "b"), silent_after_s=2.0)
    drive(tracker, range(10), "a")
    drive(tracker, range(30), "b")
    assert tracker.expire(EPOCH_S + 2.8) == ()  # it may only lag
    assert set(tracker.expire(EPOCH_S + 3.0)) == {"n1/a/7/1", "n1/a/7/2"}
    assert tracker.expire(EPOCH_S + 3.0) == ()
    assert drive(tracker, range(30, 33), "a")[-1].ids == ("n1/a/7/3", "n1/a/7/4")


def test_late_and_repeated_frames_are_skipped_and_counted() -> None:
    one, other = bank(), bank()
    drive(one, range(10))
    drive(other, range(10))
    for late_s in (0.9, 0.5):
        assert one.update("a", EPOCH_S + late_s, seen((300, 300, 1))).ids == ()
    assert one.skipped_frames == 2
    assert all(same(*pair) for pair in zip(drive(one, range(10, 20)), drive(other, range(10, 20)), strict=True))


def test_a_clock_set_back_begins_anew() -> None:
    tracker = bank()
    drive(tracker, range(10))
    first = tracker.update("a", EPOCH_S - 3600, seen((45, 50, 1)))
    assert set(first.ended) == {"n1/a/7/1", "n1/a/7/2"}
    assert tracker.update("a", EPOCH_S - 3599.9, seen((45, 50, 1))).ids == ("n1/a/7/3",)


def test_flickering_classes_are_one_track_but_separate_groups_never() -> None:
    tracker = bank()
    for k in range(10):
        tracks = tracker.update("a", EPOCH_S + k / 10, seen((5.0 * k, 50, 1 + k % 2)))  # car, truck, car, …
        assert tracks.ids == (("n1/a/7/1",) if k else ())
    for k in range(10, 14):
        tracks = tracker.update("a", EPOCH_S + k / 10, seen((5.0 * k, 50, 0)))  # a person in its place
    assert tracks.ids == ("n1/a/7/2",)


def test_going_on_from_a_snapshot_is_going_on() -> None:
    rng = np.random.default_rng(3)
    frames = [
        seen(*[(x, y, int(c), float(s)) for x, y, c, s in zip(rng.uniform(0, 600, 9), rng.uniform(0, 400, 9),
                                                              rng.integers(0, 3, 9), rng.random(9), strict=True)])
        for _ in range(80)
    ]  # fmt: skip
    gone, wanted = rng.uniform(0, 0.4, 80).cumsum(), bank(boot="7")
    for k in range(40):
        wanted.update("a", EPOCH_S + gone[k], frames[k])
    restored = bank(boot="7")
    assert restored.restore(wanted.snapshot()) == ()
    for k in range(40, 80):
        assert same(
            wanted.update("a", EPOCH_S + gone[k], frames[k]), restored.update("a", EPOCH_S + gone[k], frames[k])
        )


def test_after_a_restart_old_ids_stay_and_numbers_go_on() -> None:
    before = bank(boot="7")
    drive(before, range(10))
    after = bank(boot="8")
    after.restore(before.snapshot())
    tracks = [
        after.update("a", EPOCH_S + k / 10, seen((5.0 * k, 50, 1), (5.0 * k, 200, 2), (400, 400, 1)))
        for k in range(10, 13)
    ][-1]
    assert tracks.ids == ("n1/a/7/1", "n1/a/7/2", "n1/a/8/3")


def test_tracks_of_a_removed_camera_are_named() -> None:
    before = bank(cameras=("a", "b"))
    drive(before, range(3), "a")
    drive(before, range(3), "b")
    assert bank(cameras=("b",)).restore(before.snapshot()) == ("n1/a/7/1", "n1/a/7/2")


def test_a_foreign_or_damaged_snapshot_is_refused() -> None:
    tracker = bank()
    drive(tracker, range(5))
    good = tracker.snapshot()
    with pytest.raises(StoreError, match="settings of a changed"):
        bank(lost_after_s=2.0).restore(good)
    with pytest.raises(StoreError, match="expected crosslane"):
        bank().restore(good.replace(b"crosslane.tracks/2", b"crosslane.tracks/9", 1))
    head, body = good.split(b"\n", 1)
    pickled = b'{"format": "crosslane.tracks/1", "trackers": "2.6.1"}\ncos\nsystem\n(S\'true\'\ntR.'
    for damaged in (b"", b"garbage", head + b"\n", head + b"\n" + body[:-20], pickled):
        fresh = bank()
        with pytest.raises(StoreError, match="anew"):
            fresh.restore(damaged)
        assert drive(fresh, range(3))[-1].ids == ("n1/a/7/1", "n1/a/7/2")


@pytest.mark.parametrize(
    "change",
    [
        lambda stored: stored.update(trackers="0.0.1"),
        lambda stored: stored.pop("cameras"),
        lambda stored: stored.update(cameras=[]),
        lambda stored: stored["cameras"]["a"].update(names=[]),
        lambda stored: stored["cameras"]["a"].update(libraries=[]),
        lambda stored: stored["cameras"]["a"]["libraries"][0].update(next_id="x"),
        lambda stored: stored["cameras"]["a"]["libraries"][0]["tracks"][0].update(state=[1.0]),
        lambda stored: stored["cameras"]["a"]["libraries"][0]["tracks"][1].update(covariance=[float("nan")] * 64),
        lambda stored: stored["cameras"]["a"]["libraries"][0]["tracks"][1].pop("age"),
    ],
)
def test_a_snapshot_that_is_sealed_but_makes_no_sense_is_refused_and_changes_nothing(change) -> None:
    tracker = bank(cameras=("a", "b"))
    drive(tracker, range(5), "a")
    drive(tracker, range(5), "b")
    stored = json.loads(unsealed(tracker.snapshot(), "crosslane.tracks/2"))
    change(stored)
    fresh = bank(cameras=("a", "b"))
    before = fresh.snapshot()
    with pytest.raises(StoreError, match="anew"):
        fresh.restore(sealed("crosslane.tracks/2", json.dumps(stored).encode()))
    assert fresh.snapshot() == before
