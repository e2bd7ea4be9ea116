"""A pinhole camera on a pole beside a straight road.

Road coordinates in metres: x along the direction of travel, y to the left of it, z up; the road's middle is y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEAREST_M = 0.5  # points closer than this to the image plane are pushed onto it, so that polygons stay finite


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a camera stands and what it looks at."""

    position_m: tuple[float, float, float]
    target_m: tuple[float, float, float]
    focal_share: float  # focal length divided by the image width


@dataclass(frozen=True, slots=True)
class Projection:
    """Road coordinates to pixels: u = cx + f (p·right) / (p·forward), v = cy + f (p·down) / (p·forward)."""

    axes: NDArray[np.float64]  # (3, 3) rows right, down, forward
    position_m: NDArray[np.float64]  # (3,)
    focal_px: float
    centre_px: tuple[float, float]

    @classmethod
    def of(cls, pose: Pose, width_px: int, height_px: int) -> Projection:
        position = np.array(pose.position_m, np.float64)
        forward = np.array(pose.target_m, np.float64) - position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(forward, right), forward])
        return cls(axes, position, pose.focal_share * width_px, (width_px / 2, height_px / 2))

    def pixels(self, points_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3) road coordinates → (..., 2) pixels."""
        return self.pixels_and_depth(points_m)[0]

    def pixels_and_depth(self, points_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(..., 3) road coordinates → (..., 2) pixels and (...) metres along the optical axis."""
        local = (np.asarray(points_m, np.float64) - self.position_m) @ self.axes.T
        depth = local[..., 2]
        scale = self.focal_px / np.maximum(depth, _NEAREST_M)
        return local[..., :2] * scale[..., None] + np.array(self.centre_px), depth

    def horizon_px(self) -> float:
        """The row of the horizon (one row: the camera never rolls)."""
        forward = self.axes[2]
        level = np.array([forward[0], forward[1], 0.0]) / np.hypot(forward[0], forward[1])
        return float(self.pixels(self.position_m + 1e6 * level)[1])
