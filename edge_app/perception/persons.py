"""Who stands in a view: the persons that the detector found in the same frame, however weakly, tracked or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_app.types import PERSON, Detections, Floats, View


def persons_in(detections: Detections, class_names: tuple[str, ...]) -> Floats:
    """(K, 4) float32: their boxes."""
    names = np.array(class_names)
    return detections.boxes[names[detections.classes] == PERSON] if len(detections) else detections.boxes


def beside(view: View, persons: Floats) -> View:
    """The view with those of the persons (K, 4) whose boxes reach into its own."""
    low, high = np.maximum(view.box[:2], persons[:, :2]), np.minimum(view.box[2:], persons[:, 2:])
    inside = (low < high).all(axis=1)
    return replace(view, persons=persons[inside]) if inside.any() else view
