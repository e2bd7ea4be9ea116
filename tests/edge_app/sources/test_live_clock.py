"""Capture times of live cameras under a clock that steps."""

import time
from itertools import count, pairwise

import pytest
from live_cameras import live, play

from edge_app.sources.cameras import Cameras
from edge_app.sources.clock import SteadyClock


def test_time_of_a_camera_never_goes_back_and_wrong_times_are_suspect(yard, frame):
    def stepping():
        for index in count():
            yield frame("a", time.time() - (3600 if index >= 20 else 0), index)
            yield 0.01

    yard.scripts = {"a": [stepping]}
    cameras = Cameras([live("a")], "live", yard.open)
    seen = play(cameras, 3, lambda states: states["a"].frames > 40)
    state = cameras.states()["a"]
    cameras.close()
    times = [frame.time_s for _, _, frames in seen for frame in frames]
    assert all(later > earlier for earlier, later in pairwise(times))
    assert state.state == "clock_suspect"
    assert state.dropped >= 20


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_step_of_the_computers_clock_marks_live_cameras_and_moves_no_time_back(yard, frame, step_s):
    shift = [0.0]
    clock = SteadyClock(lambda: time.time() + shift[0])

    def stamped():
        for index in count():
            shift[0] = step_s if index > 20 else 0.0
            yield frame("a", clock(), index % 250)
            yield 0.01

    yard.scripts = {"a": [stamped]}
    cameras = Cameras([live("a")], "live", yard.open, clock=clock)
    seen = play(cameras, 3, lambda states: states["a"].frames > 40)
    state = cameras.states()["a"]
    cameras.close()
    assert state.state == "clock_suspect"
    times = [frame.time_s for _, _, frames in seen for frame in frames]
    assert all(later > earlier for earlier, later in pairwise(times))
    assert all(later[1] >= earlier[1] for earlier, later in pairwise(seen))


def test_after_a_step_back_has_held_cameras_and_ticks_return_to_the_new_time_once(yard, frame):
    """The minute it takes passes at once here. In 0.1 capture times stayed an hour ahead for 41 days."""
    wall_s, monotonic_s = [0.0], [0.0]
    clock = SteadyClock(lambda: time.time() + wall_s[0], lambda: time.monotonic() + monotonic_s[0])

    def stamped(camera):
        def frames():
            for index in count():
                if camera == "a" and index == 20:
                    wall_s[0] -= 3600
                elif camera == "a" and index == 40:
                    wall_s[0], monotonic_s[0] = wall_s[0] + 61, monotonic_s[0] + 61
                yield frame(camera, clock(), index % 250)
                yield 0.01

        return frames

    yard.scripts = {"a": [stamped("a")], "b": [stamped("b")]}
    cameras = Cameras([live("a"), live("b")], "live", yard.open, clock=clock)
    seen = play(cameras, 10, lambda states: min(states[one].frames for one in "ab") > 80)
    cameras.close()
    nows = [now for _, now, _ in seen]
    assert sum(later < earlier for earlier, later in pairwise(nows)) == 1
    assert abs(nows[-1] - time.time() - wall_s[0]) < 1
    for one in "ab":
        times = [frame.time_s for _, _, frames in seen for frame in frames if frame.camera == one]
        assert sum(later < earlier for earlier, later in pairwise(times)) == 1
        assert len([time_s for time_s in times if time_s < nows[0]]) > 15
