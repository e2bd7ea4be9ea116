"""The evaluation protocols: features and labels in, scores and the rules they were made by out. Pure.

Market protocol: queries and gallery are given; for each query, gallery crops of the same identity **and** the same
camera are removed. VehicleID protocol: one random crop of each identity is the gallery, the others are queries, mean
over repetitions.

A number without its camera rule means nothing, so every report carries it:
  cross_camera   crops of the same identity and the same camera were removed
  unknown        no camera numbers: nothing was removed
  ignored        there are camera numbers, and on request nothing was removed
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.errors import DataError
from trainer.metrics.retrieval import Scores, Truth, score, squared_distances
from trainer.settings import Settings

CameraPolicy = Literal["cross_camera", "unknown", "ignored"]
SENTENCES: dict[CameraPolicy, str] = {
    "cross_camera": "same identity and same camera removed from the gallery",
    "unknown": "no camera numbers, nothing removed from the gallery",
    "ignored": "camera numbers ignored on request, nothing removed from the gallery",
}


class EvaluationSettings(Settings):
    """How an embedding is measured."""

    ignore_cameras: bool = False
    """Keep gallery crops of the query's own camera, although cameras are known."""
    rerank: bool = False
    """k-reciprocal re-ranking (k1 20, k2 6, λ 0.3). It looks at the whole gallery and at the other queries."""
    repetitions: int = Field(default=10, ge=1)
    """Random galleries of the VehicleID protocol."""


@dataclass(frozen=True, slots=True)
class Report:
    """Scores in percent, and the rules behind them."""

    mAP: float  # noqa: N815  the name everyone knows
    R1: float
    R5: float
    R10: float
    mINP: float  # noqa: N815
    queries: int  # that were scored; of one repetition where there are several
    gallery: int
    queries_without_match: int
    camera_policy: CameraPolicy
    protocol: Literal["market", "vehicleid"]
    reranked: bool
    repetitions: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """One line for people."""
        left_out = f", {self.queries_without_match} queries without a match left out" * (self.queries_without_match > 0)
        return (
            f"mAP {self.mAP:.1f}  R1 {self.R1:.1f}  R5 {self.R5:.1f}  R10 {self.R10:.1f}  mINP {self.mINP:.1f}"
            f"{'  re-ranked' * self.reranked}  ({self.queries} queries, {self.gallery} gallery crops{left_out}; "
            f"{self.protocol} protocol, {SENTENCES[self.camera_policy]})"
        )


def camera_policy(query: Truth, gallery: Truth, settings: EvaluationSettings) -> CameraPolicy:
    """Which camera rule these labels allow."""
    if not ((query.cameras >= 0).any() and (gallery.cameras >= 0).any()):
        return "unknown"
    return "ignored" if settings.ignore_cameras else "cross_camera"


def evaluate_fixed(
    query_features: NDArray[np.float32],
    gallery_features: NDArray[np.float32],
    query: Truth,
    gallery: Truth,
    settings: EvaluationSettings,
) -> Report:
    """Market protocol for (Q, D) and (G, D) float32 unit rows; `DataError` when no query has a right entry."""
    policy = camera_policy(query, gallery, settings)
    scores = _score(query_features, gallery_features, query, gallery, settings)
    return _report([scores], policy, "market", settings)


def evaluate_random(
    features: NDArray[np.float32], truth: Truth, settings: EvaluationSettings, generator: np.random.Generator
) -> Report:
    """VehicleID protocol for (N, D) float32 unit rows. The generator draws the galleries."""
    if len(np.unique(truth.identities)) in {1, len(truth)}:
        raise DataError(
            f"{len(truth)} test crops of {len(np.unique(truth.identities))} identities: expected at least two "
            "identities, and an identity with two crops"
        )
    policy = camera_policy(truth, truth, settings)
    scores = []
    for _ in range(settings.repetitions):
        gallery = random_gallery(truth.identities, generator)
        query = np.setdiff1d(np.arange(len(truth)), gallery)
        asked, shown = (Truth(truth.identities[rows], truth.cameras[rows]) for rows in (query, gallery))
        scores.append(_score(features[query], features[gallery], asked, shown, settings))
    return _report(scores, policy, "vehicleid", settings)


def random_gallery(identities: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """One random row of each identity, ascending."""
    order = generator.permutation(len(identities))
    _, first = np.unique(identities[order], return_index=True)
    return np.sort(order[first])


def _score(
    query_features: NDArray[np.float32],
    gallery_features: NDArray[np.float32],
    query: Truth,
    gallery: Truth,
    settings: EvaluationSettings,
) -> Scores:
    if len(query_features) != len(query) or len(gallery_features) != len(gallery):
        raise DataError(
            f"{len(query_features)} query and {len(gallery_features)} gallery features do not belong to {len(query)} "
            f"query and {len(gallery)} gallery crops: extract the features of this data set"
        )
    if settings.ignore_cameras:
        query = Truth(query.identities, np.full(len(query), -1))
    if settings.rerank:
        from trainer.metrics.rerank import reranked_distances  # faiss and numba only where they are needed

        return score(reranked_distances(query_features, gallery_features), query, gallery)
    return score(squared_distances(query_features, gallery_features), query, gallery)


def _report(
    scores: list[Scores], policy: CameraPolicy, protocol: Literal["market", "vehicleid"], settings: EvaluationSettings
) -> Report:
    means = {
        name: float(np.mean([getattr(one, name) for one in scores])) for name in ("mAP", "R1", "R5", "R10", "mINP")
    }
    first = scores[0]
    return Report(
        **means,
        queries=first.queries,
        gallery=first.gallery,
        queries_without_match=first.queries_without_match,
        camera_policy=policy,
        protocol=protocol,
        reranked=settings.rerank,
        repetitions=len(scores),
    )
