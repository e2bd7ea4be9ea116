"""DBSCAN on the sparse Jaccard graph: the labels scikit-learn gives on the dense matrix, in one pass over the pairs.

Method: Ester et al., "A Density-Based Algorithm for Discovering Clusters" (KDD 1996), numbered as scikit-learn does:
a crop is *core* when at least min_samples crops, itself included, lie within eps (≤); clusters are the connected
components of the core crops, numbered by their first core crop; any other crop within eps of a core crop joins the
lowest-numbered of those clusters; the rest are outliers, −1.

Cost law: linear in the pairs of the graph. Memory law: 24 bytes per crop.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from trainer.clustering.jaccard import Graph, inclusive
from trainer.errors import ConfigurationError
from trainer.settings import Settings


class DbscanSettings(Settings):
    """How dense a neighbourhood must be to be a cluster."""

    eps: float = Field(default=0.6, gt=0, lt=1)
    """Largest Jaccard distance of two neighbours. The same value is looser the more crops there are."""
    min_samples: int = Field(default=4, ge=1)
    """Crops within eps, the crop itself included, that make it the core of a cluster."""


def dbscan(graph: Graph, settings: DbscanSettings) -> NDArray[np.int64]:
    """Cluster numbers (N,) int64 from 0, −1 = outlier."""
    if settings.eps > graph.reach:
        raise ConfigurationError(
            [f"eps {settings.eps} exceeds the reach {graph.reach} of the graph: build it with a larger one"]
        )
    half = graph.half
    return _dbscan(half.starts, half.columns, half.values, inclusive(settings.eps), settings.min_samples)


def core_crops(graph: Graph, settings: DbscanSettings) -> NDArray[np.bool_]:
    """(N,) bool: the crops that `dbscan` takes for cores of clusters; the other members only border on one."""
    half = graph.half
    near = half.values <= inclusive(settings.eps)
    rows = np.repeat(np.arange(len(half)), np.diff(half.starts))
    ends = np.concatenate([rows[near], half.columns[near]])
    return 1 + np.bincount(ends, minlength=len(half)) >= settings.min_samples


@njit(nogil=True, cache=True)
def _dbscan(starts, columns, values, eps, min_samples):
    count = len(starts) - 1
    degree = np.ones(count, np.int64)
    for i in range(count):
        for e in range(starts[i], starts[i + 1]):
            if values[e] <= eps:
                degree[i] += 1
                degree[columns[e]] += 1
    core = degree >= min_samples
    parent = _core_components(starts, columns, values, eps, core)
    labels = np.full(count, -1, np.int64)
    clusters = 0
    for i in range(count):  # parents point to the smallest member, so a component is met at its root first
        if core[i]:
            root = _root(parent, i)
            if root == i:
                labels[i] = clusters
                clusters += 1
            else:
                labels[i] = labels[root]
    for i in range(count):
        for e in range(starts[i], starts[i + 1]):
            j = columns[e]
            if values[e] <= eps and core[i] != core[j]:
                inner, border = (i, j) if core[i] else (j, i)
                if labels[border] < 0 or labels[inner] < labels[border]:
                    labels[border] = labels[inner]
    return labels


@njit(nogil=True, cache=True)
def _core_components(starts, columns, values, eps, core):
    """Union-find over pairs of core crops; the root of a component is its smallest member."""
    parent = np.arange(len(core))
    for i in range(len(core)):
        if not core[i]:
            continue
        for e in range(starts[i], starts[i + 1]):
            if values[e] <= eps and core[columns[e]]:
                a, b = _root(parent, i), _root(parent, columns[e])
                if a < b:
                    parent[b] = a
                else:
                    parent[a] = b
    return parent


@njit(nogil=True, cache=True)
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]  # path halving
        i = parent[i]
    return i
