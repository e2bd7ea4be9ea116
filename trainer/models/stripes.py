"""Features of horizontal stripes of the feature map, for methods that compare parts as well as whole crops.

Source: Sun et al., "Beyond Part Models" (ECCV 2018), with a linear layer and a batch norm for each part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import ConfigurationError
from trainer.models.embedder import Embedder
from trainer.models.ghost_norm import use_ghost_norm


class StripeHeads(nn.Module):
    """(B, D, h, w) feature map → (B, D): S unit rows of D / S side by side, top stripe first; length √S.

    Where S does not divide h, neighbouring stripes share a row of the map; no row is left out.
    """

    def __init__(self, channels: int, stripes: int) -> None:
        super().__init__()
        self.stripes = stripes
        bound = channels**-0.5  # as nn.Linear starts; its bias would fall out in the batch norm
        self.weight = nn.Parameter(torch.empty(stripes, channels, channels // stripes).uniform_(-bound, bound))
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        shares = functional.adaptive_avg_pool1d(torch.eye(maps.shape[2], device=maps.device), self.stripes)  # (h, S)
        pooled = maps.mean(3) @ shares.to(maps.dtype)  # (B, D, S); half the time of pooling the map
        rows = torch.bmm(pooled.permute(2, 0, 1), self.weight).transpose(0, 1).flatten(1)
        return functional.normalize(self.norm(rows).unflatten(1, (self.stripes, -1)), dim=2).flatten(1)


def stripe_heads(network: Embedder, stripes: int) -> StripeHeads:
    """Heads for the feature map of this network, on its device; `ConfigurationError` where it cannot be cut."""
    settings, size, device = network.blueprint.settings, network.blueprint.image_size, network.neck.weight.device
    was_training = network.training
    with torch.no_grad():
        shape = network.eval().maps(torch.zeros(1, 3, *size, device=device)).shape
    network.train(was_training)
    if len(shape) != 4:
        raise ConfigurationError([f"a feature map is to be cut into stripes, but {settings.backbone} pools by itself"])
    problems = []
    if shape[2] < stripes:
        advice = "raise data.input.height_px, set model.last_stride to 1, or lower method.stripes"
        problems.append(
            f"{stripes} stripes, but {settings.backbone} gives {shape[2]} rows for {size[0]} px of height: {advice}"
        )
    if shape[1] % stripes:
        problems.append(f"method.stripes {stripes} must divide the {shape[1]} channels of {settings.backbone}")
    if problems:
        raise ConfigurationError(problems)
    heads = StripeHeads(shape[1], stripes)
    use_ghost_norm(heads, settings.ghost_group)
    return heads.to(device)
