"""Live cameras side by side: the newest frame of each, whatever becomes of the others."""

import random
import threading
import time
from itertools import count, pairwise

from live_cameras import count_of, live, play

from edge_app.errors import SourceError
from edge_app.sources.cameras import Cameras
from edge_app.sources.settings import CameraSettings


def test_the_pipeline_gets_the_newest_frame_and_the_rest_is_counted(yard, lively):
    yard.scripts = {"a": [lively("a")], "b": [lively("b")]}
    cameras = Cameras([live("a"), live("b")], "live", yard.open)
    taken = {"a": 0, "b": 0}
    last = {"a": 0.0, "b": 0.0}
    stop = threading.Event()
    for index, (now_s, frames) in enumerate(cameras.ticks(stop)):
        for frame in frames:
            assert last[frame.camera] < frame.time_s <= now_s
            assert time.time() - frame.time_s < 0.5
            last[frame.camera] = frame.time_s
            taken[frame.camera] += 1
        time.sleep(0.1)  # a pipeline five times slower than the cameras
        if index == 10:
            stop.set()
    states = cameras.states()
    cameras.close()
    for camera, status in states.items():
        assert status.state == "ok"
        assert status.dropped > status.frames / 2
        assert status.frames - status.dropped - taken[camera] in (0, 1)
        assert 20 < status.fps <= 60


def test_stalled_dead_and_failing_cameras_leave_the_others_alone(yard, lively, frame):
    yard.scripts = {
        "good": [lively("good")],
        "stalling": [[frame("stalling", time.time(), 1), "hang"]],
        "dead": [SourceError("dead: connection refused")],
        "flaky": [[frame("flaky", time.time() + k * 1e-6, k), SourceError("flaky: lost")] for k in range(3)]
        + [lively("flaky")],
    }
    names = list(yard.scripts)
    cameras = Cameras([live(name, stall_after_s=0.5) for name in names], "live", yard.open, rng=random.Random(1))
    try:
        seen = play(cameras, 7, lambda states: states["flaky"].frames > 20)
        states = cameras.states()
    finally:
        yard.released.set()
        cameras.close()
    assert {name: states[name].state for name in names} == {
        "good": "ok", "stalling": "stalled", "dead": "offline", "flaky": "ok",
    }  # fmt: skip
    good = [at_s for at_s, _, frames in seen if any(frame.camera == "good" for frame in frames)]
    assert max(later - earlier for earlier, later in pairwise(good)) < 1.0
    assert count_of(seen, "good") / good[-1] > 20
    assert (states["dead"].frames, states["dead"].last_error) == (0, "dead: connection refused")
    assert (states["flaky"].reconnects, states["flaky"].last_error) == (3, None)


def test_without_any_frame_the_pipeline_still_gets_its_ticks(yard):
    yard.scripts = {"a": [SourceError("no")], "b": [["hang"]]}
    cameras = Cameras([live("a"), live("b", stall_after_s=0.5)], "live", yard.open)
    seen = play(cameras, 1.8)
    states = cameras.states()
    yard.released.set()
    cameras.close()
    assert len(seen) >= 3
    assert all(frames == [] for _, _, frames in seen)
    assert max(b[0] - a[0] for a, b in pairwise(seen)) < 0.8
    assert all(b[1] >= a[1] for a, b in pairwise(seen))
    assert (states["a"].state, states["b"].state) == ("offline", "stalled")


def test_a_frozen_picture_is_reported_although_frames_arrive(yard, frame):
    def frozen():
        for index in count():
            yield frame("a", time.time(), min(index, 5))
            yield 0.02

    yard.scripts = {"a": [frozen], "b": [frozen]}
    sources = [live("a", frozen_after_s=0.4), live("b", frozen_after_s=None)]
    cameras = Cameras(sources, "live", yard.open)
    seen = play(cameras, 3, lambda states: states["a"].state == "stalled")
    states = cameras.states()
    cameras.close()
    assert seen[-1][0] < 2
    assert (states["a"].state, states["b"].state) == ("stalled", "ok")
    assert states["a"].fps > 20


def test_a_bug_in_a_source_is_an_offline_camera_that_is_tried_again(yard, lively):
    yard.scripts = {"a": [[ZeroDivisionError("half a frame")], lively("a")]}
    cameras = Cameras([live("a")], "live", yard.open)
    seen = play(cameras, 4, lambda states: states["a"].frames > 5)
    cameras.close()
    assert count_of(seen, "a") > 0


def test_a_live_camera_that_ends_its_stream_is_opened_again(yard, frame):
    yard.scripts = {"a": [[frame("a", time.time() + k, k)] for k in range(3)]}
    cameras = Cameras([CameraSettings(id="a", source="gst://v4l2src")], "live", yard.open)
    seen = play(cameras, 10, lambda states: states["a"].frames >= 3)
    status = cameras.states()["a"]
    cameras.close()
    assert count_of(seen, "a") >= 3
    assert status.reconnects >= 2
    assert status.state != "ended"


def test_close_is_prompt_although_a_camera_hangs(yard):
    yard.scripts = {"a": [["hang"]]}
    cameras = Cameras([live("a")], "live", yard.open)
    play(cameras, 0.3)
    began_s = time.monotonic()
    cameras.close()
    assert time.monotonic() - began_s < 3
