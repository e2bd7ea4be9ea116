"""Embeddings of simulated looks: what a good but imperfect network would say, without any network.

e = unit( w_shape·s + w_paint·c + w_marks·m + camera shift + noise of the view )
The camera shift is what a camera's light, colour cast and viewpoint do to every embedding alike. Marks that cannot
be seen from the camera's side are missing. Equal looks differ by their faint tint only.
"""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from edge_app.simulation.looks import MARKS, PAINT, Look
from edge_app.types import Floats

DIMENSION = 64
VERSION = "simulated-1"
_SHAPE, _PAINT, _MARK, _TINT = 0.62, 0.75, 0.5, 1.6  # lengths of the parts
_SMALL_MARK = 0.25  # a mark that only one side of the vehicle shows
_KIND = 0.55  # of the shape's part that the class shares: an estate looks more like a saloon than like a bus


def name_code(*names: str) -> int:
    """A number for names that is the same in every process (unlike `hash`)."""
    return crc32("/".join(names).encode())


@lru_cache(maxsize=512)
def _direction(*names: str) -> NDArray[np.float64]:
    """(D,) a fixed random unit vector for a thing with a name."""
    vector = np.random.default_rng(name_code(*names)).normal(size=DIMENSION)
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit


@lru_cache(maxsize=4)
def _colour_axes() -> NDArray[np.float64]:
    return np.stack([_direction("axis", name) for name in ("blue", "green", "red", "white")])


def _paint_part(look: Look) -> NDArray[np.float64]:
    """Similar paints get similar parts: half of it is linear in the colour, half belongs to the paint's name."""
    bgr = np.array(PAINT[look.paint]) / 255.0
    linear = np.append(2.0 * (bgr - bgr.mean()), bgr.mean() - 0.5) @ _colour_axes()
    tint = (np.array(look.tint) - 1.0) @ _colour_axes()[:3]
    return _PAINT * (0.8 * linear + 0.6 * _direction("paint", look.paint)) + _TINT * tint


def _clean(look: Look, shape_class: str, viewpoint: str) -> NDArray[np.float64]:
    kind = _KIND**0.5 * _direction("class", shape_class) + (1 - _KIND) ** 0.5 * _direction("shape", look.shape)
    total = _SHAPE * kind + _paint_part(look)
    for mark, colour in look.marks:
        if viewpoint in MARKS.get(mark, ("front", "rear", "side")):
            length = _MARK if len(MARKS.get(mark, ())) != 1 else _SMALL_MARK
            total = total + length * (0.8 * _direction("mark", mark) + 0.6 * _direction("mark", mark, colour))
    shift: NDArray[np.float64] = total
    return shift


def _camera_shift(site: str, camera: str, viewpoint: str, difficulty: float) -> NDArray[np.float64]:
    own = _direction("camera", site, camera)
    return (0.15 + 0.35 * difficulty**2) * (0.7 * _direction("viewpoint", viewpoint) + 0.7 * own)


def embeddings_of(
    look: Look,
    shape_class: str,
    camera: tuple[str, str, str],
    difficulty: float,
    *,
    disturbances: Floats,
    generators: tuple[np.random.Generator, np.random.Generator],
) -> Floats:
    """(M, D) float32 unit rows: M views of one look.

    `camera` is (site, camera id, viewpoint); `disturbances` (M,) ≥ 0 grows with occlusion and truncation. The first
    generator belongs to the passage, whose views share a part of their noise; the second one to these views.
    """
    base = _clean(look, shape_class, camera[2]) + _camera_shift(*camera, difficulty)
    level = (0.12 + 0.22 * difficulty**2) * (1.0 + 1.5 * disturbances[:, None])
    shared = generators[0].normal(size=DIMENSION) / DIMENSION**0.5
    own = generators[1].normal(size=(len(disturbances), DIMENSION)) / DIMENSION**0.5
    rows = base + level * (0.6 * shared + 0.8 * own)
    unit: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit
