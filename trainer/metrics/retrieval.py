"""Retrieval scores: mAP, CMC and mINP of queries against a gallery. Pure numpy; distances come block by block.

Symbols: a query's gallery, sorted by distance, junk removed (same identity and same known camera), has right entries
at the 1-based ranks r_1 < … < r_T.

    AP = mean over t of t / r_t;   CMC(k) = 1 where r_1 ≤ k;   INP = T / r_T  (Ye et al., "Deep Learning for Person
    Re-identification: A Survey and Outlook", TPAMI 2021)

**Ties** count against the model: within one distance all wrong entries stand before all right ones for CMC and INP,
and for AP every right entry has the precision at the end of the tie (as scikit-learn's average precision, which the
released trainers use). So no order of the files and no collapsed embedding can earn a score. **Queries without a
right entry** are left out of every mean and counted.

Memory law: a block of B queries takes about 30·B·G bytes. Cost law: Q·G·log G.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError

Floats = NDArray[np.float32]
QUERY_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Truth:
    """Who is where: the labels of a query set or a gallery. For measuring only."""

    identities: NDArray[np.int64]  # (N,) int64
    cameras: NDArray[np.int64]  # (N,) int64, −1 = unknown: never the same camera as any other

    def __post_init__(self) -> None:
        if self.identities.ndim != 1 or self.identities.shape != self.cameras.shape:
            raise DataError(
                f"identities {self.identities.shape} and cameras {self.cameras.shape} must be (N,), one entry per crop"
            )

    def __len__(self) -> int:
        return len(self.identities)


@dataclass(frozen=True, slots=True)
class QueryScores:
    """Scores of Q single queries; nan (rank 0) where the gallery holds no right entry."""

    average_precision: NDArray[np.float64]  # (Q,) float64 in [0, 1]
    first_rank: NDArray[np.int64]  # (Q,) int64, 1-based rank of the first right entry
    inverse_penalty: NDArray[np.float64]  # (Q,) float64 in [0, 1]

    @property
    def valid(self) -> NDArray[np.bool_]:
        return self.first_rank > 0


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the queries that have a right entry in the gallery, in percent."""

    mAP: float  # noqa: N815  the name everyone knows
    R1: float
    R5: float
    R10: float
    mINP: float  # noqa: N815
    queries: int  # that were scored
    gallery: int
    queries_without_match: int  # left out


def squared_distances(query: Floats, gallery: Floats, block: int = QUERY_BLOCK) -> Iterator[Floats]:
    """2 − 2 q·g for (Q, D), (G, D) unit rows, in blocks (≤ block, G) float32."""
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise DataError(
            f"query {query.shape} and gallery {gallery.shape} features must be (Q, D) and (G, D) of one model"
        )
    for first in range(0, len(query), block):
        yield 2 - 2 * (query[first : first + block] @ gallery.T)


def score(blocks: Iterable[Floats], query: Truth, gallery: Truth) -> Scores:
    """Scores of distance blocks (B, G) that cover the queries in order; `DataError` when no query has a right entry."""
    return summarise(score_queries(blocks, query, gallery), len(gallery))


def summarise(scores: QueryScores, gallery: int) -> Scores:
    """The means in percent; `DataError` when no query has a right entry."""
    valid = scores.valid
    if not valid.any():
        raise DataError(
            f"none of the {len(valid)} queries has a right entry among the {gallery} gallery crops: expected the same "
            "identity in both, seen by another camera or without camera numbers; check the identity and camera columns"
        )
    first = scores.first_rank[valid]
    return Scores(
        mAP=100 * float(scores.average_precision[valid].mean()),
        R1=100 * float(np.mean(first <= 1)),
        R5=100 * float(np.mean(first <= 5)),
        R10=100 * float(np.mean(first <= 10)),
        mINP=100 * float(scores.inverse_penalty[valid].mean()),
        queries=int(valid.sum()),
        gallery=gallery,
        queries_without_match=int((~valid).sum()),
    )


def score_queries(blocks: Iterable[Floats], query: Truth, gallery: Truth) -> QueryScores:
    """Scores of every single query."""
    parts, first = [], 0
    for distances in blocks:
        if distances.ndim != 2 or distances.shape[1] != len(gallery) or first + len(distances) > len(query):
            raise DataError(
                f"a block of distances {distances.shape} does not fit {len(query)} queries and {len(gallery)} "
                "gallery crops"
            )
        if np.isnan(distances).any():
            raise DataError("a distance is nan: the features are broken")
        rows = slice(first, first + len(distances))
        parts.append(_score_block(distances, query.identities[rows], query.cameras[rows], gallery))
        first += len(distances)
    if first != len(query) or not parts:
        raise DataError(f"expected distances of {len(query)} queries, at least one, got {first}")
    precision, rank, penalty = (np.concatenate(column) for column in zip(*parts, strict=True))
    return QueryScores(precision, rank, penalty)


def _score_block(
    distances: Floats, identities: NDArray[np.int64], cameras: NDArray[np.int64], gallery: Truth
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Average precision, first rank and inverse penalty (B,) of one block of queries."""
    order = np.argsort(distances, axis=1)
    values = np.take_along_axis(distances, order, axis=1)
    right = gallery.identities[order] == identities[:, None]
    junk = right & (gallery.cameras[order] == cameras[:, None]) & (cameras[:, None] >= 0)
    right &= ~junk
    count, width = distances.shape
    # (B, G) counts of valid entries and of right ones, up to and including each place
    seen, hits = np.cumsum(~junk, axis=1, dtype=np.int32), np.cumsum(right, axis=1, dtype=np.int32)
    # the last place of the tie that each place belongs to
    ends = np.ones_like(right)
    ends[:, :-1] = values[:, 1:] != values[:, :-1]
    last = np.where(ends, np.arange(width, dtype=np.int32), np.int32(width))
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]

    total = hits[:, -1]
    query, place = np.nonzero(right)
    end = last[query, place]
    precision = np.bincount(query, hits[query, end] / seen[query, end], minlength=count)
    precision = np.divide(precision, total, out=np.full(count, np.nan), where=total > 0)

    rows = np.arange(count)
    first_end = last[rows, np.argmax(right, axis=1)]  # end of the tie with the first right entry
    first_rank = seen[rows, first_end] - hits[rows, first_end] + 1  # all wrong entries up to there stand before it
    final_end = last[rows, width - 1 - np.argmax(right[:, ::-1], axis=1)]
    final_rank = seen[rows, final_end]
    penalty = np.divide(total, final_rank, out=np.full(count, np.nan), where=total > 0)
    return precision, np.where(total > 0, first_rank, 0).astype(np.int64), penalty
