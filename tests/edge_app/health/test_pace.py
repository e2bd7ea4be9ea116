"""A pipeline that hangs and one that is too slow are noticed, in monotonic time and in words that stay the same."""

import pytest

from edge_app.health.pace import Pace


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock):
    return Pace(monotonic=clock)


def test_a_pipeline_that_hangs_is_noticed_after_ten_seconds_and_forgiven_at_once(pace, clock):
    assert pace.stuck is None
    clock.now_s += 3600  # nothing came yet: opening cameras may take its time
    assert pace.stuck is None
    pace.moved()
    clock.now_s += 10.0
    assert pace.stuck is None
    clock.now_s += 0.1
    said = pace.stuck
    assert said == "the pipeline has not moved for more than 10 s"
    clock.now_s += 500
    assert pace.stuck == said
    pace.moved()
    assert pace.stuck is None
    pace.over()
    clock.now_s += 500
    assert pace.stuck is None


def play(pace, clock, seconds, processed_per_s, dropped_per_s, counts=(0, 0)):
    for _ in range(int(seconds * 2)):
        clock.now_s += 0.5
        counts = (counts[0] + processed_per_s / 2, counts[1] + dropped_per_s / 2)
        pace.count(*counts)
    return counts


def test_half_of_the_frames_may_be_dropped_and_no_more(pace, clock):
    counts = play(pace, clock, 60, 10, 10)
    assert pace.overloaded is None
    counts = play(pace, clock, 12, 1, 24, counts)  # 96 %
    said = pace.overloaded
    assert "more than 50% of the frames are dropped" in said
    counts = play(pace, clock, 30, 2, 18, counts)
    assert pace.overloaded == said
    counts = play(pace, clock, 20, 11, 9, counts)  # below the limit, but not clearly
    assert pace.overloaded == said
    play(pace, clock, 20, 14, 6, counts)
    assert pace.overloaded is None


def test_a_burst_and_a_start_are_no_overload(pace, clock):
    counts = play(pace, clock, 9, 0, 25)  # nothing can be said of less than ten seconds
    assert pace.overloaded is None
    counts = play(pace, clock, 30, 25, 0, counts)
    play(pace, clock, 2, 0, 25, counts)
    assert pace.overloaded is None


def test_cameras_that_send_nothing_do_not_make_an_overload(pace, clock):
    play(pace, clock, 60, 0, 0)
    assert pace.overloaded is None
