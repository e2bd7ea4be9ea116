"""Augmentation of whole batches on tensors, on the device that trains. All chance is drawn first, from one generator.

Recipe of Cluster-Contrast: flip, pad with black and crop back, normalise, random erasing (Zhong et al., AAAI 2020)
with the ImageNet mean as fill *after* normalisation, as the released codes do it. Deviation: pictures are resized by
`InputSpec`'s kernel (bilinear) when they are cached, not bicubic, because the roadside device must do the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor

from edge_app.contract.preprocess import InputSpec
from trainer.settings import Settings

TRIES = 100  # rectangles drawn per picture until one fits inside
ERASE_FILL = (0.485, 0.456, 0.406)  # in normalised values


class AugmentSettings(Settings):
    """How training pictures are changed."""

    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability of a mirror image."""
    pad_px: int = Field(default=10, ge=0)
    """Black border from which the picture is cropped back at a random place."""
    erase: float = Field(default=0.5, ge=0, le=1)
    """Probability of an erased rectangle."""
    erase_area: tuple[float, float] = (0.02, 0.4)
    """Smallest and largest share of the picture that is erased."""
    erase_aspect: float = Field(default=0.3, gt=0, le=1)
    """Narrowest rectangle, height to width or width to height."""


@dataclass(frozen=True, slots=True)
class Draws:
    """The chances of B pictures."""

    flip: Tensor  # (B,) bool
    shift: Tensor  # (B, 2) int64, rows and columns, 0 … 2·pad
    erase: Tensor  # (B, 4) int64: top, left, height, width; height 0 = nothing is erased; (B, n, 4) = n of them

    def part(self, rows: Tensor) -> Draws:
        return Draws(self.flip[rows], self.shift[rows], self.erase[rows])

    def to(self, device: torch.device) -> Draws:
        return Draws(self.flip.to(device), self.shift.to(device), self.erase.to(device))


class Transform(Protocol):
    """One view of a batch."""

    def draw(self, count: int, size: tuple[int, int], generator: torch.Generator) -> Draws:
        """The chances of `count` pictures of `size` (height, width)."""

    def apply(self, pixels: Tensor, draws: Draws, spec: InputSpec) -> Tensor:
        """(B, H, W, 3) uint8 → (B, 3, H, W) float32."""


class Plain:
    """Normalise only."""

    def draw(self, count: int, size: tuple[int, int], generator: torch.Generator) -> Draws:
        nothing = torch.zeros(count, 4, dtype=torch.int64)
        return Draws(torch.zeros(count, dtype=torch.bool), nothing[:, :2], nothing)

    def apply(self, pixels: Tensor, draws: Draws, spec: InputSpec) -> Tensor:
        return normalise(pixels, spec)


AS_THEY_ARE = Plain()


class Augment:
    """Flip, shift, normalise, erase."""

    def __init__(self, settings: AugmentSettings) -> None:
        self.settings = settings

    def draw(self, count: int, size: tuple[int, int], generator: torch.Generator) -> Draws:
        flip, shift = draw_moves(count, self.settings, generator)
        return Draws(flip, shift, _rectangles(count, size, self.settings, generator))

    def apply(self, pixels: Tensor, draws: Draws, spec: InputSpec) -> Tensor:
        draws = draws.to(pixels.device)
        moved = shift_and_flip(pixels, draws.shift - self.settings.pad_px, draws.flip)
        return erase(normalise(moved, spec), draws.erase)


def draw_moves(count: int, settings: AugmentSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flip (count,) bool and shift (count, 2) int64, 0 … 2·pad: drawn first, so that all views of a crop share them."""
    flip = torch.rand(count, generator=generator) < settings.flip
    return flip, torch.randint(0, 2 * settings.pad_px + 1, (count, 2), generator=generator)


def normalise(pixels: Tensor, spec: InputSpec) -> Tensor:
    """(B, H, W, 3) uint8 in the network's channel order → (B, 3, H, W) float32, channels-last in memory."""
    mean, std = (torch.tensor(values, device=pixels.device) for values in (spec.mean, spec.std))
    values = pixels.permute(0, 3, 1, 2).float()
    return values.mul_((spec.scale / std).view(1, 3, 1, 1)).sub_((mean / std).view(1, 3, 1, 1))


def shift_and_flip(pixels: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Mirror the pictures (B, H, W, 3) where `flip` (B,), then read them `shift` (B, 2) further down and right; black
    outside."""
    count, height, width, _ = pixels.shape
    device = pixels.device
    rows = torch.arange(height, device=device) + shift[:, :1]  # (B, H)
    columns = torch.arange(width, device=device) + shift[:, 1:]  # (B, W)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    columns = torch.where(flip[:, None], width - 1 - columns, columns).clamp(0, width - 1)
    rows = rows.clamp(0, height - 1)
    picture = torch.arange(count, device=device)[:, None, None]
    return pixels[picture, rows[:, :, None], columns[:, None, :]] * inside[:, :, :, None]


def erase(images: Tensor, rectangles: Tensor) -> Tensor:
    """Fill one rectangle (B, 4) of each picture (B, 3, H, W), in place."""
    top, left, height, width = (side[:, None] for side in rectangles.unbind(1))
    rows = torch.arange(images.shape[2], device=images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    row_inside = (rows >= top) & (rows < top + height)  # (B, H)
    column_inside = (columns >= left) & (columns < left + width)
    inside = row_inside[:, None, :, None] & column_inside[:, None, None, :]
    fill = torch.tensor(ERASE_FILL, device=images.device).view(1, 3, 1, 1)
    return torch.where(inside, fill, images)


def _rectangles(count: int, size: tuple[int, int], settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """(count, 4) int64: the first of `TRIES` random rectangles that fits, or none."""
    height, width = size
    wanted = torch.rand(count, generator=generator) < settings.erase
    low, high = settings.erase_area
    area = height * width * (low + (high - low) * torch.rand(count, TRIES, generator=generator))
    narrow = settings.erase_aspect
    aspect = narrow + (1 / narrow - narrow) * torch.rand(count, TRIES, generator=generator)
    tall, wide = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(1, keepdim=True)
    tall, wide = tall.gather(1, first)[:, 0], wide.gather(1, first)[:, 0]
    place = torch.rand(count, 2, generator=generator)
    top = (place[:, 0] * (height - tall + 1)).floor().long()
    left = (place[:, 1] * (width - wide + 1)).floor().long()
    found = (wanted & fits.any(1))[:, None]
    return torch.where(found, torch.stack([top, left, tall, wide], 1), 0)
