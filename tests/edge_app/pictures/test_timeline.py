"""The timeline is drawn of whatever there is."""

import math

import cv2
import numpy as np

from edge_app.associate.facts import End, Match
from edge_app.pictures.style import identity_colour
from edge_app.pictures.timeline import WINDOW_S, _layout, timeline
from edge_app.types import Tracklet


def tracklet(name, camera, begin_s, end_s):
    return Tracklet(
        id=name, node="n", camera=camera, class_name="car", entry_time_s=begin_s, exit_time_s=end_s, time_sigma_s=0.1,
        entry_zone="left", exit_zone="right", heading_rad=math.nan, embeddings=np.zeros((0, 4), np.float32),
        qualities=np.zeros(0, np.float32), embedding_version="v", path_times_s=np.zeros(0),
        path_boxes=np.zeros((0, 4), np.float32),
    )  # fmt: skip


def match(first, second):
    return Match(
        event_id=first.id + second.id, observed_at_s=99.0, state="confirmed", global_id="n-1-2",
        link=f"{first.camera}--{second.camera}", from_=End(first.camera, first.id, first.exit_time_s),
        to=End(second.camera, second.id, second.entry_time_s), class_name="car", transit_s=1.0, posterior=0.9,
        margin=1.0, runner_up=None, decision_delay_s=1.0, supersedes=None, embedding_version="v",
    )  # fmt: skip


A, B, C, D = (
    tracklet("1", "a", 100, 104),
    tracklet("2", "a", 102, 106),
    tracklet("3", "a", 105, 108),
    tracklet("4", "b", 112, 118),
)


def test_bars_never_lie_over_one_another():
    lanes, bottom = _layout(["a", "b"], [C, D, B, A])
    assert lanes["a"].rows == {"1": 0, "2": 1, "3": 0}
    assert lanes["b"].rows == {"4": 0}
    assert lanes["b"].top > lanes["a"].top + lanes["a"].height
    assert bottom == lanes["b"].top + lanes["b"].height


def test_it_is_drawn_with_and_without_the_truth(tmp_path):
    for number, truth in enumerate([{}, {"verdicts": {("1", "4"): "wrong"}, "missed": [("2", "4")]}]):
        path = tmp_path / f"{number}.png"
        timeline(path, ["a", "b"], [A, B, C, D], [match(A, D)], title="A test", **truth)
        red = (cv2.imread(str(path)) == (0x49, 0x51, 0xF8)).all(-1).sum()  # style.WRONG as BGR
        assert (red > 50) == bool(truth)


def test_nothing_and_the_very_old_are_no_problem(tmp_path):
    timeline(tmp_path / "nothing.png", ["a"], [], [])
    old = tracklet("0", "a", 100 - 2 * WINDOW_S, 101 - 2 * WINDOW_S)
    timeline(tmp_path / "old.png", ["a", "b"], [old, A, D], [match(old, A), match(A, D)])
    assert cv2.imread(str(tmp_path / "old.png")).shape[1] < 1.5 * (WINDOW_S * 13 + 400)


def test_an_identity_keeps_its_colour_and_none_is_red():
    assert identity_colour("n-1-5") == identity_colour("n-1-5") != identity_colour("n-1-6")
    for number in range(300):
        red, green, blue = identity_colour(f"n-1-{number}")
        assert 0.299 * red + 0.587 * green + 0.114 * blue >= 0.4999
        assert not (red > 0.9 and green < 0.4 and blue < 0.4)
