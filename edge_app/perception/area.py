"""The part of a camera's picture that counts: where vehicles are large enough to be found whenever they are there.

A far vehicle is found early or late by chance, and with it its entry time; inside an area it enters when it crosses the
area's border. So an area sharpens travel times, and spares the tracker what is too small to be recognised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_app.settings import Polygon
from edge_app.types import Detections, Floats, Frame


def within(area: Polygon, frame: Frame, detections: Detections) -> Detections:
    """The detections whose foot (the middle of the box's lower edge) lies in the area."""
    if not len(detections):
        return detections
    kept = standing(area, feet(frame, detections.boxes))
    return Detections(detections.boxes[kept], detections.scores[kept], detections.classes[kept])


def feet(frame: Frame, boxes: Floats) -> NDArray[np.float64]:
    """(N, 4) boxes → (N, 2) the middle of each lower edge, as shares of the frame."""
    places: NDArray[np.float64] = np.stack([boxes[:, [0, 2]].mean(1), boxes[:, 3]], axis=1) / (
        frame.width_px,
        frame.height_px,
    )
    return places


def standing(area: Polygon, feet: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Feet (N, 2) as shares of the frame → (N,) whether each stands in the area. That of a box which the frame cuts off
    lies on the frame's border, or beyond, and counts as just within the frame."""
    return inside(np.array(area), np.clip(feet, 1e-6, 1 - 1e-6))


def inside(corners: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(K, 2) corners, (N, 2) points → (N,) whether each lies in the polygon: an odd number of edges to its right."""
    begin, end = corners, np.roll(corners, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    crosses = (begin[:, 1] > y) != (end[:, 1] > y)  # (N, K)
    height = np.where(end[:, 1] == begin[:, 1], 1.0, end[:, 1] - begin[:, 1])
    at = begin[:, 0] + (y - begin[:, 1]) * (end[:, 0] - begin[:, 0]) / height
    right: NDArray[np.bool_] = (crosses & (x < at)).sum(axis=1) % 2 == 1
    return right
