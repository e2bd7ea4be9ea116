"""The k-reciprocal Jaccard distance as N×N matrices in float64, straight from its definition. Only for small N."""

import numpy as np


def dense_rows(features, neighbours, k1, k2):
    """V (N, N) float64."""
    count = len(features)
    within = np.zeros((count, count), bool)
    within_half = np.zeros((count, count), bool)
    np.put_along_axis(within, neighbours[:, :k1], True, axis=1)
    np.put_along_axis(within_half, neighbours[:, : int(np.around(k1 / 2)) + 1], True, axis=1)
    full, half = within & within.T, within_half & within_half.T
    shared = full.astype(int) @ half.T.astype(int)  # [i, j] = |A_i ∩ B_j|
    joins = full & (3 * shared > 2 * half.sum(axis=1))
    expanded = full | (joins.astype(int) @ half.astype(int) > 0)
    exact = features.astype(np.float64)
    weights = np.where(expanded, np.exp(-(2 - 2 * exact @ exact.T)), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights[neighbours[:, :k2]].mean(axis=1) if k2 > 1 else weights


def dense_jaccard(features, neighbours, k1, k2):
    """d (N, N) float64."""
    rows = dense_rows(features, neighbours, k1, k2)
    shared = np.stack([np.minimum(row, rows).sum(axis=1) for row in rows])
    return np.maximum(0, 1 - shared / (2 - shared))
