"""From similarities to evidence: per-pair calibration. What a similarity is: `contract.similarity`.

A similarity means different things on different camera pairs: front against rear is never as alike as front against
front. So each ordered camera pair keeps two histograms of similarities, of one vehicle (genuine) and of two (impostor).
A candidate counts in both, by its posterior; two of one class that time keeps apart are impostors for certain. While a
pair of cameras has seen little it leans on the histograms of all pairs, and those on the prior of the embedder. The
evidence is the log ratio of both densities, made monotone and bounded.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_app.associate.settings import SimilarityPrior
from edge_app.associate.state import Calibration

Curve = NDArray[np.float64]  # (BINS,) log likelihood ratios at `CENTRES`

BINS = 80
EDGES = np.linspace(-1.0, 1.0, BINS + 1)
CENTRES = 0.5 * (EDGES[:-1] + EDGES[1:])
BANDWIDTH = 0.035
PAIR_WEIGHT = 20.0  # observations that the site is worth to a pair, or as many as the prior is worth
MEMORY = 0.998  # decay per observation
LIMIT = 6.0  # nats; no single look is worth more
CORRELATION = 0.8  # between the evidence of two proxies of one identity: a look-alike deceives all cameras


def combine(evidence: list[float]) -> float:
    """Evidence of several proxies of one identity: a sum that knows they are correlated.

    k equal, independent looks would add up to k times one; with correlation r they are worth k / (1 + (k - 1) r).
    """
    if not evidence:
        return 0.0
    return float(np.clip(sum(evidence) / (1 + (len(evidence) - 1) * CORRELATION), -LIMIT, LIMIT))


def new_calibration(pair: str, version: str) -> Calibration:
    return Calibration(pair, version, np.zeros(BINS), np.zeros(BINS))


def learn_similarity(calibration: Calibration, value: float, genuine: float) -> Calibration:
    """One pair with similarity `value` that is one vehicle with probability `genuine`."""
    kernel = np.exp(-0.5 * ((CENTRES - value) / BANDWIDTH) ** 2)
    kernel = kernel / kernel.sum()
    return replace(
        calibration,
        genuine=calibration.genuine * MEMORY**genuine + genuine * kernel,
        impostor=calibration.impostor * MEMORY ** (1 - genuine) + (1 - genuine) * kernel,
    )


def _normal(mean: float, std: float) -> NDArray[np.float64]:
    density = np.exp(-0.5 * ((CENTRES - mean) / std) ** 2) + 1e-6
    normal: NDArray[np.float64] = density / density.sum()
    return normal


def _leaning(counts: NDArray[np.float64], on: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Counts as a distribution that leans on another one, as if that were `weight` observations."""
    leaning: NDArray[np.float64] = (counts + weight * on) / (counts.sum() + weight)
    return leaning


def evidence_curve(pair: Calibration, site: Calibration, prior: SimilarityPrior) -> Curve:
    """(BINS,) log likelihood ratio at the bin centres, non-decreasing, within ±LIMIT.

    Made monotone by isotonic regression, weighted: bins where neither kind was ever seen say nothing about the others.
    """
    from scipy.optimize import isotonic_regression

    genuine = _leaning(site.genuine, _normal(prior.genuine_mean, prior.genuine_std), prior.observations)
    impostor = _leaning(site.impostor, _normal(prior.impostor_mean, prior.impostor_std), prior.observations)
    weight = max(PAIR_WEIGHT, prior.observations)
    same, different = _leaning(pair.genuine, genuine, weight), _leaning(pair.impostor, impostor, weight)
    share = isotonic_regression(same / (same + different), weights=same + different).x
    curve: Curve = np.clip(np.log(share / (1 - share)), -LIMIT, LIMIT)
    return curve


def evidence(value: float, curve: Curve) -> float:
    """Log likelihood ratio of one similarity."""
    return float(np.interp(value, CENTRES, curve))
