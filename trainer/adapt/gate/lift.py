"""Placebo lift: does an embedder find, in the time in which a vehicle can arrive, anybody more like it than in the time
just before and after, in which it cannot? Pure, and needs no label.

Symbols: x a passage that leaves a camera; [a, b] the link's times; A(x) the passages of x's class that enter the
link's other camera within [a, b] of its leaving; B(x) equally many of them that enter just outside. To each of A
belongs the one of B whose middle is as far from x's, before or after: what merely drifts with time, as light does, is
as like to B as to A. Whoever may have come from there to x's camera by a link that leads back is not among B.

    s = max similarity of x to A(x),   d = max similarity of x to B(x)
    H = mean over exits and links of  1(s > d) + ½ · 1(s = d)          ½: the embedder knows nothing

    bound of H_new − H_old: the lower end of the 95 % interval of a bootstrap over whole hours, both models on the same
    comparisons (hours, because exits of one hour share their light, their queue and their look-alikes)

Everything that does not tell vehicles apart gets about ½: A and B have one class, one camera, one hour, one size and
one distance in time. (A code of the very second can still gain where traffic is thin and none of B is quite as far:
0.60 in the town of tests/benchmarks/gate.py, 0.52 with 200 entries an hour, against one set B. The certain impostors
refuse it.) Where the true continuation was not recorded, a comparison says ½ too, so H of two models is compared,
never read by itself.

Where enough of those beside are left, s is compared with further sets B, chosen in the same way, and counts by the
mean: with one set, an exit whose continuation was not recorded tosses one coin, and such coins are most of the
interval's width. In the demo's town four sets do what three times the exits would
(tests/benchmarks/town.py).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.similarity import Track, similarity
from trainer.adapt.gate.controls import Control, Way, unit_of

TIE = 1e-6  # similarities nearer than this are equal: float32 tells no more
REACH = 2.0  # "as far": within so many lengths of the link's time
RESAMPLES = 2000
PLACEBOS = 4  # sets B of one exit, at most


@dataclass(frozen=True, slots=True)
class Comparison:
    """One exit against one link; numbers of controls."""

    exit: int
    unit: int
    inside: tuple[int, ...]
    outside: tuple[tuple[int, ...], ...]  # sets of equally many, one at least


@dataclass(frozen=True, slots=True)
class Comparisons:
    """All that can be compared, and what cannot."""

    found: tuple[Comparison, ...]
    nobody: int  # exits and links in whose time nobody of the class entered
    no_placebo: int  # exits and links with too few just outside, as far in time

    @property
    def exits(self) -> int:
        return len({one.exit for one in self.found})

    @property
    def units(self) -> NDArray[np.int64]:
        """(C,)"""
        return np.array([one.unit for one in self.found], np.int64)


def comparisons(controls: Sequence[Control], ways: Sequence[Way], unit_s: float) -> Comparisons:
    """Who is compared with whom, the same for every model. O(N log N + comparisons)."""
    entries: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number in sorted(range(len(controls)), key=lambda n: (controls[n].entered_at_s, controls[n].id)):
        if len(controls[number].times_s):
            entries[controls[number].camera, controls[number].class_name].append(number)
    times = {key: [controls[number].entered_at_s for number in numbers] for key, numbers in entries.items()}
    back = {(way.from_camera, way.to_camera): way for way in ways}
    found, nobody, no_placebo = [], 0, 0
    for number, control in enumerate(controls):
        for way in ways:
            if way.from_camera != control.camera or not len(control.times_s):
                continue
            key = way.to_camera, control.class_name
            near = _near(times.get(key, []), control.left_at_s, way)
            there = [entries[key][place] for place in near]
            apart_s = {n: abs(_middle(controls[n]) - _middle(control)) for n in there}
            inside = [n for n in there if way.min_s <= controls[n].entered_at_s - control.left_at_s <= way.max_s]
            led = back.get((way.to_camera, way.from_camera))
            beside = [n for n in there if n not in inside and not _led_to(controls[n], control, led)]
            outside = _placebos(inside, beside, apart_s, REACH * (way.max_s - way.min_s))
            nobody += not inside
            no_placebo += bool(inside) and not outside
            if inside and outside:
                found.append(Comparison(number, unit_of(control.left_at_s, unit_s), tuple(inside), outside))
    return Comparisons(tuple(found), nobody, no_placebo)


def wins(compared: Comparisons, tracks: Sequence[Track]) -> NDArray[np.float64]:
    """(C,) float64: 1 where somebody inside is more alike, 0 where somebody outside is, ½ where they are equal; of
    several sets outside the mean."""
    result = np.zeros(len(compared.found))
    for place, one in enumerate(compared.found):
        leaving = tracks[one.exit].embeddings
        sides = (one.inside, *one.outside)
        s, *others = (max(similarity(leaving, tracks[number].embeddings) for number in side) for side in sides)
        result[place] = np.mean([0.5 if abs(s - d) <= TIE else float(s > d) for d in others])
    return result


def interval(values: NDArray[np.float64], units: NDArray[np.int64], rng: np.random.Generator) -> tuple[float, float]:
    """The 95 % interval of the mean of (C,) values, C ≥ 1, by a bootstrap over whole units."""
    _, place = np.unique(units, return_inverse=True)
    sums, sizes = np.bincount(place, values), np.bincount(place)
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES)
    low, high = np.percentile((drawn @ sums) / (drawn @ sizes), (2.5, 97.5))
    return float(low), float(high)


def _near(times_s: list[float], left_at_s: float, way: Way) -> range:
    """Places in the ascending `times_s` that may be inside or beside the link's time."""
    reach_s = way.max_s + REACH * (way.max_s - way.min_s)
    return range(bisect_left(times_s, left_at_s - reach_s), bisect_right(times_s, left_at_s + reach_s))


def _led_to(other: Control, control: Control, back: Way | None) -> bool:
    """`other` may have gone on to be `control`, by the link that leads back."""
    return back is not None and back.min_s <= control.entered_at_s - other.left_at_s <= back.max_s


def _middle(control: Control) -> float:
    return 0.5 * (control.entered_at_s + control.left_at_s)


def _placebos(
    inside: list[int], beside: list[int], apart_s: dict[int, float], within_s: float
) -> tuple[tuple[int, ...], ...]:
    """Sets of as many as `inside`, as far in time as who is left allows."""
    sets, left = list[tuple[int, ...]](), beside
    while inside and len(sets) < PLACEBOS and len(one := _as_far(inside, left, apart_s, within_s)) == len(inside):
        sets.append(tuple(one))
        left = [number for number in left if number not in one]
    return tuple(sets)


def _as_far(inside: list[int], beside: list[int], apart_s: dict[int, float], within_s: float) -> list[int]:
    """To each of `inside` another of `beside`, as far in time as possible; fewer where there is none."""
    left, chosen = list(beside), []
    for number in inside:
        nearest = min(left, key=lambda n: (abs(apart_s[n] - apart_s[number]), n), default=None)
        if nearest is not None and abs(apart_s[nearest] - apart_s[number]) <= within_s:
            left.remove(nearest)
            chosen.append(nearest)
    return chosen
