"""Pauses between connections, the pace of a backlog, and lines that are damped."""

import logging

import pytest

from edge_app.bus import MqttSettings
from edge_app.delivery.damped import QUIET_S, Damped
from edge_app.delivery.patience import Pace, Patience


def patience(**settings):
    return Patience(MqttSettings(**settings), lambda low, high: (low + high) / 2)


def pauses(subject, ends, lived_s=0.0):
    return [subject.pause_s(end, lived_s, 0.0) for end in ends]


def test_a_lost_connection_comes_back_within_seconds():
    subject = patience()
    assert pauses(subject, ["lost"] * 8) == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert subject.pause_s("lost", 31.0, 0.0) == 0.5  # it lived
    assert all(pause == 30 for pause in pauses(subject, ["lost"] * 2000)[10:])


def test_a_refusal_is_tried_again_after_minutes_and_for_ever():
    subject = patience()
    assert pauses(subject, ["refused"] * 6) == [60, 120, 240, 480, 600, 600]
    assert all(pause == 600 for pause in pauses(subject, ["refused"] * 2000))
    assert subject.pause_s("lost", 0.0, 0.0) == 0.5
    assert subject.pause_s("refused", 0.0, 0.0) == 60


def test_pauses_differ_between_nodes():
    drawn = []
    subject = Patience(MqttSettings(), lambda low, high: drawn.append((low, high)) or 1.0)
    subject.pause_s("refused", 0.0, 0.0)
    assert drawn == [(0.8, 1.2)]


def test_a_rival_is_told_and_given_way_until_it_is_gone():
    subject = patience()
    assert not subject.rival(0.0)
    assert [subject.pause_s("taken over", 5.0, now_s) for now_s in (0.0, 100.0, 300.0)] == [30, 60, 120]
    assert subject.rival(300.0)
    assert subject.rival(1400.0)
    assert not subject.rival(1501.0)
    assert subject.pause_s("taken over", 601.0, 2000.0) == 30


def test_idle_connections_that_end_young_are_a_rival_after_the_third():
    subject = patience()
    assert pauses(subject, ["idle", "idle"], 1.0) == [0.5, 0.5]
    assert subject.pause_s("idle", 61.0, 0.0) == 0.5  # it lived
    assert pauses(subject, ["idle", "lost", "idle", "lost"], 1.0) == [0.5, 0.5, 0.5, 1]
    assert not subject.rival(0.0)
    assert subject.pause_s("idle", 1.0, 0.0) == 30
    assert subject.rival(0.0)


def test_pace_allows_no_burst_and_makes_up_for_a_short_sleep():
    pace = Pace(10.0, 0.25)
    assert [pace.may(0.0) for _ in range(6)] == [True] * 4 + [False] * 2  # a quarter of a second slept
    assert sum(pace.may(1000.0 + n * 0.02) for n in range(500)) == pytest.approx(100, abs=4)


def test_lines_are_written_once_and_counted():
    written = []
    lines = Damped(lambda level, text: written.append((level, text)))
    for now_s in range(40):
        lines.say(logging.WARNING, "lost", now_s / 10)
        lines.say(logging.INFO, "connected", now_s / 10)
    assert written == [(logging.WARNING, "lost"), (logging.INFO, "connected")]
    lines.say(logging.WARNING, "another", QUIET_S + 1)
    assert written[2:4] == [
        (logging.WARNING, "lost (and 39 times more in 301 s)"),
        (logging.INFO, "connected (and 39 times more in 301 s)"),
    ]
    written.clear()
    lines.say(logging.WARNING, "lost", QUIET_S + 2)
    lines.look(QUIET_S + 3, end=True)
    assert written == [(logging.WARNING, "lost (and 1 times more in 2 s)")]
    lines.look(3 * QUIET_S)
    lines.say(logging.WARNING, "lost", 3 * QUIET_S)
    assert written[1:] == [(logging.WARNING, "lost")]
