"""What one camera sees of the road: true boxes from positions, and where along the road a body is in view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_app.simulation.geometry import Projection
from edge_app.simulation.shapes import Shape
from edge_app.simulation.sites import CameraSpec
from edge_app.types import Floats

_VISIBLE_SHARE = 0.35  # of the full box that must lie inside the frame
_VISIBLE_PX = 14.0  # smaller side of the clipped box
_SCAN_M = np.arange(-60.0, 120.0, 0.2)


class View:
    """The projection of one camera; keeps the span of road on which each body is in view."""

    def __init__(self, camera: CameraSpec) -> None:
        self.camera = camera
        self.projection = Projection.of(camera.pose, camera.width_px, camera.height_px)
        self._spans: dict[tuple[str, float], tuple[float, float]] = {}

    def boxes(self, shape: Shape, positions_m: NDArray[np.float64], lateral_m: float) -> Floats:
        """(T, 4) float32 full boxes (not clipped) of one body with its front bumper at each position."""
        hull = shape.hull() + np.array([0.0, lateral_m, 0.0])
        points = np.repeat(hull[None], len(positions_m), 0)
        points[:, :, 0] += positions_m[:, None]
        pixels = self.projection.pixels(points)
        return np.concatenate([pixels.min(1), pixels.max(1)], 1).astype(np.float32)

    def clipped(self, boxes: Floats) -> Floats:
        """(T, 4) boxes cut to the frame."""
        size = np.array([self.camera.width_px, self.camera.height_px] * 2, np.float32)
        return np.clip(boxes, 0.0, size)

    def span_m(self, shape: Shape, lateral_m: float) -> tuple[float, float]:
        """First and last position of the front bumper at which this body counts as visible."""
        key = (shape.name, round(lateral_m, 1))
        if key not in self._spans:
            self._spans[key] = self._scan(shape, key[1])
        return self._spans[key]

    def _scan(self, shape: Shape, lateral_m: float) -> tuple[float, float]:
        positions = _SCAN_M
        if self.camera.portal_m is not None:
            faces_portal = self.camera.viewpoint == "front"
            limit = self.camera.portal_m
            positions = positions[positions >= limit] if faces_portal else positions[positions <= limit + 1.0]
        hull = shape.hull() + np.array([0.0, lateral_m, 0.0])
        points = np.repeat(hull[None], len(positions), 0)
        points[:, :, 0] += positions[:, None]
        in_front = self.projection.pixels_and_depth(points)[1].min(1) > 1.5
        full = self.boxes(shape, positions, lateral_m)
        clipped = self.clipped(full)
        sides = clipped[:, 2:] - clipped[:, :2]
        shares = sides.prod(1) / np.maximum((full[:, 2:] - full[:, :2]).prod(1), 1.0)
        seen = in_front & (sides.min(1) >= _VISIBLE_PX) & (shares >= _VISIBLE_SHARE)
        if not seen.any():
            raise ValueError(f"camera {self.camera.id} never sees a {shape.name} at {lateral_m} m; turn its pose")
        # The longest run: a body can come into view twice only where the pose is odd.
        edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
        runs = edges.reshape(-1, 2)
        first, stop = runs[np.argmax(runs[:, 1] - runs[:, 0])]
        return float(positions[first]), float(positions[stop - 1])
