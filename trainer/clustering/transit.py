"""What time says about pairs of crops: how long the way from camera to camera takes is learned from the clusters.

Symbols: crops i, j seen by cameras a, b at times t_i, t_j; Δ = t_j − t_i; s_ij = 1 − Jaccard distance.

    r_ab(Δ) = P(Δ | i, j in one cluster, a, b) / P(Δ | any i, j of a, b)       as histograms over bins of |Δ| that grow
    s'_ij   = min(1, s_ij · 2√r / (√r + 1))                                    r = r_ab(t_j − t_i)

Where the ways have no usual duration r is 1 and nothing moves. Clocks of cameras may differ by any constant: r_ab is a
table of its own for each ordered pair. The root, because the clusters that r is counted on are partly wrong; both
counts are drawn together by SHRINKAGE pairs, so that a way that was hardly seen decides nothing. Where the owner of a
site has written down how long its ways take (`trainer.clustering.ways`), the first is drawn to waits within them
instead, of which those without are UNUSUAL times as likely: so ways say something before any cluster is known.

Related: Wang et al., "Spatial-Temporal Person Re-identification" (AAAI 2019), arXiv 1812.03282, learns such histograms
from labelled identities and adds them to the ranking. Here they come from the clusters of appearance alone, without
labels, and shape the graph that is clustered again; the network itself never sees time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.clustering.jaccard import Graph, Rows, inclusive
from trainer.clustering.ways import Windows

Integers = NDArray[np.int64]
Seconds = NDArray[np.float64]
Mask = NDArray[np.bool_]

_OUTWARD = np.geomspace(1, 30_000, 24)  # from a second to a working day
EDGES_S = np.concatenate([-_OUTWARD[::-1], _OUTWARD])  # (48,) between 49 bins; the outermost have no end
BINS = len(EDGES_S) + 1
SHRINKAGE = 50  # pairs
UNUSUAL = 0.05  # of a wait outside the ways that are written down, against one within
BLOCK = 1 << 20  # pairs that are weighed together, to bound the memory


@dataclass(frozen=True, slots=True)
class Transits:
    """How much likelier a wait is within one identity than by chance."""

    ratios: NDArray[np.float64]  # (C, C, BINS): from camera, to camera, bin of the wait; 1 = says nothing
    names: Integers  # (C,) the numbers of these cameras
    cameras: Integers  # (N,) row of each crop in `ratios`; −1 = unknown
    times_s: Seconds  # (N,); nan = unknown

    def weigh(self, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
        """The ratios of pairs of crop numbers (E,), any integers; 1 where a camera or a time is unknown."""
        waits = self.times_s[second] - self.times_s[first]
        known = np.isfinite(waits) & (self.cameras[first] >= 0) & (self.cameras[second] >= 0)
        bins = np.searchsorted(EDGES_S, np.where(known, waits, 0.0), side="right")
        return np.where(known, self.ratios[self.cameras[first], self.cameras[second], bins], 1.0)


def transits_of(labels: Integers, cameras: Integers, times_s: Seconds, ways: Windows | None = None) -> Transits:
    """Learn from labels (N,), −1 = outlier, cameras (N,), −1 = unknown, and times (N,), nan = unknown. `ways`: the
    usual waits between cameras, where they are known.

    O(C·N·BINS·log N) for C cameras; no pair is ever written down.
    """
    known = (cameras >= 0) & np.isfinite(times_s)
    names = np.unique(cameras[known])
    place = np.where(known, np.searchsorted(names, cameras), -1)
    clustered, one_group = labels >= 0, np.zeros_like(labels)
    ratios = np.ones((len(names), len(names), BINS))
    for a in range(len(names)):
        for b in range(len(names)):
            first, second = place == a, place == b
            chance = _waits(one_group, times_s, first, second)
            same = _waits(labels, times_s, first & clustered, second & clustered)
            if chance.sum():
                expected = chance / chance.sum()
                usual = expected * _usual(ways or {}, int(names[a]), int(names[b]))
                found = (same + SHRINKAGE * usual / max(usual.sum(), 1e-12)) / (same.sum() + SHRINKAGE)
                ratios[a, b] = np.divide(found, expected, out=np.ones(BINS), where=expected > 0)
    return Transits(ratios, names, place, times_s)


def learn_transits(
    graph: Graph,
    cluster: Callable[[Graph], Integers],
    cameras: Integers,
    times_s: Seconds,
    ways: Windows | None = None,
) -> Transits:
    """What the clusters of the graph say about the waits; where `ways` are known, clusters that know them already."""
    if ways:
        nobody = np.full(len(graph), -1, np.int64)
        graph = by_time(graph, transits_of(nobody, cameras, times_s, ways), graph.reach)
    return transits_of(cluster(graph), cameras, times_s, ways)


def by_time(graph: Graph, transits: Transits, reach: float) -> Graph:
    """The graph with every pair's similarity moved by its wait; pairs that are then farther than `reach` are left out.
    To be whole it must come from a graph of `reach_before(reach)`. O(pairs)."""
    half = graph.half
    rows = np.repeat(np.arange(len(half), dtype=np.int32), np.diff(half.starts))
    moved = np.empty_like(half.values)
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        root = np.sqrt(transits.weigh(rows[block], half.columns[block]))
        moved[block] = 1 - np.minimum(1, (1 - half.values[block]) * 2 * root / (root + 1))
    kept = moved <= inclusive(reach)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=len(half)))])
    return Graph(Rows(starts.astype(half.starts.dtype), half.columns[kept], moved[kept]), reach)


def reach_before(reach: float) -> float:
    """The farthest distance that time can still bring down to `reach`: a similarity at most doubles."""
    return (1 + reach) / 2


def _usual(ways: Windows, a: int, b: int) -> NDArray[np.float64]:
    """How likely each wait from camera a to b is, but for a factor, (BINS,): 1 within a way between the two, either
    way round, UNUSUAL without; 1 everywhere where none is known."""
    lower, upper = np.append(-np.inf, EDGES_S), np.append(EDGES_S, np.inf)
    within = np.zeros(BINS, np.bool_)
    if (a, b) in ways:
        within |= (upper > ways[a, b][0]) & (lower <= ways[a, b][1])
    if (b, a) in ways:
        within |= (lower < -ways[b, a][0]) & (upper >= -ways[b, a][1])
    return np.where(within, 1.0, UNUSUAL) if within.any() else np.ones(BINS)


def _waits(groups: Integers, times_s: Seconds, first: Mask, second: Mask) -> NDArray[np.float64]:
    """How many pairs of one group, a crop of `first` and another of `second`, lie so far apart in time: (BINS,).

    Groups are laid so far apart on one time line that no edge reaches from one to the next.
    """
    if not first.any() or not second.any():
        return np.zeros(BINS)
    either = times_s[first | second]
    begin_s, stride_s = either.min(), np.ptp(either) + 2 * EDGES_S[-1]
    here, line = (np.sort(groups[rows] * stride_s + times_s[rows] - begin_s) for rows in (first, second))
    base = np.sort(groups[first]) * stride_s  # sorted like `here`: searching in order is four times as fast
    before, after = (np.searchsorted(line, base + side).sum() for side in (-EDGES_S[-1], stride_s - EDGES_S[-1]))
    below = [np.searchsorted(line, here + edge).sum() for edge in EDGES_S]
    counts = np.diff(np.array([before, *below, after], np.float64))
    counts[BINS // 2] -= np.count_nonzero(first & second)  # a crop and itself
    return counts
