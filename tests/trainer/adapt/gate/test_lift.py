"""Placebo lift on worlds that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edge_app.contract.similarity import Track
from trainer.adapt.gate.controls import Control, Way
from trainer.adapt.gate.lift import comparisons, interval, wins

WAY = Way("a", "b", 10.0, 20.0)
ONE = np.eye(4, dtype=np.float32)[:1]


def control(camera: str, entered: float, left: float, class_name: str = "car", crops: int = 1) -> Control:
    rows = np.repeat(ONE, crops, axis=0)
    return Control(f"{camera}{entered}", camera, class_name, entered, left, np.full(crops, entered), rows, rows)


def exits(*waits: float) -> list[Control]:
    """One that leaves at 100 at once, and others that enter and leave so long after, or before."""
    return [control("a", 100, 100), *(control("b", 100 + wait, 100 + wait) for wait in waits)]


def test_inside_and_just_outside_are_of_one_class_and_equally_many():
    others = [control("b", 115, 200, "bus"), control("c", 115, 200), control("b", 114.9, 200, crops=0)]
    found = comparisons([*exits(-14, 2, 9, 12, 20, 21, 35), *others], [WAY], 3600.0)
    (one,) = found.found
    assert (one.exit, one.unit, one.inside) == (0, 0, (4, 5))  # those after 12 and 20 seconds
    assert one.outside == ((1, 6), (3, 7))  # then, of who is left; as far in time: 14 seconds before, and 21 after
    assert (found.exits, found.nobody, found.no_placebo) == (1, 0, 0)


@pytest.mark.parametrize(
    ("waits", "nobody", "no_placebo"),
    [((), 1, 0), ((5, 30), 1, 0), ((15,), 0, 1), ((15, 16, 30), 0, 1), ((15, 1000), 0, 1)],
)
def test_what_cannot_be_compared_is_counted(waits, nobody, no_placebo):
    found = comparisons(exits(*waits), [WAY], 3600.0)
    assert not found.found
    assert (found.nobody, found.no_placebo) == (nobody, no_placebo)


def test_whoever_may_have_come_from_there_is_no_placebo():
    """A two-way street: who left b fifteen seconds before x entered a may be x itself."""
    controls = exits(15, -15, 30)  # as far in time: the one before
    (one,) = comparisons(controls, [WAY], 3600.0).found
    assert one.outside == ((2,), (3,))
    (one, *_) = comparisons(controls, [WAY, Way("b", "a", 10.0, 20.0)], 3600.0).found
    assert (one.exit, one.outside) == (0, ((3,),))


@pytest.mark.parametrize(
    ("waits", "sets"),
    [
        ((15, -15), 1),
        ((15, -15, 30), 2),
        ((15, -15, 100), 1),  # too far
        ((15, -15, 5, 4, 30, 3), 4),
        ((12, 18, -12, -18, 5), 1),  # one is not as many as two
        ((12, 18, -12, -18, 5, 26), 2),
    ],
)
def test_who_is_left_beside_makes_further_placebos(waits, sets):
    (one,) = comparisons(exits(*waits), [WAY], 3600.0).found
    assert len(one.outside) == sets
    members = [number for placebo in one.outside for number in placebo]
    assert len(set(members)) == len(members) == sets * len(one.inside)
    assert not set(members) & set(one.inside)


def test_a_comparison_is_the_mean_over_its_placebos():
    compared = comparisons(exits(15, -15, 5, 4, 3), [WAY], 3600.0)
    rows = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0.8, 0.6], [1, 0], [0, 1]], np.float32)
    assert wins(compared, [Track("a", 0.0, 1.0, row[None]) for row in rows]) == [(1 + 0.5 + 0 + 1) / 4]


def test_a_win_a_loss_and_a_tie():
    controls = [control("a", 0, 100), control("b", 115, 200), control("b", 108, 200)]
    compared = comparisons(controls, [WAY], 3600.0)

    def tracks(inside: int, outside: int) -> list[Track]:
        rows = np.eye(4, dtype=np.float32)
        return [Track(camera, 0.0, 1.0, rows[[n]]) for camera, n in (("a", 0), ("b", inside), ("b", outside))]

    assert wins(compared, tracks(0, 1)) == [1.0]
    assert wins(compared, tracks(1, 0)) == [0.0]
    assert wins(compared, tracks(2, 3)) == [0.5]


def test_what_drifts_with_time_wins_nothing():
    """Embeddings that say only what time it is: A and B are as far in time."""
    times = np.sort(np.random.default_rng(0).uniform(0, 36_000, 4000))
    controls = [control("a" if n % 2 else "b", t, t + 5) for n, t in enumerate(times)]
    angle = times / 36_000 * np.pi
    rows = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    compared = comparisons(controls, [WAY], 3600.0)
    found = wins(compared, [Track(c.camera, 0.0, 1.0, row[None]) for c, row in zip(controls, rows, strict=True)])
    assert len(found) > 800
    assert found.mean() == pytest.approx(0.5, abs=0.1)


def test_the_interval_is_wider_where_hours_differ():
    """Values that differ by the hour count as few, however many they are."""
    values, units = np.repeat([0.0, 1.0, 0.2, 0.8, 0.4, 0.6], 50), np.repeat(np.arange(6), 50)
    low, high = interval(values, units, np.random.default_rng(1))
    naive_low, naive_high = interval(values, np.arange(300), np.random.default_rng(1))
    assert low < 0.5 < high
    assert high - low > 3 * (naive_high - naive_low)
    assert (low, high) == interval(values, units, np.random.default_rng(1))
    assert interval(np.zeros(10), np.arange(10), np.random.default_rng(1)) == (0.0, 0.0)
