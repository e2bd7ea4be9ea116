"""OSNet, with the parameter names of torchreid's checkpoints, so that those load.

Method: Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification" (ICCV 2019). A block runs four chains
of one to four light 3×3 convolutions and adds them up under one shared channel gate. The class layer and the 512-d
layer (`fc`) before it are not built: the trunk ends with the feature map of `conv5`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.errors import ConfigurationError

CHANNELS = {
    "osnet_x1_0": (64, 256, 384, 512),
    "osnet_x0_75": (48, 192, 288, 384),
    "osnet_x0_5": (32, 128, 192, 256),
    "osnet_x0_25": (16, 64, 96, 128),
}


def build(name: str) -> OSNet:
    """(B, 3, H, W) → (B, C, H/16, W/16); C is 512 for `osnet_x1_0`, 128 for `osnet_x0_25`."""
    if name not in CHANNELS:
        raise ConfigurationError([f"model.backbone {name!r} is not an OSNet; known: {', '.join(CHANNELS)}"])
    return OSNet(CHANNELS[name])


class ConvLayer(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(values)))


class LinearLayer(nn.Module):
    """1×1 convolution and batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, values: Tensor) -> Tensor:
        return self.bn(self.conv(values))


class LightLayer(nn.Module):
    """1×1 convolution, depthwise 3×3 convolution, batch norm, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv2(self.conv1(values))))


class Gate(nn.Module):
    """A weight per channel from the global mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, values: Tensor) -> Tensor:
        return values * torch.sigmoid(self.fc2(torch.relu(self.fc1(values.mean((2, 3), keepdim=True)))))


class Block(nn.Module):
    """Residual block of four gated chains."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        middle = outputs // 4
        self.conv1 = ConvLayer(inputs, middle, 1)
        self.conv2a = LightLayer(middle)
        self.conv2b = nn.Sequential(*(LightLayer(middle) for _ in range(2)))
        self.conv2c = nn.Sequential(*(LightLayer(middle) for _ in range(3)))
        self.conv2d = nn.Sequential(*(LightLayer(middle) for _ in range(4)))
        self.gate = Gate(middle)
        self.conv3 = LinearLayer(middle, outputs)
        self.downsample = LinearLayer(inputs, outputs) if inputs != outputs else None

    def forward(self, values: Tensor) -> Tensor:
        inner = self.conv1(values)
        chains = (self.conv2a, self.conv2b, self.conv2c, self.conv2d)
        mixed = sum(self.gate(chain(inner)) for chain in chains)
        shortcut = values if self.downsample is None else self.downsample(values)
        return torch.relu(self.conv3(mixed) + shortcut)


class OSNet(nn.Module):
    """Stem, three stages of two blocks, a last 1×1 convolution."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.conv1 = ConvLayer(3, first, 7, stride=2, padding=3)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = _stage(first, second, shrink=True)
        self.conv3 = _stage(second, third, shrink=True)
        self.conv4 = _stage(third, fourth, shrink=False)
        self.conv5 = ConvLayer(fourth, fourth, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv5(self.conv4(self.conv3(self.conv2(self.maxpool(self.conv1(images))))))


def _stage(inputs: int, outputs: int, shrink: bool) -> nn.Sequential:
    blocks: list[nn.Module] = [Block(inputs, outputs), Block(outputs, outputs)]
    if shrink:
        blocks.append(nn.Sequential(ConvLayer(outputs, outputs, 1), nn.AvgPool2d(2, stride=2)))
    return nn.Sequential(*blocks)
