"""Passages put together from boxes with ids; what is said of each camera, each link, and each pair that was lost."""

import math

import numpy as np
import pytest

from edge_app.associate.facts import End, Match
from edge_app.associate.settings import AssociateSettings, LinkSettings
from edge_app.boxes import Boxes
from edge_app.errors import ConfigurationError
from edge_app.judge.truth import Truth
from edge_app.judge.verdict import CLASSES, CROPS, DETECTOR, DOUBT, TAKEN, TIMES, TRACKER, Standard, judge
from edge_app.types import Detections, Frame, Tracklet

FPS = 10.0
LINK = LinkSettings(from_camera="a", to_camera="b", transit={"min_s": 2, "max_s": 30})
STANDARD = Standard((LINK,), AssociateSettings(class_groups=[["car", "truck"]]), least_frames=4)


def box_of(number):
    return [20.0 * number, 10.0, 20.0 * number + 15, 25.0]


def boxes(*visits, names=("car",)):
    """`visits`: (object, first frame, frames)"""
    rows = sorted((frame, number) for number, first, count in visits for frame in range(first, first + count))
    count = len(rows)
    return Boxes(
        np.array([frame for frame, _ in rows], np.int64),
        np.array([box_of(number) for _, number in rows], np.float32).reshape(-1, 4),
        np.ones(count, np.float32),
        names,
        np.zeros(count, np.int64),
        np.array([number for _, number in rows], np.int64),
    )


def played(truth, camera, frames, found=()):
    """`found`: objects that the detector sees."""
    seen = Detections(
        np.array([box_of(number) for number in found], np.float32).reshape(-1, 4),
        np.ones(len(found), np.float32),
        np.zeros(len(found), np.int64),
    )
    for number in range(frames):
        truth.see(Frame(camera, number / FPS, None, 200, 100, number=number), seen)


def tracklet(camera, number, first, last, name="car", embedded=True):
    times = np.arange(first, last + 1) / FPS
    return Tracklet(
        f"{camera}/{number}/{first}", "node", camera, name, times[0], times[-1], 0.05, "left", "right", math.nan,
        np.ones((int(embedded), 1), np.float32), np.ones(int(embedded), np.float32), "v",
        times, np.tile(np.array(box_of(number), np.float32), (len(times), 1)),
    )  # fmt: skip


def match(before, after):
    ends = End("a", before.id, before.exit_time_s), End("b", after.id, after.entry_time_s)
    return Match("e", 0.0, "confirmed", "g", "a--b", *ends, "car", 1.0, 0.99, 1.0, None, 0.1, None, "v")


def test_passages_and_pairs_follow_from_boxes():
    """Object 1 comes back to camera a after 15 s, which is another passage; hidden for half a second it is one."""
    truth = Truth({"a": boxes((1, 0, 5), (1, 10, 5), (1, 165, 5)), "b": boxes((1, 60, 5), (2, 70, 5))}, {}, ())
    played(truth, "a", 200)
    played(truth, "b", 200)
    assert [(one.object, one.camera, one.entry_time_s, one.exit_time_s, one.frames) for one in truth.passages] == [
        (1, "a", 0.0, 1.4, 10),
        (1, "a", 16.5, 16.9, 5),
        (1, "b", 6.0, 6.4, 5),
        (2, "b", 7.0, 7.4, 5),
    ]
    (pair,) = truth.pairs([LINK])
    assert (pair.link, pair.from_.exit_time_s, pair.transit_s) == ("a--b", 1.4, pytest.approx(4.6))
    back = LinkSettings(from_camera="b", to_camera="a", transit={"min_s": 2, "max_s": 30})
    assert [pair.link for pair in truth.pairs([LINK, back])] == ["a--b", "b--a"]


def test_only_what_the_site_looks_at_counts():
    left = ((0.0, 0.0), (0.2, 0.0), (0.2, 1.0), (0.0, 1.0))  # object 1 stands in it, object 3 does not
    truth = Truth({"a": boxes((1, 0, 5), (3, 0, 5)), "b": boxes((1, 0, 5), names=("person",))}, {"a": left}, ("car",))
    played(truth, "a", 3)  # the recording ends before
    played(truth, "b", 5)
    assert [(one.object, one.camera, one.frames) for one in truth.passages] == [(1, "a", 3)]


def test_boxes_without_ids_are_no_truth():
    with pytest.raises(ConfigurationError, match="camera a: 5 boxes have no id"):
        Truth({"a": boxes((-1, 0, 5))}, {}, ())


@pytest.fixture
def verdict():
    """Nine objects on both cameras, the first of them found; the others are each lost in another way."""
    truth = Truth(
        {"a": boxes(*((n, 0, 10) for n in range(9))), "b": boxes(*((n, 15 if n == 4 else 60, 10) for n in range(9)))},
        {},
        (),
    )
    played(truth, "a", 100, found=[n for n in range(9) if n != 1])
    played(truth, "b", 100, found=range(9))
    before = {n: tracklet("a", n, 0, 9, embedded=n != 3) for n in range(9) if n != 1}
    after = {n: tracklet("b", n, 60, 69, "bus" if n == 5 else "car") for n in range(9) if n != 2}
    after[4] = tracklet("b", 4, 15, 24)
    tracklets = [*before.values(), *after.values(), tracklet("b", 0, 65, 69), tracklet("b", 0, 30, 50)]
    return judge(truth, tracklets, [match(before[0], after[0]), match(before[6], after[7])], STANDARD)


def test_every_lost_pair_is_under_the_first_thing_that_was_missing(verdict):
    assert {reason: dict(places) for reason, places in verdict.lost.items()} == {
        DETECTOR: {"a": 1},
        TRACKER: {"b": 1},
        CROPS: {"a": 1},
        TIMES: {"a--b": 1},
        CLASSES: {"a--b": 1},
        TAKEN: {"a--b": 2},
        DOUBT: {"a--b": 1},
    }
    total = verdict.links[0].recall
    assert sum(sum(places.values()) for places in verdict.lost.values()) == total.count - total.hits == 8


def test_each_camera_and_each_link_has_its_row(verdict):
    rows = {
        one.camera: (str(one.seen.hits), one.seen.count, one.tracklets, one.pieces, one.of_nothing)
        for one in verdict.cameras
    }
    assert rows == {"a": ("8", 9, 8, 0, 0), "b": ("8", 9, 10, 1, 1)}
    for row in verdict.links:
        assert (row.precision.hits, row.precision.count) == (1, 2)
        assert (row.recall.hits, row.recall.count) == (1, 9)
        assert (row.seen_recall.hits, row.seen_recall.count) == (1, 7)
    said = list(verdict.told("truth.jsonl"))
    assert said[0] == "beside the truth in truth.jsonl:"
    assert "counted 10 of 9: 1 further pieces of them, 1 of nothing" in said[2]
    assert "  8 of 9 true pairs were lost:" in said
