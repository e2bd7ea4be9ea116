"""k-reciprocal re-ranking of a gallery, exact and sparse: memory linear in queries + gallery, instead of quadratic.

Method: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding" (CVPR 2017), as in the authors'
code: k1 + 1 neighbours (the crop itself and k1 others), weights exp(−d / d_max) with d the squared Euclidean distance
and d_max the largest one of the row, and the final distance (1 − λ)·Jaccard + λ·d / d_max.

Re-ranking uses the whole gallery and the other queries at once; a re-ranked score is printed only as such.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.clustering import kernels
from trainer.clustering.jaccard import Rows, encode, expand_queries, half_width
from trainer.clustering.knn import NeighbourSettings, check_features, nearest
from trainer.clustering.search import exact_search
from trainer.errors import DataError
from trainer.metrics.retrieval import QUERY_BLOCK, squared_distances
from trainer.settings import Settings

Floats = NDArray[np.float32]


class RerankSettings(Settings):
    """k-reciprocal re-ranking."""

    k1: int = Field(default=20, ge=1)
    """Neighbours of each crop, the crop itself not counted."""
    k2: int = Field(default=6, ge=1)
    """Neighbours whose rows are averaged, the crop itself included."""
    weight_of_distance: float = Field(default=0.3, ge=0, le=1)
    """λ, the share of the plain distance in the final one."""


def reranked_distances(
    query: Floats, gallery: Floats, settings: RerankSettings | None = None, block: int = QUERY_BLOCK
) -> Iterator[Floats]:
    """Final distances for (Q, D), (G, D) unit rows, in blocks (≤ block, G) float32."""
    settings = settings or RerankSettings()
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise DataError(
            f"query {query.shape} and gallery {gallery.shape} features must be (Q, D) and (G, D) of one model"
        )
    features = check_features(np.concatenate([query, gallery]))
    largest = _largest_distances(features)
    neighbours = nearest(features, settings.k1 + 1, NeighbourSettings())
    weights = encode(features, neighbours, half=half_width(settings.k1), scales=np.float32(1) / largest)
    weights = expand_queries(weights, neighbours, settings.k2)
    first, weight = 0, np.float32(settings.weight_of_distance)
    for plain in squared_distances(features[: len(query)], features[len(query) :], block):
        rows = np.arange(first, first + len(plain))
        jaccard = _jaccard_to_gallery(weights, rows, len(query))
        yield (1 - weight) * jaccard + weight * plain / largest[rows, None]
        first += len(plain)


def _largest_distances(features: Floats) -> Floats:
    """(N,) float32: the largest squared distance of each row: to the neighbour of its opposite; 1 if all are equal."""
    opposite, _ = exact_search(-features, features, 1)
    largest = 2 + 2 * opposite[:, 0]
    return np.where(largest > 1e-6, largest, 1).astype(np.float32)


def _jaccard_to_gallery(weights: Rows, rows: NDArray[np.int64], queries: int) -> Floats:
    """Jaccard distances (B, G) float32 of some rows of V to all rows from number `queries` on."""
    dense = np.zeros((len(rows), len(weights)), np.float32)
    for place, row in enumerate(rows):
        span = slice(weights.starts[row], weights.starts[row + 1])
        dense[place, weights.columns[span]] = weights.values[span]
    shared = kernels.overlaps_with(dense, weights.starts, weights.columns, weights.values, queries)
    return np.maximum(0, 1 - shared / (2 - shared))
