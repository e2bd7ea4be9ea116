"""The gate: does a smaller network still say the same as the float one? Pure: rows in, figures and verdicts out.

Symbols: f_i, g_i are the unit rows of held-out crop i by the float network and by the one that is to ship.

    cosine_i = f_i · g_i                                    minimum and median
    mAP loss = mAP(f) − mAP(g), in points                   with labels, or with pseudo labels made from f
        limit: 0.3, but never less than one query that finds its match second instead of first, ½ · 100 / queries:
        with 150 queries one crop would decide
    R1 loss  = R1(f) − R1(g), in points, likewise: 1.0, but never less than that one query, 100 / queries
    threshold τ(f): the similarity that a share `rate` of all pairs of different identities exceeds
    shift    = τ(g) − τ(f)                                  what a match threshold tuned on f must be moved by

The lowest of n cosines says something about rare crops only where n is large: with 60, a fault that hits one crop in
twenty is missed one time in twenty (0.95⁶⁰). From fewer nothing is judged, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.bundle_manifest import Gate, Judgement
from trainer.errors import DataError
from trainer.evaluate import EvaluationSettings, Report, evaluate_fixed
from trainer.metrics.retrieval import Truth

Floats = NDArray[np.float32]
BINS = 2000  # of a histogram over −1 … 1
PAIR_BLOCK = 512
ONE_RANK = 50.0  # points of one query's average precision, when its only match is second instead of first
ONE_FIRST = 100.0  # points of one query's R1
FEW_QUERIES = 50  # fewer prove little: one of them moves R1 by two points
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Limits:
    """What a network must keep to ship."""

    cosine_min: float = 0.98
    cosine_median: float = 0.995
    map_loss: float = 0.3
    false_match_rate: float = 1e-3
    r1_loss: float = 1.0
    crops: int = 60  # held out; with fewer nothing is judged


@dataclass(frozen=True, slots=True)
class Judges:
    """Who is who among N held-out crops, and which of them ask."""

    truth: Truth  # (N,) identities, true or pseudo, and cameras
    query: NDArray[np.int64]  # rows of the queries
    gallery: NDArray[np.int64]  # rows of the gallery; may be the same, where cameras tell a crop from itself
    pseudo: bool  # the identities are clusters of the float rows


@dataclass(frozen=True, slots=True)
class Comparison:
    """A smaller network against the float one."""

    cosines: NDArray[np.float64]  # (N,)
    mAP_float: float | None  # noqa: N815  in percent; None without judges
    mAP: float | None  # noqa: N815
    R1_float: float | None  # in percent; None without judges
    R1: float | None
    threshold_shift: float
    false_match_rate: float | None  # None where there was no pair of two identities
    pseudo: bool
    queries: int  # that have a match


def compare(float_rows: Floats, rows: Floats, judges: Judges | None, limits: Limits = Limits()) -> Comparison:
    """Compare (N, D) float32 unit rows of the same crops."""
    if float_rows.shape != rows.shape or not len(rows):
        raise DataError(f"rows {rows.shape} cannot be compared with {float_rows.shape}")
    cosines = np.einsum("nd,nd->n", float_rows.astype(np.float64), rows.astype(np.float64))
    cosines = np.where(np.isfinite(cosines), np.clip(cosines, -1, 1), -1.0)
    if judges is None:
        return Comparison(cosines, None, None, None, None, 0.0, None, False, 0)
    reports = [_retrieval(each, judges) for each in (float_rows, rows)]
    before, after = reports
    thresholds = [match_threshold(each, judges.truth, limits.false_match_rate) for each in (float_rows, rows)]
    known = thresholds[0] is not None and thresholds[1] is not None
    shift = float(thresholds[1]) - float(thresholds[0]) if known else 0.0  # type: ignore[arg-type]
    rate = limits.false_match_rate if known else None
    scores = before.mAP, after.mAP, before.R1, after.R1
    return Comparison(cosines, *scores, shift, rate, judges.pseudo, before.queries)


def gates(comparison: Comparison, limits: Limits = Limits(), prefix: str = "") -> tuple[Gate, ...]:
    """Every figure with its limit. A figure that was not measured is no gate."""
    lowest, middle = float(comparison.cosines.min()), float(np.median(comparison.cosines))
    found = [
        Gate(name=f"{prefix}cosine_min", value=lowest, limit=limits.cosine_min, passed=lowest >= limits.cosine_min),
        Gate(
            name=f"{prefix}cosine_median",
            value=middle,
            limit=limits.cosine_median,
            passed=middle >= limits.cosine_median,
        ),
    ]
    scores = (
        ("map_loss", comparison.mAP_float, comparison.mAP, limits.map_loss, ONE_RANK),
        ("r1_loss", comparison.R1_float, comparison.R1, limits.r1_loss, ONE_FIRST),
    )
    for name, before, after, allowed, one_query in scores:
        if before is not None and after is not None:
            limit = max(allowed, one_query / max(1, comparison.queries))
            passed = before - after <= limit + ROUNDING
            kind = f"{prefix}pseudo_{name}" if comparison.pseudo else f"{prefix}{name}"
            found.append(Gate(name=kind, value=before - after, limit=limit, passed=passed))
    return tuple(found)


def judgement(comparison: Comparison, limits: Limits = Limits()) -> Judgement:
    """What the gate looked at, and whether that is enough."""
    crops, queries = len(comparison.cosines), comparison.queries
    by = f"{crops:,} held-out crops"
    if comparison.mAP is None:
        by += ", by cosine alone: retrieval was not measured, nobody is found on two cameras"
    else:
        labels = "clusters of the float network for labels" if comparison.pseudo else "labels"
        few = f", which is few: fewer than {FEW_QUERIES} prove little" * (queries < FEW_QUERIES)
        by += f" and {queries:,} queries with {labels}{few}"
    enough = crops >= limits.crops
    return Judgement(
        pictures=crops, by=by if enough else f"{by}; at least {limits.crops} crops are needed", enough=enough
    )


def failures(found: tuple[Gate, ...]) -> str:
    """The gates that were missed, in words; empty when all passed."""
    return ", ".join(f"{gate.name} {gate.value:.4f} (limit {gate.limit:g})" for gate in found if not gate.passed)


def match_threshold(rows: Floats, truth: Truth, rate: float) -> float | None:
    """The similarity that a share `rate` of the pairs of two identities, on two cameras where these are known, exceeds.
    None without such a pair."""
    parts = []
    for first in range(0, len(rows), PAIR_BLOCK):
        block = slice(first, min(first + PAIR_BLOCK, len(rows)))
        others = np.arange(len(rows)) > np.arange(len(rows))[block, None]  # every pair once
        different = truth.identities[block, None] != truth.identities
        apart = (truth.cameras[block, None] != truth.cameras) | (truth.cameras[block, None] < 0)
        parts.append((rows[block] @ rows.T)[others & different & apart])
    similarities = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return float(np.quantile(similarities, 1 - rate)) if len(similarities) else None


def histogram(cosines: NDArray[np.float64]) -> tuple[int, ...]:
    """Counts in equal bins over −1 … 1."""
    counts, _ = np.histogram(np.clip(cosines, -1, 1), BINS, (-1, 1))
    return tuple(int(count) for count in counts)


def _retrieval(rows: Floats, judges: Judges) -> Report:
    query, gallery = (
        Truth(judges.truth.identities[part], judges.truth.cameras[part]) for part in (judges.query, judges.gallery)
    )
    return evaluate_fixed(rows[judges.query], rows[judges.gallery], query, gallery, EvaluationSettings())
