"""How a stored picture is to be seen: turned, mirrored, and with square pixels. Roadside and trainer see the same.

Phones store what the sensor saw and note how they were held, as a display matrix of a recording or as EXIF orientation
of a picture; old cameras store pixels that are not square, and note their shape. A picture is seen as a player shows
it: first its pixels are made square, always by enlarging one side, then it is turned and mirrored by whole quarter
turns. The density of a still picture (dots per inch) says how to print it, not how to see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pixels = TypeVar("Pixels", bound=np.generic)

MOST_STRETCHED = 4.0  # a pixel longer than this is a mistake in the file, and taken as square


@dataclass(frozen=True, slots=True)
class Orientation:
    """Made by `orientation`; the plain one leaves pictures as they are."""

    transposed: bool = False  # rows become columns; before the mirroring
    mirrored_x: bool = False
    mirrored_y: bool = False
    pixel_aspect: float = 1.0  # width of a stored pixel by its height

    def square(self, width_px: int, height_px: int) -> tuple[int, int]:
        """(width, height) of a stored picture whose pixels were made square."""
        if self.pixel_aspect >= 1.0:
            return max(1, round(width_px * self.pixel_aspect)), height_px
        return width_px, max(1, round(height_px / self.pixel_aspect))

    def turned(self, picture: NDArray[Pixels]) -> NDArray[Pixels]:
        """`picture` (H, W, …) with square pixels, as it is to be seen: (H, W, …) or (W, H, …), contiguous."""
        if self.transposed:
            picture = picture.swapaxes(0, 1)
        if self.mirrored_x:
            picture = picture[:, ::-1]
        if self.mirrored_y:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


# EXIF 2.3, 4.6.4 A, tag 274: where the stored first row and first column are seen
_EXIF = {
    2: Orientation(mirrored_x=True),
    3: Orientation(mirrored_x=True, mirrored_y=True),
    4: Orientation(mirrored_y=True),
    5: Orientation(transposed=True),
    6: Orientation(transposed=True, mirrored_x=True),
    7: Orientation(transposed=True, mirrored_x=True, mirrored_y=True),
    8: Orientation(transposed=True, mirrored_y=True),
}


def of_exif(number: int | None) -> Orientation:
    """How to see a still picture with this EXIF orientation; None and what the standard does not know leave it as it
    is."""
    return _EXIF.get(number or 1, Orientation())


def quarter_turned(degrees: float) -> tuple[int, ...]:
    """The display matrix of a turn to the left by the nearest quarter, as FFmpeg counts its angles."""
    a, b = ((1, 0), (0, -1), (-1, 0), (0, 1))[round(degrees / 90) % 4]
    return (a, b, 0, -b, a, 0, 0, 0, 1)


def orientation(matrix: Sequence[int] | None = None, pixel_aspect: Fraction | float | None = None) -> Orientation:
    """How to see a picture with this display matrix and shape of pixels.

    `matrix`: the nine numbers of ISO 14496-12, row by row, as FFmpeg's DISPLAYMATRIX holds them: a stored point (x, y)
    is shown at (a·x + c·y, b·x + d·y). A turn by an odd angle is taken for the nearest quarter. `pixel_aspect`: width
    by height of a pixel; None, 0 and what cannot be meant count as square.
    """
    aspect = float(pixel_aspect or 1.0)
    if not 1.0 / MOST_STRETCHED <= aspect <= MOST_STRETCHED:
        aspect = 1.0
    if matrix is None:
        return Orientation(pixel_aspect=aspect)
    a, b, _, c, d = matrix[:5]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0, aspect)
    return Orientation(True, c < 0, b < 0, aspect)
