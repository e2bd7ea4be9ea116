"""What passes between the methods, the loop and the loader: the crops of an epoch, and those of a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's crops. With several processes every process holds the whole batch, but only its share of the
    pictures."""

    index: Tensor  # (B,) int64, number of the crop among all N training crops
    camera: Tensor  # (B,) int64, −1 = unknown
    label: Tensor  # (B,) int64, pseudo label of this epoch
    views: tuple[Tensor, ...]  # one per transform, (b, 3, H, W) float32; b = B / processes, consecutive rows


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch trains on."""

    labels: NDArray[np.int64]  # (N,) int64, −1 = outlier
    batches: NDArray[np.int64]  # (S, B) int64, crop numbers of every step
    facts: dict[str, float]  # for the log: clusters, outlier share, …
