"""Memory rows that stand for clusters or crops: what a batch is compared with, and how the rows follow it.

Nothing moves in forward or backward: `logits` detaches the rows, and `update` is called after the step, visibly. A
bank of N rows is not copied for that: rows that move before backward end in autograd's own error, not in a silently
wrong gradient. The momentum multiplies the old row in every rule: row ← normalize(momentum·row + (1 − momentum)·new).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Update = Literal["sequential", "hardest", "mean"]


class Memory:
    """(K, D) float32 unit rows."""

    def __init__(self, rows: Tensor, temperature: float, momentum: float) -> None:
        self.rows = rows.float()
        self.temperature = temperature
        self.momentum = momentum

    def logits(self, features: Tensor) -> Tensor:
        """(B, D) float32 unit rows → (B, K) float32, f·M / τ. Gradients reach the features only."""
        return features.float() @ self.rows.detach().T / self.temperature

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor, rule: Update) -> None:
        """Move the rows `labels` (B,) int64 towards the features (B, D); rows of other labels stay as they are."""
        UPDATES[rule](self.rows, features.detach().float(), labels, self.momentum)


def sequential(rows: Tensor, features: Tensor, labels: Tensor, momentum: float) -> None:
    """One step per crop, in batch order (Cluster-Contrast's `CM`). With momentum 0.1 the last crop of a label has
    weight 0.9.

    The n-th crops of all labels move together: the result of the loop over crops, in as many steps as a label has
    crops.
    """
    for chosen in _by_occurrence(labels):
        rows[labels[chosen]] = normalize(momentum * rows[labels[chosen]] + (1 - momentum) * features[chosen], dim=1)


def hardest(rows: Tensor, features: Tensor, labels: Tensor, momentum: float) -> None:
    """One step per label, towards its crop least similar to the row (`CM_Hard`); the first of equals."""
    present, place = labels.unique(return_inverse=True)
    similarity = (features * rows[labels]).sum(1)
    lowest = similarity.new_full((len(present),), torch.inf).scatter_reduce(0, place, similarity, "amin")
    numbers = torch.arange(len(labels), device=rows.device).masked_fill(similarity != lowest[place], len(labels))
    first = torch.full_like(present, len(labels)).scatter_reduce(0, place, numbers, "amin")
    rows[present] = normalize(momentum * rows[present] + (1 - momentum) * features[first], dim=1)


def mean(rows: Tensor, features: Tensor, labels: Tensor, momentum: float) -> None:
    """One step per label, towards the mean of its crops, which is not normalised first."""
    present, place = labels.unique(return_inverse=True)
    average = label_means(features, place, len(present))
    rows[present] = normalize(momentum * rows[present] + (1 - momentum) * average, dim=1)


UPDATES = {"sequential": sequential, "hardest": hardest, "mean": mean}


def label_means(features: Tensor, labels: Tensor, count: int) -> Tensor:
    """(N, D), labels (N,) int64 in 0…count-1 → (count, D) mean of each label; 0 for a label without crops."""
    sums = torch.zeros(count, features.shape[1], dtype=features.dtype, device=features.device).index_add_(
        0, labels, features
    )
    sizes = torch.bincount(labels, minlength=count).clamp(min=1)
    return sums / sizes[:, None]


def _by_occurrence(labels: Tensor) -> list[Tensor]:
    """Positions (n,) int64 of the first crop of every label, of the second, and so on."""
    order = torch.argsort(labels, stable=True)
    _, sizes = labels.unique(return_counts=True)
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    occurrence = torch.arange(len(labels), device=labels.device) - starts
    return [order[occurrence == number] for number in range(int(sizes.max()))]
