"""What several papers share."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from trainer.memory import Memory


def cluster_nce(features: Tensor, memory: Memory, labels: Tensor) -> Tensor:
    """mean_i −log softmax(f_i·M / τ)[y_i] for (B, D) unit rows and labels (B,) int64: a scalar, float32.

    Source: Cluster-Contrast, Dai et al. (ACCV 2022), equation of the cluster-level InfoNCE. GRACL and TCRL use it
    with banks of their own.
    """
    return cross_entropy(memory.logits(features), labels)
