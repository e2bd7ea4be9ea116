"""k-reciprocal Jaccard distance between all crops: exact, and only where it is below 1.

Method: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding" (CVPR 2017), in the form all
public unsupervised Re-ID trainers share. Symbols: R(i, k) first k entries of i's neighbour list, itself included; f_i
unit feature.

    A_i = { j ∈ R(i, k1) : i ∈ R(j, k1) };   B_i the same with k = round(k1 / 2) + 1, round half to even
    E_i = A_i ∪ every B_j, j ∈ A_i, with |B_j ∩ A_i| > 2/3 |B_j|
    V[i, j] = softmax over j ∈ E_i of -(2 - 2 f_i·f_j);   V[i] ← mean of V[r] over r ∈ R(i, k2)
    d(i, j) = 1 - m / (2 - m),   m = Σ_l min(V[i, l], V[j, l]),   clipped at 0

The released codes search k1 neighbours with the crop itself among them, so their "k1 + 1" slices have k1 columns; so
here.

Two crops have d < 1 only when their rows of V overlap, and DBSCAN with eps < 1 never looks at the others. So V is
kept as sparse rows, min-sums run over inverted lists, and only d ≤ reach is kept, once per pair. A pair that is not
in the graph has d > reach; it is never zero.

Memory law: about (5·k1 + 16·|V_i| + 8·edges_i) bytes per crop, |V_i| the length of a row of V (60–200), edges_i kept
pairs; no N×N array. Cost law: Σ_i |E_i|·D for the weights and Σ_l |V^l|²/2 for the min-sums, V^l the inverted list of
l: linear in N as long as no crop is the neighbour of everyone. Rows are computed one by one, so threads never change
a bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from trainer.clustering import kernels
from trainer.clustering.knn import check_features
from trainer.errors import DataError
from trainer.settings import Settings

Integers = NDArray[np.int32]
Floats = NDArray[np.float32]
Chunk = tuple[NDArray[np.int64], Integers, Floats]  # sizes of the rows, columns, values
TIE = 1e-6  # two crops that share 4 of 6 neighbours lie at exactly 0.5, which float32 sums make 0.5 ± 1e-7


class JaccardSettings(Settings):
    """The neighbourhoods of the Jaccard distance."""

    k1: int = Field(default=30, ge=1)
    """Neighbours searched per crop, the crop itself included."""
    k2: int = Field(default=6, ge=1)
    """Neighbours whose rows are averaged (local query expansion), the crop itself included; 1 switches it off."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Sparse rows (compressed sparse rows, CSR)."""

    starts: NDArray[np.int64]  # (N + 1,) int64: row i is columns[starts[i]:starts[i + 1]]
    columns: Integers  # (nnz,) int32
    values: Floats  # (nnz,) float32

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def nbytes(self) -> int:
        return self.starts.nbytes + self.columns.nbytes + self.values.nbytes


@dataclass(frozen=True, slots=True)
class Graph:
    """All pairs with distance ≤ reach. `half` holds each pair once, in the row of its larger number; no diagonal."""

    half: Rows
    reach: float

    def __len__(self) -> int:
        return len(self.half)

    def both(self) -> Rows:
        """Each pair in both of its rows, columns ascending, without the diagonal: twice the memory of `half`."""
        return Rows(*kernels.both_directions(self.half.starts, self.half.columns, self.half.values))


def jaccard_graph(
    features: Floats, neighbours: Integers, settings: JaccardSettings, reach: float, workers: int | None = None
) -> Graph:
    """The Jaccard distances ≤ reach of (N, D) float32 unit rows with neighbour lists (N, k1) int32 from `nearest`.

    `reach` < 1 is the largest eps that will be tried; `workers` are threads, by default one per core.
    """
    features = check_features(features)
    scales = np.ones(len(features), np.float32)
    weights = encode(features, neighbours, half=half_width(settings.k1), scales=scales, workers=workers)
    weights = expand_queries(weights, neighbours, settings.k2, workers)
    return overlap_graph(weights, reach, workers)


def inclusive(distance: float) -> np.float32:
    """The bound for "no farther than `distance`" that float32 distances of exactly that much do not miss."""
    return np.float32(distance + TIE)


def half_width(k1: int) -> int:
    """Columns of the half sets B: round(k1 / 2) + 1, half to even."""
    return round(k1 / 2) + 1


def encode(features: Floats, neighbours: Integers, *, half: int, scales: Floats, workers: int | None = None) -> Rows:
    """V before query expansion: rows sum to 1. `scales` (N,) multiply the squared distances of a row (1 to cluster)."""
    _check_neighbours(neighbours, len(features))
    full_mask = np.empty(neighbours.shape, np.bool_)
    half_mask = np.empty((len(features), min(half, neighbours.shape[1])), np.bool_)
    spans = _spans(len(features), workers)
    with ThreadPoolExecutor(_workers(workers)) as pool:
        list(pool.map(lambda span: kernels.mutual(neighbours, full_mask, *span), spans))
        list(pool.map(lambda span: kernels.mutual(neighbours, half_mask, *span), spans))

    def weights(first: int, last: int) -> Chunk:
        sets = kernels.expanded_sets((neighbours, full_mask, half_mask), features, scales, first, last)
        sizes, columns, exponents = sets
        return sizes, columns, _softmax(sizes, exponents)

    return _rows(weights, len(features), workers)


def _softmax(sizes: NDArray[np.int64], exponents: Floats) -> Floats:
    """Softmax of ragged rows, as one dense softmax for all rows of one length.

    torch's, because the public code's is: where two crops lie at exactly eps its last bit decides.
    """
    starts = np.cumsum(sizes) - sizes
    result = np.empty_like(exponents)
    for size in np.unique(sizes):
        places = starts[sizes == size, None] + np.arange(size)
        result[places] = torch.softmax(torch.from_numpy(exponents[places]), dim=1).numpy()
    return result


def expand_queries(weights: Rows, neighbours: Integers, k2: int, workers: int | None = None) -> Rows:
    """Local query expansion: each row becomes the mean of the rows of its first k2 neighbours; rows still sum to 1."""
    k2 = min(k2, neighbours.shape[1])
    if k2 == 1:
        return weights
    starts, columns, values = weights.starts, weights.columns, weights.values
    return _rows(
        lambda first, last: kernels.average((starts, columns, values), neighbours[:, :k2], first, last),
        len(weights),
        workers,
    )


def overlap_graph(weights: Rows, reach: float, workers: int | None = None) -> Graph:
    """All pairs of rows of V with Jaccard distance ≤ reach."""
    starts, columns, values = weights.starts, weights.columns, weights.values
    lists = kernels.invert(starts, columns, values)
    half = _rows(
        lambda first, last: kernels.overlaps((starts, columns, values), lists, inclusive(reach), first, last),
        len(weights),
        workers,
    )
    return Graph(half, reach)


def _check_neighbours(neighbours: NDArray[Any], count: int) -> None:
    if neighbours.ndim != 2 or len(neighbours) != count or neighbours.dtype != np.int32:
        raise DataError(
            f"neighbours must be ({count}, k) int32, got {neighbours.shape} {neighbours.dtype}: "
            "search them with `nearest`"
        )
    if not np.array_equal(neighbours[:, 0], np.arange(count)):
        raise DataError("each neighbour list must begin with the row itself: search the neighbours with `nearest`")


def _workers(workers: int | None) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return workers or cores


def _spans(count: int, workers: int | None) -> list[tuple[int, int]]:
    """Row ranges: many per worker, because rows differ in cost; not tiny, because each needs a scratch array of N."""
    step = int(np.clip(count // (16 * _workers(workers)), 256, 8192))
    return [(first, min(first + step, count)) for first in range(0, count, step)]


def _rows(kernel: Callable[[int, int], Chunk], count: int, workers: int | None) -> Rows:
    """Run a kernel over all row ranges on threads (it releases the interpreter lock) and join what it returns."""
    with ThreadPoolExecutor(_workers(workers)) as pool:
        chunks: list[Chunk | None] = list(pool.map(lambda span: kernel(*span), _spans(count, workers)))
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.concatenate([chunk[0] for chunk in chunks if chunk is not None]), out=starts[1:])
    columns, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    position = 0
    for number, chunk in enumerate(chunks):
        assert chunk is not None
        end = position + len(chunk[1])
        columns[position:end], values[position:end] = chunk[1], chunk[2]
        position, chunks[number] = end, None  # freed at once, so that the join does not double the memory
        del chunk
    return Rows(starts, columns, values)
