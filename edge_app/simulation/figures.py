"""Drawing of vehicles and people onto a picture, with their shadows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_app.simulation.geometry import Projection
from edge_app.simulation.looks import MARK_PAINT, PAINT, Look
from edge_app.simulation.mesh import BRAKE_LAMP, SUN, build_mesh
from edge_app.types import Image

_SUBPIXEL = 4  # bits
_SMALL_PX = 26.0  # bodies lower than this are drawn without details
_build = lru_cache(maxsize=2048)(build_mesh)


def draw_vehicle(picture: Image, projection: Projection, look: Look, place: tuple[float, float], braking: bool) -> None:
    """Draw a vehicle with its front bumper at `place` (x, y in metres) onto the picture, in place."""
    import cv2

    mesh = _build(look)
    offset = np.array([place[0], place[1], 0.0])
    pixels = projection.pixels(mesh.points + offset)
    _shadow(picture, projection.pixels(mesh.shadow + offset))
    rows = np.rint(pixels * 2**_SUBPIXEL).astype(np.int32)
    camera = projection.position_m - offset
    firsts = mesh.points[[part.start for part in mesh.slices]]
    facing = np.einsum("fi,fi->f", mesh.normals, camera - firsts) > 0
    if float(np.ptp(pixels[:, 1])) < _SMALL_PX:
        facing &= ~mesh.details
    # Wheels first, then the parts from far to near, then what is on the roof.
    wheels, *parts, roof = mesh.groups
    parts.sort(key=lambda group: -abs(group[0] - camera[0]))
    for _, faces in (wheels, *parts, roof):
        for index in range(faces.start, faces.stop):
            if facing[index]:
                paint = BRAKE_LAMP if braking and mesh.brakes[index] else mesh.paints[index]
                cv2.fillPoly(picture, [rows[mesh.slices[index]]], paint, cv2.LINE_AA, _SUBPIXEL)


def draw_person(picture: Image, projection: Projection, look: Look, place: tuple[float, float], phase: float) -> None:
    """Draw a walking person; `phase` (radians) is where the step is."""
    import cv2

    swing = 0.28 * np.sin(phase)
    joints = np.array(
        [
            [-0.25, 0.0, 1.62],  # head
            [-0.25, 0.0, 1.42],  # shoulders
            [-0.25, 0.0, 0.88],  # hips
            [-0.25 + swing, 0.08, 0.0],  # feet
            [-0.25 - swing, -0.08, 0.0],
            [-0.25 - 0.8 * swing, 0.22, 0.85],  # hands
            [-0.25 + 0.8 * swing, -0.22, 0.85],
            [-0.5, 0.0, 1.15],  # bag
        ]
    ) + np.array([place[0], place[1], 0.0])
    pixels, depth = projection.pixels_and_depth(joints)
    metre = projection.focal_px / max(float(depth[0]), 1.0)
    marks = dict(look.marks)
    jacket = PAINT[look.paint]
    trousers = MARK_PAINT[marks.get("trousers", "black")]

    def limb(first: int, second: int, colour: tuple[int, int, int], width_m: float) -> None:
        ends = [tuple(int(v) for v in np.rint(pixels[i] * 8)) for i in (first, second)]
        cv2.line(picture, ends[0], ends[1], colour, max(1, round(width_m * metre)), cv2.LINE_AA, 3)

    _shadow(picture, projection.pixels(_person_shadow(place)))
    limb(2, 3, trousers, 0.17)
    limb(2, 4, trousers, 0.17)
    limb(1, 5, jacket, 0.1)
    limb(1, 2, jacket, 0.38)
    limb(1, 6, jacket, 0.1)
    if "bag" in marks:
        centre = (round(pixels[7, 0]), round(pixels[7, 1]))
        cv2.circle(picture, centre, max(1, round(0.19 * metre)), MARK_PAINT[marks["bag"]], -1, cv2.LINE_AA)
    head = (round(pixels[0, 0]), round(pixels[0, 1]))
    cv2.circle(picture, head, max(1, round(0.13 * metre)), (120, 150, 190), -1, cv2.LINE_AA)


def _person_shadow(place: tuple[float, float]) -> NDArray[np.float64]:
    cast = -SUN / SUN[2] * 1.5
    feet = np.array([[0, -0.2, 0], [0, 0.2, 0], [-0.4, 0.2, 0], [-0.4, -0.2, 0]], np.float64)
    feet += np.array([place[0], place[1], 0.0])
    return np.concatenate([feet, feet + np.array([cast[0], cast[1], 0.0])])


def _shadow(picture: Image, outline: NDArray[np.float64]) -> None:
    """Darken the hull of the outline (n, 2), softly."""
    import cv2

    height, width = picture.shape[:2]
    low = np.clip(np.floor(outline.min(0)) - 4, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(outline.max(0)) + 5, 0, (width, height)).astype(int)
    if (high - low).min() <= 1:
        return
    mask = np.full((high[1] - low[1], high[0] - low[0]), 255, np.uint8)
    hull = cv2.convexHull((outline - low).astype(np.float32))
    cv2.fillConvexPoly(mask, np.rint(hull * 2**_SUBPIXEL).astype(np.int32), 118, cv2.LINE_AA, _SUBPIXEL)
    mask = cv2.blur(mask, (5, 5))
    region = picture[low[1] : high[1], low[0] : high[0]]
    cv2.multiply(region, cv2.merge([mask, mask, mask]), region, 1 / 255)
