"""The optimiser and its learning rate, a pure function of the place in the run."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from trainer.settings import Settings


class OptimiserSettings(Settings):
    """How weights follow gradients."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """`adam` couples the weight decay to the gradient, as the papers do; `adamw` does not."""
    rate: float = Field(default=3.5e-4, gt=0)
    """Learning rate at its highest."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """Applied to every trained tensor."""
    schedule: Literal["step", "cosine", "constant"] = "step"
    """`step` multiplies by `drop` every `drop_epochs`; `cosine` falls to `final_share` of the rate at the end."""
    drop_epochs: int = Field(default=20, ge=1)
    """Epochs between two drops."""
    drop: float = Field(default=0.1, gt=0, le=1)
    """Factor of a drop."""
    final_share: float = Field(default=0.01, ge=0, le=1)
    """Where `cosine` ends."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Epochs during which the rate rises linearly from 1 % of itself."""


def build(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """The optimiser of everything that is trained."""
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return OPTIMISERS[settings.name](weights, settings)


OPTIMISERS = {
    "adam": lambda weights, s: torch.optim.Adam(weights, lr=s.rate, weight_decay=s.weight_decay),
    "adamw": lambda weights, s: torch.optim.AdamW(weights, lr=s.rate, weight_decay=s.weight_decay),
    "sgd": lambda weights, s: torch.optim.SGD(weights, lr=s.rate, weight_decay=s.weight_decay, momentum=0.9),
}


def rate_at(settings: OptimiserSettings, epoch: float, epochs: int) -> float:
    """The learning rate at `epoch` (with its fraction) of `epochs`."""
    factor = 1.0
    if settings.schedule == "step":
        factor = settings.drop ** (int(epoch) // settings.drop_epochs)
    elif settings.schedule == "cosine":
        done = min(epoch / epochs, 1.0)
        factor = settings.final_share + (1 - settings.final_share) * 0.5 * (1 + math.cos(math.pi * done))
    if epoch < settings.warmup_epochs:
        factor *= 0.01 + 0.99 * epoch / settings.warmup_epochs
    return settings.rate * factor
