"""The running mean of a network's weights: the teacher that labels the crops, and what is evaluated and exported.

Source: Tarvainen and Valpola, "Mean teachers are better role models" (NeurIPS 2017); for unsupervised Re-ID: Ge et
al., "Mutual Mean-Teaching" (ICLR 2020). Uses no labels.
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class Average(Generic[Network]):
    """average ← momentum·average + (1 − momentum)·network after every step; faster during the first steps."""

    def __init__(self, network: Network, momentum: float) -> None:
        self.network: Network = copy.deepcopy(network).eval().requires_grad_(False)
        self.momentum = momentum

    @torch.no_grad()
    def update(self, network: nn.Module, steps: int) -> None:
        """`steps` steps were made before this one."""
        momentum = min(self.momentum, (1 + steps) / (10 + steps))
        new = network.state_dict()
        for name, old in self.network.state_dict().items():
            if old.is_floating_point():
                old.lerp_(new[name].to(old.dtype), 1 - momentum)
            else:
                old.copy_(new[name])
