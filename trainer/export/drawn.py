"""Pictures that nobody took: what the golden crops of a bundle show, so that a bundle never shows anybody.

An engine is compared with the file that it was built from, on the same pixels. For that they need be nothing that was
seen, only as full of edges, areas and colours as a crop is, and different from each other.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SHAPES = 14  # of a picture
GRAIN, TINT = 3.0, 40.0  # grey levels
SOFT = 0.8  # pixels


def pictures(count: int, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """(N, H, W, 3) uint8, the same for ever: a ground that changes from top to bottom, shapes of all sizes, grain."""
    return np.stack([_picture(np.random.default_rng(number), height_px, width_px) for number in range(count)])


def _picture(chance: np.random.Generator, height_px: int, width_px: int) -> NDArray[np.uint8]:
    top, bottom = _colour(chance), _colour(chance)
    slope = np.linspace(0, 1, height_px)[:, None, None]
    picture = np.ascontiguousarray(np.broadcast_to(top + slope * (bottom - top), (height_px, width_px, 3)))
    for number in range(SHAPES):
        largest = np.array([width_px, height_px]) * 0.6 * (1 - number / SHAPES) + 2
        middle = chance.uniform(0, 1, 2) * (width_px, height_px)
        size = chance.uniform(0.3, 1, 2) * largest
        corners = cv2.boxPoints((middle.tolist(), size.tolist(), float(chance.uniform(-30, 30))))
        colour = _colour(chance).tolist()
        if number % 3 == 2:
            axes = np.maximum(size / 2, 1).astype(int).tolist()
            cv2.ellipse(picture, middle.astype(int).tolist(), axes, 0, 0, 360, colour, -1, cv2.LINE_AA)
        else:
            cv2.fillConvexPoly(picture, corners.astype(np.int32), colour, cv2.LINE_AA)
    soft = cv2.GaussianBlur(picture, (0, 0), SOFT)
    grain = chance.normal(0, GRAIN, picture.shape)
    return np.clip(soft + grain, 0, 255).astype(np.uint8)


def _colour(chance: np.random.Generator) -> NDArray[np.float64]:
    """(3,) nearly grey, as most of a street is: INT8 ranges are those of real crops."""
    return chance.uniform(20, 215) + chance.uniform(-TINT, TINT, 3)
