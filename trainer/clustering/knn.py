"""Nearest neighbours of every crop among all crops: the input of the Jaccard distance.

Exact by default, on all cores or on the GPU when faiss sees one (`trainer.clustering.search`). Cost law: N²·D
multiply-adds. Memory law: 8·k·N bytes; nothing N×N ever exists.

An approximate index breaks clustering without a word (with a recall of a few per cent the adjusted Rand index fell from
0.995 to 0.003), so `search: inverted_lists` measures its recall on a sample, widens its search until the recall is good
enough, and refuses otherwise.
"""

from __future__ import annotations

from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.clustering.search import QUERY_BLOCK, exact_search
from trainer.errors import DataError
from trainer.settings import Settings

UNIT_TOLERANCE = 1e-3
RECALL_SAMPLE = 1_000
TIE_TOLERANCE = 1e-6


class NeighbourSettings(Settings):
    """How nearest neighbours are searched."""

    search: Literal["exact", "inverted_lists"] = "exact"
    """`exact` compares every pair; `inverted_lists` compares near cells only and proves its recall on a sample."""
    minimum_recall: float = Field(default=0.98, ge=0.9, le=1.0)
    """Recall at k below which `inverted_lists` refuses to answer."""
    gpu: bool = True
    """Search exactly on the GPU where faiss sees one; `inverted_lists` stay on the processor."""
    seed: int = 0
    """Chooses the sample that measures the recall."""


def check_features(features: NDArray[Any]) -> NDArray[np.float32]:
    """The features as contiguous (N, D) float32; `DataError` unless they are finite unit rows."""
    if features.ndim != 2 or 0 in features.shape:
        raise DataError(f"features must have shape (N, D) with N, D ≥ 1, got {features.shape}: were any crops read?")
    features = np.ascontiguousarray(features, dtype=np.float32)
    squares = np.einsum("nd,nd->n", features, features)
    bad = np.flatnonzero(~(np.abs(squares - 1) <= 2 * UNIT_TOLERANCE))  # also true where not finite
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(features)} feature rows are not of unit length (row {bad[0]} has length "
            f"{np.sqrt(squares[bad[0]]):.4g}): normalise the features, and look for broken "
            "crops where they are nan or 0"
        )
    return features


def nearest(
    features: NDArray[np.float32], k: int, settings: NeighbourSettings | None = None
) -> NDArray[np.int32]:  # (N, min(k, N)) int32, most similar first
    """For each of the (N, D) float32 unit rows its k most similar rows, itself always first.

    The row itself is one of the k, as in all released Re-ID trainers ("k1 columns, self included"). Where more than k
    rows are equal the search may not return the row itself; it then replaces the last one, so `result[i, 0] == i`
    always holds.
    """
    settings = settings or NeighbourSettings()
    features = check_features(features)
    k = min(k, len(features))
    if settings.search == "inverted_lists":
        return _nearest_in_lists(features, k, settings)
    _, found = exact_search(features, features, k, gpu=settings.gpu)
    return _self_first(found, np.arange(len(features)))


def _self_first(found: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """The neighbour lists (Q, k) of `rows` (Q,), in place, each row moved to the front of its own list."""
    wrong = np.flatnonzero(found[:, 0] != rows)
    lists, own = found[wrong], rows[wrong, None]
    missing = ~(lists == own).any(axis=1)
    lists[missing, -1] = own[missing, 0]
    order = np.argsort(lists != own, axis=1, kind="stable")
    found[wrong] = np.take_along_axis(lists, order, axis=1)
    return found


def _nearest_in_lists(features: NDArray[np.float32], k: int, settings: NeighbourSettings) -> NDArray[np.int32]:
    """`nearest` by an inverted file, with just as many probed cells as the measured recall needs."""
    count, dimension = features.shape
    cells = max(1, min(int(2 * np.sqrt(count)), count // 40))
    index = faiss.index_factory(dimension, f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    generator = np.random.default_rng(settings.seed)
    index.train(features[np.sort(generator.choice(count, min(count, 40 * cells), replace=False))])
    index.add(features)
    sample = np.sort(generator.choice(count, min(count, RECALL_SAMPLE), replace=False))
    _probe_enough(index, features, sample, k, settings)
    result = np.empty((count, k), np.int32)
    for first in range(0, count, QUERY_BLOCK):
        rows = np.arange(first, min(first + QUERY_BLOCK, count))
        _, found = index.search(features[rows], k)
        short = np.flatnonzero(found[:, -1] < 0)  # their cells hold fewer than k rows
        if len(short):
            found[short] = exact_search(features[rows[short]], features, k, gpu=settings.gpu)[1]
        result[rows] = _self_first(found, rows)
    return result


def _probe_enough(
    index: Any, features: NDArray[np.float32], sample: NDArray[np.int64], k: int, settings: NeighbourSettings
) -> None:
    """Double `index.nprobe` until the recall at k over the sample suffices; `DataError` when a quarter fails."""
    exact, _ = exact_search(features[sample], features, k, gpu=settings.gpu)
    recall, probes = 0.0, 1
    while probes <= max(1, index.nlist // 4):
        index.nprobe = probes
        similarity, _ = index.search(features[sample], k)
        recall = float((similarity >= exact[:, -1:] - TIE_TOLERANCE).mean())
        if recall >= settings.minimum_recall:
            return
        probes *= 2
    raise DataError(
        f"the approximate search finds {recall:.1%} of the true neighbours with {index.nprobe} of {index.nlist} cells, "
        f"expected at least {settings.minimum_recall:.0%}: use `search: exact`"
    )
