"""Recordings that are played in real time, alone and beside live cameras."""

import threading
import time
from itertools import pairwise

import pytest
from live_cameras import START_S, count_of, live, play

from edge_app.sources import open_source
from edge_app.sources.cameras import Cameras
from edge_app.sources.settings import CameraSettings


def test_recordings_play_in_real_time_together_and_end(tmp_path, write_clip):
    sources = [
        CameraSettings(id="a", source=str(write_clip(tmp_path / "a.mp4", count=30))),
        CameraSettings(id="b", source=str(write_clip(tmp_path / "b.mp4", count=20)), start_time=START_S + 0.4),
        CameraSettings(id="gone", source=str(tmp_path / "gone.mp4")),
    ]
    cameras = Cameras(sources, "live", speed=1.0)
    seen = play(cameras, 10)
    states = cameras.states()
    cameras.close()
    assert {name: status.state for name, status in states.items()} == {"a": "ended", "b": "ended", "gone": "offline"}
    assert "no such file" in states["gone"].last_error
    first_s = seen[0][0]
    assert 1.0 < seen[-1][0] - first_s < 2.5
    for at_s, now_s, frames in seen:
        assert all(frame.time_s <= now_s for frame in frames)
        assert all(frame.time_s - START_S <= at_s - first_s + 0.3 for frame in frames)
    assert count_of(seen, "a") > 15


def test_recordings_without_pace_are_read_as_fast_as_they_can(clip):
    cameras = Cameras([CameraSettings(id="a", source=str(clip))], "live")
    seen = play(cameras, 10)
    cameras.close()
    status = cameras.states()["a"]
    assert (status.state, status.frames, status.last_time_s) == ("ended", 50, pytest.approx(START_S + 1.96))
    assert count_of(seen, "a") + status.dropped == 50


def test_a_recording_beside_a_live_camera_plays_as_if_it_happened_now(yard, lively, clip):
    """Whatever pace is asked for; from its beginning, although it was played before."""
    yard.scripts = {"a": [lively("a")]}
    later_s = time.time() + 3600  # the clock was set back while we were away

    def opener(settings, after_s):
        return yard.open(settings, after_s) if settings.is_live else open_source(settings, after_s)

    sources = [live("a"), CameraSettings(id="b", source=str(clip)), CameraSettings(id="c", source=str(clip))]
    cameras = Cameras(sources, "live", opener, resume_after={"a": later_s, "b": later_s}, speed=None)
    began_s = time.monotonic()
    seen, lag_s = [], []
    for now_s, frames in cameras.ticks(stop := threading.Event()):
        seen += frames
        lag_s += [now_s - frame.time_s for frame in frames]
        if cameras.states()["b"].state == "ended" or time.monotonic() - began_s > 10:
            stop.set()
    states = cameras.states()
    cameras.close()
    assert yard.after["a"] == [None]
    assert states["b"].frames == 50
    assert max(lag_s) < 1.0  # else its tracks would expire while they are seen
    times = {name: [frame.time_s for frame in seen if frame.camera == name] for name in "bc"}
    assert all(later > earlier for some in times.values() for earlier, later in pairwise(some))
    assert times["b"][-1] - times["b"][0] == pytest.approx(1.96, abs=0.3)
    assert abs(times["b"][-1] - time.time()) < 2.0
    # the same picture of both recordings has the same time
    stamped = {name: {frame.sequence: frame.time_s for frame in seen if frame.camera == name} for name in "bc"}
    both = set(stamped["b"]) & set(stamped["c"])
    assert len(both) > 5
    assert all(abs(stamped["b"][index] - stamped["c"][index]) < 0.02 for index in both)
