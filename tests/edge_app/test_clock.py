"""The node's clock under a hand that steps it both ways."""

import logging

import pytest
from hands import Hands

from edge_app.clock import HOLD_S, LATEST_S, Clock, kernel_synchronised

YEARS_S = 25 * 365 * 86400.0


@pytest.mark.parametrize("by_s", [YEARS_S, 3600.0, 1.5, -1.5, -3600.0, -YEARS_S])
def test_a_step_is_noticed_said_and_forgotten_once_it_has_held(caplog, by_s):
    hands = Hands()
    clock = hands.clock()
    assert clock.state == "ok"
    hands.set(by_s)
    with caplog.at_level(logging.WARNING):
        assert clock.wall() == hands.wall_s
    assert f"{by_s:+.0f} s" in caplog.text
    assert (clock.state, clock.steps) == ("suspect", 1)
    hands.run(HOLD_S - 1)
    assert clock.state == "suspect"
    hands.run(1)
    assert (clock.state, clock.steps) == ("ok", 1)


def test_a_clock_that_is_set_again_has_to_hold_again():
    hands = Hands()
    clock = hands.clock()
    for by_s in (3600.0, -3600.0, 5.0):
        hands.set(by_s)
        assert clock.state == "suspect"
        hands.run(HOLD_S - 5)
    assert (clock.state, clock.steps) == ("suspect", 3)
    hands.run(5)
    assert clock.state == "ok"


def test_ntp_at_its_daily_work_is_no_step():
    hands = Hands()
    clock = hands.clock()
    for _ in range(1000):
        hands.run(600)
        hands.set(0.3)  # 500 ppm
        assert clock.state == "ok"


def test_a_clock_that_nobody_sets_is_unknown_and_that_is_asked_anew():
    hands = Hands()
    hands.synchronised = False
    clock = hands.clock()
    assert clock.state == "unknown"
    hands.synchronised = True
    assert clock.state == "ok"


@pytest.mark.parametrize(("wall_s", "told_s"), [(-5.0, 0.0), (1e15, LATEST_S)])
def test_a_time_that_no_message_can_say_is_not_told(wall_s, told_s):
    assert Clock(lambda: wall_s, lambda: 0.0).wall() == told_s


def test_the_kernel_is_asked():
    assert kernel_synchronised() in (True, False)
    assert Clock().state in ("ok", "unknown")
    assert Clock().machine == Clock().machine
