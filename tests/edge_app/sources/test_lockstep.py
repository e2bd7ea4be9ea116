import threading
import time

import numpy as np
import pytest

from edge_app.errors import ConfigurationError, SourceError
from edge_app.sources.cameras import Cameras
from edge_app.sources.settings import RECORDING_START, CameraSettings

START_S = RECORDING_START.timestamp()


def recording(id: str, path="x.mp4", **more) -> CameraSettings:
    return CameraSettings(id=id, source=str(path), **more)


def played(cameras: Cameras, stop: threading.Event | None = None):
    try:
        return list(cameras.ticks(stop or threading.Event()))
    finally:
        cameras.close()


def told(ticks):
    """What a tick says, without its pixels."""
    return [(now_s, [(frame.camera, frame.time_s, frame.sequence) for frame in frames]) for now_s, frames in ticks]


@pytest.fixture(scope="module")
def clips(tmp_path_factory, write_clip):
    folder = tmp_path_factory.mktemp("lockstep")
    return [
        recording("a", write_clip(folder / "a.mp4", count=50, fps=25)),
        recording("b", write_clip(folder / "b.mp4", count=24, fps=12)),
        recording("c", write_clip(folder / "c.mp4", count=60, fps=30), start_time=START_S + 0.5, fps=10),
    ]


def test_every_frame_comes_once_in_order_in_its_tick(clips):
    ticks = played(Cameras(clips, "lockstep"))
    frames = [frame for _, frames in ticks for frame in frames]
    times = [frame.time_s for frame in frames]
    assert times == sorted(times)
    assert [sum(frame.camera == camera for frame in frames) for camera in "abc"] == [50, 24, 20]
    for now_s, inside in ticks:
        assert all(now_s - 0.1 - 1e-3 <= frame.time_s < now_s for frame in inside)
    assert np.diff([now_s for now_s, _ in ticks]) == pytest.approx(0.1)


def test_two_runs_are_the_same(clips):
    one, two = played(Cameras(clips, "lockstep")), played(Cameras(clips, "lockstep"))
    assert told(one) == told(two)
    for (_, ours), (_, theirs) in zip(one, two, strict=True):
        assert all(np.array_equal(a.image, b.image) for a, b in zip(ours, theirs, strict=True))


def test_a_run_resumed_at_a_tick_is_the_tail_of_the_unbroken_one(clips):
    whole = told(played(Cameras(clips, "lockstep")))
    for cut in (1, 7, 15, 23):
        last: dict[str, float] = {}
        for _, frames in whole[:cut]:
            last.update({camera: time_s for camera, time_s, _ in frames})
        tail = told(played(Cameras(clips, "lockstep", resume_after=last)))
        without_sequence = [
            [(now_s, [frame[:2] for frame in frames]) for now_s, frames in ticks] for ticks in (tail, whole[cut:])
        ]
        assert without_sequence[0] == without_sequence[1]


def test_ticks_without_frames_are_not_lost_between_two_runs():
    slow = recording("gate", "sim://town/gate?fidelity=detections&fps=4&seconds=4")
    whole = told(played(Cameras([slow], "lockstep")))
    assert sum(not frames for _, frames in whole) > len(whole) / 2
    for cut in range(1, len(whole)):
        seen = [frame for _, frames in whole[:cut] for frame in frames]
        cameras = Cameras([slow], "lockstep", resume_after={"gate": seen[-1][1]})
        tail = list(cameras.ticks(threading.Event(), resume_at=whole[cut - 1][0]))
        cameras.close()
        assert [now_s for now_s, _ in tail] == [now_s for now_s, _ in whole[cut:]]


def test_a_recording_that_fails_is_left_out_and_the_others_go_on(clips, tmp_path):
    missing = recording("gone", tmp_path / "none.mp4")
    cameras = Cameras([missing, *clips], "lockstep")
    assert told(played(cameras)) == told(played(Cameras(clips, "lockstep")))
    states = cameras.states()
    assert {camera: status.state for camera, status in states.items()} == {
        "gone": "offline", "a": "ended", "b": "ended", "c": "ended",
    }  # fmt: skip
    assert states["gone"].last_error == f"camera gone ({tmp_path}/none.mp4): no such file"
    assert (states["a"].frames, states["a"].dropped, states["a"].last_time_s) == (50, 0, pytest.approx(START_S + 1.96))


def test_a_recording_that_fails_in_the_middle_keeps_what_it_gave(yard, frame):
    yard.scripts = {
        "a": [[frame("a", 10.0), frame("a", 10.2), SourceError("torn")]],
        "b": [[frame("b", 10.0 + k * 0.1) for k in range(5)]],
    }
    cameras = Cameras([recording("a"), recording("b")], "lockstep", yard.open)
    frames = [frame for _, frames in played(cameras) for frame in frames]
    assert sorted((f.camera, round(f.time_s, 1)) for f in frames) == [
        ("a", 10.0), ("a", 10.2), ("b", 10.0), ("b", 10.1), ("b", 10.2), ("b", 10.3), ("b", 10.4),
    ]  # fmt: skip
    assert cameras.states()["a"].last_error == "torn"
    assert all(source.closed for sources in yard.opened.values() for source in sources)


def test_a_bug_in_a_source_is_reported_as_its_error(yard, frame):
    yard.scripts = {"a": [[frame("a", 10.0), ZeroDivisionError("half a frame")]], "b": [[frame("b", 11.0)]]}
    cameras = Cameras([recording("a"), recording("b")], "lockstep", yard.open)
    assert len([frame for _, frames in played(cameras) for frame in frames]) == 2
    assert "unexpected ZeroDivisionError" in cameras.states()["a"].last_error


def test_time_that_goes_back_ends_the_recording(yard, frame):
    yard.scripts = {"a": [[frame("a", 10.0), frame("a", 9.0)]]}
    cameras = Cameras([recording("a")], "lockstep", yard.open)
    assert len(played(cameras)) == 1
    assert "capture time went back" in cameras.states()["a"].last_error


def test_empty_ticks_are_given_but_a_long_pause_is_skipped(yard, frame):
    yard.scripts = {"a": [[frame("a", 10.0), frame("a", 10.55), frame("a", 4000.0)]]}
    ticks = told(played(Cameras([recording("a")], "lockstep", yard.open)))
    assert [round(now_s, 3) for now_s, _ in ticks] == [10.1, 10.2, 10.3, 10.4, 10.5, 10.6, 4000.1]
    assert [len(frames) for _, frames in ticks] == [1, 0, 0, 0, 0, 1, 1]


def test_speed_paces_the_ticks(yard, frame):
    yard.scripts = {"a": [[frame("a", 10.0 + k * 0.1) for k in range(10)]]}
    began_s = time.monotonic()
    played(Cameras([recording("a")], "lockstep", yard.open, speed=2.0))
    assert 0.44 < time.monotonic() - began_s < 1.5


def test_a_long_pause_is_skipped_at_any_pace(yard, frame):
    """Else the node would make no step for as long, and its watchdog would bite."""
    yard.scripts = {"a": [[frame("a", 10.0), frame("a", 10.5), frame("a", 4000.0), frame("a", 4000.5)]]}
    cameras = Cameras([recording("a")], "lockstep", yard.open, speed=2.0)
    at_s = [time.monotonic()]
    at_s += [time.monotonic() for _ in cameras.ticks(threading.Event())]
    cameras.close()
    assert len(at_s) == 1 + 6 + 6
    assert 0.4 < at_s[-1] - at_s[0] < 3.0


def test_stop_and_close_are_prompt_and_leave_no_thread(clips):
    stop = threading.Event()
    cameras = Cameras(clips, "lockstep", speed=1.0)
    began_s = time.monotonic()
    for index, _ in enumerate(cameras.ticks(stop)):
        if index == 2:
            stop.set()
    cameras.close()
    assert time.monotonic() - began_s < 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("recording-")]


def test_simulated_cameras_play_in_lockstep():
    sources = [
        CameraSettings(id=id, source=f"sim://town/{id}?seconds=3&fidelity=detections") for id in ("gate", "market")
    ]
    cameras = Cameras(sources, "lockstep")
    ticks = played(cameras)
    states = cameras.states()
    assert {status.state for status in states.values()} == {"ended"}, states
    assert {frame.camera for _, frames in ticks for frame in frames} == {"gate", "market"}
    assert told(ticks) == told(played(Cameras(sources, "lockstep")))


def test_live_cameras_and_double_names_are_refused_with_every_mistake():
    sources = [recording("a"), recording("a"), CameraSettings(id="b", source="rtsp://host/1")]
    with pytest.raises(ConfigurationError) as caught:
        Cameras(sources, "lockstep")
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigurationError, match="no camera"):
        Cameras([], "live")
