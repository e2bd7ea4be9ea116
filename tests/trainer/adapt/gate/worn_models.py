"""Models that follow a good one and should be no worse: in whole numbers, as INT8 ships, and round after round of the
same training, each of which forgets a little of last month. All are asked for as a refresh: no better, no harm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gate_world import FEATURE, WAYS, Passages, Scene, controls_of, matrix, noisy, true_first, unit

from trainer.adapt.gate import gate
from trainer.adapt.gate.verdict import GateSettings, Verdict

STEPS = 127  # of INT8 on either side of zero
NARROW = 1 / 16  # of the range that pictures have: calibrated on the wrong ones
FORGOTTEN = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # round by round: noise of last month's rows, against length one
DAYS, HOURS, PER_HOUR = 8, (6, 9, 12), 60.0  # of the anchor set


@dataclass(frozen=True)
class Worn:
    """One round of a site that is refreshed again and again, and what the truth says of last month."""

    verdict: Verdict
    true_first_before: float
    true_first: float


def shipped(of: Scene) -> dict[str, np.ndarray]:
    """Name → rows (N, CROPS, FEATURE) of the judged passages, by the adapted model as it might ship."""
    rows = {
        "INT8": in_int8(of, of.adapted, of.judged),
        "INT8, calibrated on a sixteenth of the range": in_int8(of, of.adapted, of.judged, NARROW),
    }
    return rows | {"weights of three values": matrix(rounded(of.adapted, np.abs(of.adapted).max(), 1))(of.judged)}


def in_int8(of: Scene, weights: np.ndarray, here: Passages, share: float = 1.0) -> np.ndarray:
    """Weights with a scale a channel, pictures with one scale: their range in training, or a share of it."""
    largest = share * float(np.quantile(np.abs(of.training.pictures), 0.9999))
    return unit(rounded(here.pictures, largest) @ rounded(weights, np.abs(weights).max(0)))


def rounded(values: np.ndarray, largest: np.ndarray | float, steps: int = STEPS) -> np.ndarray:
    """Rounded to so many steps below the largest, and cut there."""
    scale = largest / steps
    return np.clip(np.round(values / scale), -steps, steps) * scale


def wearing(of: Scene, settings: GateSettings, seed: int) -> list[Worn]:
    """Rounds until one is refused. On the window each model sees as the one before does, in other coordinates; on the
    anchor set, hours of the week before, it has a little more noise. What is accepted is in force, and the best is the
    first until one is not below it (`anchor.after`)."""
    rng = np.random.default_rng([seed, 10])
    week = of.town.drive([24 * day + hour for day in range(-DAYS, 0) for hour in HOURS], PER_HOUR, seed * 10 + 7)
    in_force, clear = (matrix(of.adapted)(passages) for passages in (of.judged, week))
    best, found = noisy(clear, FORGOTTEN[0], seed), list[Worn]()
    before = true_first(week, best)
    for level in FORGOTTEN[1:]:
        rows = unit(in_force @ np.linalg.qr(rng.normal(size=(FEATURE, FEATURE)))[0])
        there = noisy(clear, level, seed)
        controls = controls_of(of.judged, in_force, rows)
        verdict = gate.judge(controls, WAYS, settings, 0, anchor=controls_of(week, best, there))
        found.append(Worn(verdict, before, true_first(week, there)))
        if verdict.decision != "publish":
            break
        in_force = rows
        if (verdict.measures[-1].value or 0.0) >= 0:
            best = there
    return found
