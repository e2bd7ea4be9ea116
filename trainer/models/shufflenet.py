"""ShuffleNetV2 with 48-96-192 channels: a small ImageNet start for CPUs. Parameter names as in published weights.

Method: Ma et al., "ShuffleNet V2" (ECCV 2018). Half of the channels pass a block untouched; the split interleaves them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NAME = "shufflenetv2_48_96_192"
STAGES = ((24, 48, 4), (48, 96, 8), (96, 192, 4))  # channels in, channels out, blocks


class Block(nn.Module):
    """Stride 1: one half passes, one half is convolved. Stride 2: both branches see everything."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = outputs // 2
        self.branch_main = nn.Sequential(
            nn.Conv2d(inputs, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False),
            nn.BatchNorm2d(middle),
            nn.Conv2d(middle, outputs - inputs, 1, bias=False),
            nn.BatchNorm2d(outputs - inputs),
            nn.ReLU(),
        )
        self.branch_proj = _projection(inputs, stride) if stride == 2 else None

    def forward(self, values: Tensor) -> Tensor:
        if self.branch_proj is not None:
            return torch.cat([self.branch_proj(values), self.branch_main(values)], 1)
        return torch.cat([values[:, ::2], self.branch_main(values[:, 1::2])], 1)


class ShuffleNet(nn.Module):
    """(B, 3, H, W) → (B, 192, H/16, W/16), or H/32, W/32 with a last stride of 2."""

    def __init__(self, last_stride: int = 1) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stage2, self.stage3, self.stage4 = (_stage(*stage) for stage in STAGES)
        if last_stride == 1:
            for layer in self.stage4.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.stride = (1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.stage4(self.stage3(self.stage2(self.maxpool(self.first_conv(images)))))


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, 2), *(Block(outputs // 2, outputs, 1) for _ in range(blocks - 1)))


def _projection(channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
