"""The camera term at test: crops of the query's camera are pushed back by a constant, so that those of other cameras
come first. SCL's authors test so (`trainer.methods.scl`); the number stands beside the plain one, not in its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.retrieval import Scores, Truth, score, squared_distances

Floats = NDArray[np.floating[Any]]
Cameras = NDArray[np.int64]
Part = tuple[Floats, Truth]  # unit rows (n, D) of a query set or a gallery


def with_camera_term(blocks: Iterable[Floats], query: Cameras, gallery: Cameras, weight: float) -> Iterator[Floats]:
    """Blocks of squared distances → distances (not squared, as the authors test: the weight means less here than in
    training), plus `weight` where the cameras (Q,), (G,) int64 are the same; −1 is the same as no other."""
    first = 0
    for block in blocks:
        cameras = query[first : first + len(block), None]
        first += len(block)
        same = (cameras == gallery) & (cameras >= 0)
        yield np.sqrt(np.maximum(block, 0, dtype=np.float64)) + weight * same


def scores_by_camera_term(query: Part, gallery: Part, weight: float) -> dict[str, Scores]:
    """Both test numbers: the plain one, and the authors', which uses the camera numbers of the test pictures."""
    (asking, asked), (shown, truth) = query, gallery
    result = {}
    for name, used in (("plain", 0.0), (f"camera term {weight:g}", weight)):
        blocks = with_camera_term(squared_distances(asking, shown), asked.cameras, truth.cameras, used)
        result[name] = score(blocks, asked, truth)
    return result
