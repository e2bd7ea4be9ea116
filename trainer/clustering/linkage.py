"""Average linkage on a sparse graph, where some pairs must stay apart: groups that no chance bridge chains together.

Symbols: items i, j with similarity s_ij = 1 − d_ij on the pairs of the graph and 0 elsewhere; groups A, B.

    S(A, B) = Σ_{i ∈ A, j ∈ B} s_ij / (|A|·|B|), and "never" where one i ∈ A, j ∈ B must stay apart
    merge the A, B of the largest S, as long as 1 − S ≤ reach

Method: group average (Sokal and Michener 1958). It is reducible, S(A ∪ B, C) ≤ max(S(A, C), S(B, C)), and "never" keeps
it so: two groups that are each other's nearest may be merged at any time (Bruynooghe 1977; Murtagh 1983), so each round
merges all such pairs at once, and a group without a partner within reach never finds one and leaves the work.

Related: constrained clustering with must-link and cannot-link, Wagstaff et al. (ICML 2001), Davidson and Ravi (2005).

Cost law: E·log E a round for the E pairs that are left, which shrink to a fraction in a few rounds; 10–40 rounds.
Memory law: about 60 bytes per pair of the graph or of those that stay apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trainer.clustering.jaccard import TIE, Graph

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Merges:
    """The tree of N items, in no order; a group is named by its smallest item."""

    count: int  # N
    first: Integers  # (M,) the group that goes on
    second: Integers  # (M,) the group that joins it
    distances: NDArray[np.float64]  # (M,) 1 − S of the two

    def cut(self, eps: float) -> Integers:
        """The group of each item (N,) when only merges of at most `eps` were made, numbered by first items."""
        made = self.distances <= eps + TIE
        pairs = coo_array(
            (np.ones(made.sum(), np.int8), (self.first[made], self.second[made])), (self.count, self.count)
        )
        return in_order(connected_components(pairs, directed=False)[1])


@dataclass(frozen=True, slots=True)
class _Pairs:
    """What is known between groups, each pair once, first < second."""

    first: Integers
    second: Integers
    total: NDArray[np.float64]  # Σ s
    apart: NDArray[np.bool_]

    def take(self, rows: NDArray[np.bool_]) -> _Pairs:
        return _Pairs(self.first[rows], self.second[rows], self.total[rows], self.apart[rows])


def average_linkage(graph: Graph, apart: tuple[Integers, Integers], reach: float) -> Merges:
    """The merges within `reach`, at most the graph's. `apart`: items (P,) and (P,) that are never in one group."""
    count, half = len(graph), graph.half
    rows = np.repeat(np.arange(count, dtype=np.int64), np.diff(half.starts))
    pairs = _joined(
        np.concatenate([rows, apart[0]]),
        np.concatenate([half.columns.astype(np.int64), apart[1]]),
        np.concatenate([1 - half.values.astype(np.float64), np.zeros(len(apart[0]))]),
        np.arange(len(rows) + len(apart[0])) >= len(rows),
    )
    sizes = np.ones(count)
    merges = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    while True:
        similarity = pairs.total / (sizes[pairs.first] * sizes[pairs.second])
        possible = ~pairs.apart & (similarity >= 1 - reach - TIE)
        if not possible.any():
            first, second, distances = (np.concatenate(column) for column in zip(*merges, strict=True))
            return Merges(count, first, second, np.maximum(distances, 0))
        alive = np.zeros(count, np.bool_)
        alive[pairs.first[possible]] = alive[pairs.second[possible]] = True
        chosen = _nearest_of_both(pairs, similarity, np.flatnonzero(possible), count)
        first, second = pairs.first[chosen], pairs.second[chosen]
        merges.append((first, second, 1 - similarity[chosen]))
        sizes[first] += sizes[second]
        name = np.arange(count)
        name[second] = first
        pairs = pairs.take(alive[pairs.first] & alive[pairs.second])
        pairs = _joined(name[pairs.first], name[pairs.second], pairs.total, pairs.apart)


def in_order(labels: Integers) -> Integers:
    """The same groups (N,), numbered by their first items; −1 stays."""
    known = labels[labels >= 0]
    names, places = np.unique(known, return_index=True)
    numbers = np.full(int(names.max(initial=-1)) + 1, -1, np.int64)
    numbers[names[np.argsort(places)]] = np.arange(len(names))
    return np.where(labels >= 0, numbers[labels], -1)


def _nearest_of_both(pairs: _Pairs, similarity: NDArray[np.float64], possible: Integers, count: int) -> Integers:
    """The pairs whose groups have no nearer one; of equals the pair of the smaller numbers, so that there is one."""
    order = possible[np.lexsort((pairs.second[possible], pairs.first[possible], -similarity[possible]))]
    rank = np.arange(len(order))
    best = np.full(count, len(order))
    np.minimum.at(best, pairs.first[order], rank)
    np.minimum.at(best, pairs.second[order], rank)
    return order[(best[pairs.first[order]] == rank) & (best[pairs.second[order]] == rank)]


def _joined(first: Integers, second: Integers, total: NDArray[np.float64], apart: NDArray[np.bool_]) -> _Pairs:
    """Each pair once; what became a pair of a group with itself is gone."""
    kept = first != second
    low, high = np.minimum(first, second)[kept], np.maximum(first, second)[kept]
    order = np.lexsort((high, low))
    low, high, total, apart = low[order], high[order], total[kept][order], apart[kept][order]
    begins = np.flatnonzero(np.append(True, (np.diff(low) != 0) | (np.diff(high) != 0))[: len(low)])
    if not len(begins):
        return _Pairs(low, high, total, apart)
    return _Pairs(low[begins], high[begins], np.add.reduceat(total, begins), np.logical_or.reduceat(apart, begins))
