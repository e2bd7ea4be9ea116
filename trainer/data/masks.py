"""A view with black squares: what is left of a picture are its parts.

Method: TCRL (arXiv 2301.09498), read off the published figure: 7 to 9 squares a picture, six of about
0.13 of the width, one of 0.20, one of 0.27, so that 18 % of a square picture is covered. The squares may overlap and
reach over the border. Flip and shift are drawn first, as in `Augment`, so that both views of a crop are the same
picture; there is no random erasing, the squares take its place.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from edge_app.contract.preprocess import InputSpec
from trainer.data.transforms import AugmentSettings, Draws, draw_moves, normalise, shift_and_flip
from trainer.settings import Settings


class MaskSettings(Settings):
    """The squares of a picture."""

    sides: tuple[float, ...] = (0.13,) * 6 + (0.20, 0.27)
    """Side of each square, as a share of the picture's width; none = an unmasked picture."""
    fill: Literal["black", "mean"] = "black"
    """A black square, or one of the mean colour, 0 after normalisation."""


class Masked:
    """Flip, shift, normalise, cover with squares."""

    def __init__(self, augment: AugmentSettings, mask: MaskSettings) -> None:
        self.augment = augment
        self.mask = mask

    def draw(self, count: int, size: tuple[int, int], generator: torch.Generator) -> Draws:
        """Flip and shift as `Augment` draws them; `erase` (B, n, 4) int64 are the squares."""
        flip, shift = draw_moves(count, self.augment, generator)
        return Draws(flip, shift, squares(count, size, self.mask, generator))

    def apply(self, pixels: Tensor, draws: Draws, spec: InputSpec) -> Tensor:
        draws = draws.to(pixels.device)
        images = normalise(shift_and_flip(pixels, draws.shift - self.augment.pad_px, draws.flip), spec)
        fill = torch.zeros(3) if self.mask.fill == "mean" else -torch.tensor(spec.mean) / torch.tensor(spec.std)
        return cover(images, draws.erase, fill.to(images))


def squares(count: int, size: tuple[int, int], mask: MaskSettings, generator: torch.Generator) -> Tensor:
    """(count, n, 4) int64: top, left, height, width; corners from half a side outside to half a side inside."""
    height, width = size
    sides = (torch.tensor(mask.sides) * width).round().long()  # (n,)
    place = torch.rand(count, len(sides), 2, generator=generator)
    corners = (place * torch.tensor([height, width]) - sides[:, None] / 2).round().long()
    return torch.cat([corners, sides[:, None].expand(count, -1, 2)], 2)


def cover(images: Tensor, rectangles: Tensor, fill: Tensor) -> Tensor:
    """Fill n rectangles (B, n, 4) of each picture (B, C, H, W) with the colour (C,); returns new pictures."""
    top, left, height, width = (side[:, :, None] for side in rectangles.unbind(2))
    rows = torch.arange(images.shape[2], device=images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    row_inside = ((rows >= top) & (rows < top + height)).to(images)  # (B, n, H)
    column_inside = ((columns >= left) & (columns < left + width)).to(images)  # (B, n, W)
    covered = row_inside.mT @ column_inside > 0  # in any of the rectangles
    return torch.where(covered[:, None], fill.view(1, -1, 1, 1), images)
