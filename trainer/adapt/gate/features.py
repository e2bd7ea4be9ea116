"""What tells an embedder that has lost its variety, and one that cannot tell two vehicles in one picture apart. Pure.

effective rank     exp(−Σ p ln p),  p = σ_i / Σ σ, σ the singular values of the features, not centred: what is the same
                   in all of them counts as one direction. Roy and Vetterli, "The effective rank: a measure of
                   effective dimensionality", EUSIPCO 2007, definition 1
camera share       Σ_c n_c ‖μ_c − μ‖² / Σ_i ‖f_i − μ‖²: how much of the variance lies between the cameras' means
AUC                P(genuine > impostor) + ½ P(genuine = impostor): Mann and Whitney's U; its interval after Hanley
                   and McNeil, "The meaning and use of the area under a ROC curve", Radiology 143 (1982), eq. 1
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

NO_VARIANCE = 1e-12  # mean square below which features do not vary at all


def effective_rank(features: Values) -> float:
    """Of (N, D) features, N ≥ 1: from 1, all the same, to min(N, D)."""
    values = np.linalg.svd(features, compute_uv=False)
    if values.sum() <= 0:
        return 1.0
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def camera_share(features: Values, cameras: Sequence[str]) -> float:
    """Of (N, D) features by N cameras, N ≥ 1, from 0 to 1; 1 where the features do not vary: nothing else is left."""
    total = features - features.mean(0)
    if (total**2).mean() < NO_VARIANCE:
        return 1.0
    _, place = np.unique(list(cameras), return_inverse=True)
    sizes = np.bincount(place)
    sums = np.zeros((len(sizes), features.shape[1]))
    np.add.at(sums, place, total)
    return float(((sums**2).sum(1) / sizes).sum() / (total**2).sum())


def auc(genuine: Values, impostor: Values) -> float:
    """Of (G,) and (I,) similarities, both not empty. O((G + I) log I)."""
    ordered = np.sort(impostor)
    below = np.searchsorted(ordered, genuine, side="left") + np.searchsorted(ordered, genuine, side="right")
    return float(below.mean() / (2 * len(impostor)))


def auc_interval(area: float, genuine: int, impostor: int) -> tuple[float, float]:
    """95 %, of an area from so many pairs."""
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (genuine - 1) * (one - area**2) + (impostor - 1) * (two - area**2)
    half = 1.96 * math.sqrt(max(variance, 0.0) / (genuine * impostor))
    return max(0.0, area - half), min(1.0, area + half)
