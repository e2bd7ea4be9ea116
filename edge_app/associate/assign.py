"""Small assignments with a "no match" for everybody: components, the best assignment, and how sure we can be of it.

Marginals are by belief propagation on the assignment graph (Williams & Lau, "Approximate evaluation of marginal
association probabilities with belief propagation", IEEE Trans. Aerospace and Electronic Systems 50(4), 2014), which
always converges, and is exact where the graph has no cycle. Cost per component of n × m: O(n m) per iteration, and
O(n² (n + m)) for the cheapest assignment.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_app.types import Integers

Weights = NDArray[np.float64]

FORBIDDEN = -1e9
ITERATIONS = 200
TOLERANCE = 1e-9


def components(edges: list[tuple[str, str]]) -> list[tuple[list[str], list[str]]]:
    """Connected components of a bipartite graph of (row, column) names, in order of first appearance; rows, columns."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for row, column in edges:
        parent[root(("row", row))] = root(("column", column))
    groups: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for kind, name in parent:
        rows, columns = groups.setdefault(root((kind, name)), ([], []))
        (rows if kind == "row" else columns).append(name)
    return list(groups.values())


def marginals(log_odds: Weights) -> tuple[Weights, NDArray[np.float64]]:
    """Probability of each pair, and of "no match" for each row.

    Args:
        log_odds: (n, m) log odds of each pair against both being unmatched; -inf where impossible.

    Returns:
        (n, m) pair probabilities and (n,) no-match probabilities; each row sums to one.
    """
    odds = np.exp(np.clip(log_odds, -60.0, 60.0)) * (log_odds > FORBIDDEN)
    from_columns = np.ones_like(odds)
    for _ in range(ITERATIONS):
        weighted = odds * from_columns
        to_columns = odds / (1.0 + weighted.sum(1, keepdims=True) - weighted)
        updated = 1.0 / (1.0 + to_columns.sum(0, keepdims=True) - to_columns)
        change = np.abs(updated - from_columns).max(initial=0.0)
        from_columns = updated
        if change < TOLERANCE:
            break
    weighted = odds * from_columns
    total = 1.0 + weighted.sum(1)
    return weighted / total[:, None], 1.0 / total


def cheapest(probabilities: Weights, threshold: float) -> Integers:
    """The joint assignment whose errors cost least: for each row its column, or -1.

    A pair of probability p costs (1 - p) times a wrong match, and leaving it p times a missed one; in units of both
    together the pair saves p - threshold, with threshold = wrong / (wrong + missed).

    Args:
        probabilities: (n, m) of the pairs; 0 where impossible.
        threshold: in (0, 1).
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = probabilities.shape
    alone = np.zeros((rows, rows))
    scores = np.concatenate([probabilities - threshold, alone], axis=1)
    _, chosen = linear_sum_assignment(scores, maximize=True)
    return np.where(chosen < columns, chosen, -1).astype(np.int64)
