"""Counts that are right although matches are missed: every passage counts for each that it may have been, by its
probability.

    N = Σ p        half of its interval = 1.96 · sqrt(Σ p (1 − p))        of one link: an exit counts once at most

Trips are chains of such choices, so they are drawn: in each of `DRAWS` worlds every passage takes one of those it may
have been, or nobody, and nobody is taken twice; trips are counted in each. Whoever is still free where the second of
two asks is taken with p₂ / (1 − p₁), so that each is taken as often as its probability says. The draws of a passage
depend on its camera and times alone, so the same passages give the same numbers, whichever run of the node named them.

Pure. O(C) for a link with C candidates, O(DRAWS · (P + C)) for the trips of P passages: 30 ms for a thousand.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.aggregates import Expected
from edge_app.delivery.counting import Counted, Link, Table

DRAWS = 200
WIDTH = 1.96  # standard deviations of a 95 % interval
MOST_CLASSES = 40  # in one message; the rarest are counted as "other"
NOBODY, SOMEBODY_ELSE = -1, -2  # whom a passage continues, where it is none of those that are counted
LEAST = 0.005  # trips that are less probable are not said


def expected_on(link: Link, left: Sequence[Counted], table: Table) -> dict[str, Any]:
    """Fields of the travel times of a link, of what left `link.from_camera`."""
    taken: dict[str, list[float]] = defaultdict(list)  # class → how probably each exit took the link
    transits_s: list[float] = []
    weights: list[float] = []
    for one in left:
        if one.camera != link.from_camera:
            continue
        onward = [(to, p) for to, p in table.onward(one) if to.camera == link.to_camera and to.entry_s > one.exit_s]
        taken[one.class_name].append(min(sum(p for _, p in onward), 1.0))
        transits_s += [to.entry_s - one.exit_s for to, _ in onward]
        weights += [p for _, p in onward]
    p10_s, median_s, p90_s = _quantiles(np.array(transits_s), np.array(weights))
    return {
        "expected": {name: _sum(np.array(each), len(each)) for name, each in sorted(_rare_together(taken).items())},
        "expected_p10_s": p10_s,
        "expected_median_s": median_s,
        "expected_p90_s": p90_s,
    }


def expected_trips(
    left: Sequence[Counted], table: Table, patience_s: Mapping[str, float], now_s: float
) -> dict[tuple[str, str], dict[str, Expected]]:
    """Finished trips that began with one of these exits, by first and last camera, and class.

    `patience_s`: how long after leaving a camera a trip may still go on; no trip is counted while it may.
    """
    ready = [one for one in left if one.decided and now_s > one.exit_s + patience_s.get(one.camera, 0.0)]
    if not ready:
        return {}
    order = sorted(_reached(ready, table), key=lambda one: (*_when(one), one.id))
    parents = _drawn(order, {one.id: place for place, one in enumerate(order)})  # (P, DRAWS)
    ends = _ends(order, parents)  # (P, DRAWS) place of the last passage of each one's trip
    cameras = np.array([one.camera for one in order])
    counts: dict[tuple[str, str, str], NDArray[np.int64]] = defaultdict(lambda: np.zeros(DRAWS, np.int64))
    over = np.array([now_s > one.exit_s + patience_s.get(one.camera, 0.0) for one in order])
    wanted = {one.id for one in ready}
    for place, one in enumerate(order):
        if one.id not in wanted:
            continue
        begins = (parents[place] == NOBODY) & over[ends[place]]
        destinations = cameras[ends[place]]
        for camera in np.unique(destinations[begins]):
            counts[one.camera, str(camera), one.class_name] += begins & (destinations == camera)
    found: dict[tuple[str, str], dict[str, Expected]] = defaultdict(dict)
    for (origin, destination, name), drawn in sorted(counts.items()):
        if drawn.mean() >= LEAST:
            low, high = np.quantile(drawn, (0.025, 0.975))
            found[origin, destination][name] = (round(float(drawn.mean()), 2), round(float(low)), round(float(high)))
    return found


def beside(
    pairs: Iterable[Mapping[str, Any]], expected: Mapping[tuple[str, str], Mapping[str, Expected]]
) -> list[dict[str, Any]]:
    """Rows of an OD matrix, with what is expected of each beside what was found."""
    counts = {(row["origin"], row["destination"]): row["counts"] for row in pairs}
    return [
        {"origin": a, "destination": b, "counts": counts.get((a, b), {}), "expected": expected.get((a, b), {})}
        for a, b in sorted({*counts, *expected})
    ]


def _sum(p: NDArray[np.float64], most: int) -> Expected:
    n, half = float(p.sum()), WIDTH * math.sqrt(float((p * (1 - p)).sum()))
    return round(n, 2), round(max(n - half, 0.0), 2), round(min(n + half, most), 2)


def _rare_together(taken: Mapping[str, list[float]]) -> dict[str, list[float]]:
    common = [name for name, _ in Counter({name: len(each) for name, each in taken.items()}).most_common(MOST_CLASSES)]
    found: dict[str, list[float]] = defaultdict(list)
    for name, each in taken.items():
        found[name if name in common else "other"] += each
    return found


def _quantiles(values: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float | None, ...]:
    """10 %, 50 %, 90 % of weighted values; None of nothing."""
    if not len(values) or weights.sum() <= 0:
        return None, None, None
    order = np.lexsort((weights, values))  # whatever the order in which they became known
    share = (np.cumsum(weights[order]) - 0.5 * weights[order]) / weights.sum()
    return tuple(round(float(np.interp(at, share, values[order])), 3) for at in (0.1, 0.5, 0.9))


def _reached(begin: Iterable[Counted], table: Table) -> list[Counted]:
    """These, and all that may follow: whoever competes for one of them is there."""
    found: dict[str, Counted] = {}
    open_ones = list(begin)
    while open_ones:
        one = open_ones.pop()
        if one.id in found:
            continue
        found[one.id] = one
        open_ones += [to for to, _ in table.onward(one)]
    return list(found.values())


def _drawn(order: Sequence[Counted], place_of: Mapping[str, int]) -> NDArray[np.int64]:
    """(P, DRAWS) place of the passage that each one continues in each world."""
    parents = np.full((len(order), DRAWS), NOBODY, np.int64)
    taken = np.zeros((len(order), DRAWS), bool)
    asked = np.zeros(len(order))  # sum of the probabilities of those who have chosen already
    for place, one in enumerate(order):
        if not one.chances:
            continue
        chances_of = sorted((place_of.get(name, SOMEBODY_ELSE), p) for name, p in one.chances)
        befores, p = np.array([place for place, _ in chances_of]), np.array([p for _, p in chances_of])
        here = befores >= 0
        chances = np.tile(p[:, None], (1, DRAWS))  # (K, DRAWS)
        rest = np.maximum(1.0 - asked[befores[here]], p[here])
        chances[here] = np.where(taken[befores[here]], 0.0, (p[here] / rest)[:, None])
        even = (np.random.default_rng(crc32(repr(_when(one)).encode())).permutation(DRAWS) + 0.5) / DRAWS
        chosen = (even > np.cumsum(chances, axis=0)).sum(axis=0)  # K: nobody
        asked[befores[here]] += p[here]
        parents[place] = np.append(befores, NOBODY)[chosen]
        worlds = np.flatnonzero(parents[place] >= 0)
        taken[parents[place, worlds], worlds] = True
    return parents


def _when(one: Counted) -> tuple[float, str, float]:
    return one.entry_s, one.camera, one.exit_s


def _ends(order: Sequence[Counted], parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P, DRAWS) place of the last passage of the trip that each one is part of: the last ones tell those before."""
    ends = np.tile(np.arange(len(order))[:, None], (1, DRAWS))
    for place in range(len(order) - 1, -1, -1):
        worlds = np.flatnonzero(parents[place] >= 0)
        ends[parents[place, worlds], worlds] = ends[place, worlds]
    return ends
