"""Where time goes, by a clock that the test moves."""

import pytest

from edge_app.meter import STAGES, Meter


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_seconds_by_stage_begin_anew_with_every_tick():
    clock = Clock()
    meter = Meter(clock)
    for _ in range(2):
        with meter.stage("detect"):
            clock.now_s += 0.25
    with meter.stage("embed"):
        clock.now_s += 1.0
    clock.now_s += 50.0  # waiting for frames is no work
    assert meter.take() == {**dict.fromkeys(STAGES, 0.0), "detect": 0.5, "embed": 1.0}
    assert meter.take() == dict.fromkeys(STAGES, 0.0)
    assert (meter.ticks, meter.busy_s, meter.total["detect"]) == (2, 1.5, 0.5)


def test_a_stage_that_raises_has_taken_its_time():
    clock = Clock()
    meter = Meter(clock)
    with pytest.raises(ValueError, match="bad"), meter.stage("track"):  # noqa: PT012, the time passes in there
        clock.now_s += 2.0
        raise ValueError("bad")
    assert meter.take()["track"] == 2.0


def test_an_unknown_stage_is_a_mistake():
    with pytest.raises(KeyError), Meter().stage("lunch"):
        pass
