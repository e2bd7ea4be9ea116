import math
from itertools import pairwise

import pytest
from hands import Hands

from edge_app.sources.clock import SteadyClock
from edge_app.sources.timeline import Backlog, FrameGate, LiveTimeline, RecordingTimeline


def test_a_recording_counts_from_its_start():
    timeline = RecordingTimeline(1000.0, 1.4, 0.04)
    assert [timeline.capture_s(1.4 + k * 0.04) for k in range(3)] == pytest.approx([1000.0, 1000.04, 1000.08])
    assert timeline.jumps == 0


def test_a_recordings_timestamps_that_go_back_are_anchored_again_and_gaps_are_believed():
    timeline = RecordingTimeline(1000.0, 0.0, 0.04)
    times = [timeline.capture_s(t) for t in (0.0, 0.04, 60.0, 0.0, 0.04)]
    assert times == pytest.approx([1000.0, 1000.04, 1060.0, 1060.04, 1060.08])
    assert timeline.jumps == 1


def test_live_times_follow_the_cameras_timestamps_not_the_networks_jitter():
    timeline = LiveTimeline(jump_s=5.0)
    jitter = [0.0, 0.03, 0.0, 0.05, 0.01]
    times = [timeline.capture_s(77.0 + k * 0.1, 1000.0 + k * 0.1 + late) for k, late in enumerate(jitter)]
    assert times == pytest.approx([1000.0 + k * 0.1 for k in range(5)], abs=1e-3)
    assert timeline.jumps == 0


def test_a_burst_of_old_frames_after_connecting_never_lies_in_the_future():
    timeline = LiveTimeline(jump_s=5.0)
    times = [timeline.capture_s(k * 0.1, 1000.0 + k * 0.001) for k in range(20)]  # two seconds in 20 ms
    assert all(time_s <= 1000.0 + k * 0.001 + 1e-9 for k, time_s in enumerate(times))
    assert all(later > earlier for earlier, later in pairwise(times))


def test_stored_frames_are_passed_over_until_the_cameras_own_pace():
    arrivals = [k * 0.002 for k in range(20)] + [0.1 + k * 0.1 for k in range(5)]
    backlog = Backlog(frame_s=0.1)
    assert [backlog.holds(k * 0.1, at_s) for k, at_s in enumerate(arrivals)] == [True] * 20 + [False] * 5
    prompt = Backlog(frame_s=0.1)
    assert [prompt.holds(None, k * 0.1) for k in range(4)] == [True, False, False, False]
    fast = Backlog(frame_s=0.1)
    assert sum(fast.holds(k * 0.1, k * 0.001) for k in range(2000)) == 500


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 10.0])
def test_a_jump_of_the_cameras_timestamps_is_counted_and_does_not_move_time(jump_s):
    timeline = LiveTimeline(jump_s=5.0)
    times = [timeline.capture_s(k * 0.1 + (jump_s if k >= 10 else 0.0), 1000.0 + k * 0.1) for k in range(20)]
    assert times == pytest.approx([1000.0 + k * 0.1 for k in range(20)], abs=0.01)
    assert timeline.jumps == 1


def test_a_drifting_camera_clock_is_followed_without_jumps():
    timeline = LiveTimeline(jump_s=5.0)
    errors = [timeline.capture_s(k * (1 - 2e-4), 1000.0 + k) - (1000.0 + k) for k in range(50_000)]  # 10 s in all
    assert timeline.jumps == 0
    assert max(map(abs, errors)) < 0.01


def test_without_timestamps_arrival_counts_and_time_ascends():
    timeline = LiveTimeline(jump_s=5.0)
    times = [timeline.capture_s(None, arrival_s) for arrival_s in (10.0, 10.1, 10.1, 9.5, 10.3)]
    assert times == pytest.approx([10.0, 10.1, 10.101, 10.102, 10.3])


@pytest.mark.parametrize(("fps", "expected"), [(None, 50), (25.0, 50), (12.5, 25), (10.0, 20), (1.0, 2), (60.0, 50)])
def test_the_gate_keeps_the_asked_rate(fps, expected):
    gate = FrameGate(fps, 946684800.0)
    kept = [k for k in range(50) if gate.keeps(946684800.0 + k * 0.04)]
    assert len(kept) == expected
    assert kept[0] == 0


def test_the_gate_can_be_entered_at_the_start_of_any_cell():
    times = [1000.0 + k * 0.04 for k in range(100)]
    whole = FrameGate(10.0, 1000.0)
    kept = [time_s for time_s in times if whole.keeps(time_s)]
    for after_s in (1000.0, kept[3], kept[3] + 0.01, 1002.5):
        gate = FrameGate(10.0, 1000.0)
        tail = [t for t in times if t >= gate.slot_start_s(after_s) - 1e-6 and gate.keeps(t) and t > after_s]
        assert tail == [t for t in kept if t > after_s]


@pytest.fixture
def hands():
    return Hands(1000.0)


@pytest.fixture
def clock(hands):
    return SteadyClock(lambda: hands.wall_s, lambda: hands.monotonic_s)


def test_the_clock_is_the_wall_clock_while_nothing_happens(hands, clock):
    for _ in range(100):
        hands.run(1.0)
        assert clock() == hands.wall_s
    assert not clock.suspect
    assert clock.steps == 0


def test_a_forward_step_is_followed_at_once_and_suspect_for_a_minute(hands, clock):
    hands.wall_s += 3600
    assert clock() == hands.wall_s
    assert clock.suspect
    hands.run(61)
    assert not clock.suspect
    assert clock.steps == 1


def test_after_a_backward_step_time_goes_on_and_is_suspect(hands, clock):
    last_s = clock()
    hands.set(-3600)
    for _ in range(59):
        hands.run(1.0)
        now_s = clock()
        assert now_s - last_s == pytest.approx(1.0, rel=2e-3)
        last_s = now_s
    assert clock.suspect
    assert (clock.steps, clock.returns) == (1, 0)
    hands.set(3600)  # set right again
    assert math.isclose(clock(), hands.wall_s)
    hands.run(60)
    assert not clock.suspect
    assert (clock.steps, clock.returns) == (2, 0)


@pytest.mark.parametrize("by_s", [-3600.0, -20 * 365 * 86400.0])
def test_an_earlier_time_that_has_held_is_returned_to_once(hands, clock, by_s):
    """In 0.1 an hour was lost at a thousandth of the pace: for 41 days."""
    clock()
    hands.wall_s += by_s
    times = []
    for _ in range(300):
        hands.run(1.0)
        times.append(clock() - hands.wall_s)
    assert times[0] == pytest.approx(-by_s, abs=0.1)
    assert times[100:] == [0.0] * 200
    assert sum(after < before - 1 for before, after in pairwise(times)) == 1
    assert not clock.suspect
    assert (clock.steps, clock.returns) == (1, 1)


def test_a_step_during_the_minute_begins_it_anew(hands, clock):
    for by_s in (-3600.0, -100.0, -50.0):
        hands.set(by_s)
        clock()
        hands.run(50)
        assert clock() - hands.wall_s > 3000
    hands.run(10)
    assert math.isclose(clock(), hands.wall_s)


@pytest.mark.parametrize("stream_s", [77.0, None])
def test_the_times_of_a_cameras_frames_return_with_the_clock(hands, clock, stream_s):
    timeline = LiveTimeline(jump_s=5.0)
    clock()
    hands.set(-3600)
    errors = []
    for k in range(1000):
        hands.run(0.1)
        time_s = timeline.capture_s(None if stream_s is None else stream_s + k * 0.1, clock())
        errors.append(time_s - hands.wall_s)
    assert errors[10] == pytest.approx(3600, abs=0.1)
    assert errors[-1] == pytest.approx(0, abs=0.1)


def test_small_corrections_backwards_are_slewed_without_suspicion(hands, clock):
    hands.wall_s -= 0.2
    assert clock() >= 1000.0
    for _ in range(300):
        hands.run(1.0)
        assert not clock.suspect
    assert clock() == pytest.approx(hands.wall_s)
