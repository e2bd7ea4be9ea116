"""What stands beside the simulated road: buildings, trees, lamps, railings, an underpass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_app.simulation.geometry import Projection
from edge_app.simulation.mesh import shaded
from edge_app.simulation.sites import CameraSpec
from edge_app.types import Image

HAZE = np.array([214.0, 206.0, 196.0])  # BGR of far away
HAZE_M = 260.0  # at this distance two thirds of a colour are haze
_WALLS = ((150, 165, 178), (128, 150, 172), (178, 184, 186), (110, 128, 158), (160, 150, 140), (140, 170, 186))
_LEAVES = ((52, 92, 66), (44, 84, 74), (60, 104, 82), (40, 76, 58))

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Canvas:
    """What is drawn on, from where, and with which chance."""

    picture: Image  # (H, W, 3) uint8 BGR, changed in place
    projection: Projection
    rng: np.random.Generator


_Thing = tuple[float, Callable[[], None]]  # (distance, how to draw it)


def draw_roadside(camera: CameraSpec, canvas: Canvas) -> None:
    """Buildings, trees, lamps, railings, from far to near: nowhere between the camera and its road."""
    things: list[_Thing] = []
    eye = canvas.projection.position_m
    beside = 12.0 if abs(eye[1]) < 8 else 0.0  # a camera far beside the road has its own side free
    for side in (-1.0, 1.0):
        if beside == 0.0 and np.sign(eye[1]) == side:
            continue
        _along(camera, canvas, side, things)
    if camera.portal_m is not None:
        wall = camera.portal_m + (-0.6 if camera.viewpoint == "front" else 1.6)
        things.append((abs(wall - eye[0]), lambda: _portal(canvas, wall)))
    for _, draw in sorted(things, key=lambda thing: -thing[0]):
        draw()


def _along(camera: CameraSpec, canvas: Canvas, side: float, things: list[_Thing]) -> None:
    rng = canvas.rng
    eye = canvas.projection.position_m
    offset, step = {"water": (40.0, 14.0), "street": (11.5, 11.0), "harbour": (19.0, 15.0), "suburb": (17.0, 13.0)}[
        camera.scenery
    ]

    def add(x: float, y: float, draw: Callable[[], None]) -> None:
        things.append((float(np.hypot(x - eye[0], y - eye[1])), draw))

    for x in np.arange(-120.0, 150.0, step):
        place = (float(x + rng.uniform(-2, 2)), side * float(offset + rng.uniform(0, 3)))
        if rng.random() < 0.85:
            size = (float(rng.uniform(7, step - 1.5)), float(rng.uniform(7, 10)), float(rng.uniform(5, 12)))
            wall = _WALLS[int(rng.integers(len(_WALLS)))]
            add(place[0], place[1] + side * size[1] / 2, lambda p=place, s=size, w=wall: _house(canvas, p, s, w, side))  # type: ignore[misc]
    trees = 9.2 if camera.scenery != "water" else 34.0
    for x in np.arange(-110.0, 140.0, 8.0 if camera.scenery != "street" else 13.0):
        tree = (
            float(x + rng.uniform(-2.5, 2.5)),
            side * float(trees + rng.uniform(0, 3.5)),
            float(rng.uniform(3.6, 6.5)),
        )
        if rng.random() < 0.8:
            add(tree[0], tree[1], lambda t=tree: _tree(canvas, t))  # type: ignore[misc]
    for x in np.arange(-97.0, 140.0, 26.0):
        lamp = (float(x), side * 7.2)
        add(*lamp, lambda at=lamp: _lamp(canvas, at, side))  # type: ignore[misc]
    if camera.scenery == "water":
        add(eye[0], 7.4, lambda: _railing(canvas, 7.3))


def _polygon(canvas: Canvas, points: list[tuple[float, float, float]] | Array, colour: tuple[float, ...]) -> None:
    """Fill a polygon in space; one that reaches behind the camera is left out."""
    import cv2

    pixels, depth = canvas.projection.pixels_and_depth(np.array(points))
    if depth.min() > 0.8:
        haze = 1 - np.exp(-float(depth.mean()) / HAZE_M)
        paint = tuple(float(c * (1 - haze) + h * haze) for c, h in zip(colour, HAZE, strict=True))
        cv2.fillPoly(
            canvas.picture, [np.rint(np.clip(pixels, -9000, 9000) * 16).astype(np.int32)], paint, cv2.LINE_AA, 4
        )


def _house(
    canvas: Canvas,
    place: tuple[float, float],
    size: tuple[float, float, float],
    wall: tuple[int, int, int],
    side: float,
) -> None:
    """A cuboid with rows of windows; only the walls that face the camera are drawn."""
    (x0, y0), (length, depth, height) = place, size
    x1, y1 = x0 + length, y0 + side * depth
    eye = canvas.projection.position_m
    paint = (float(wall[0]), float(wall[1]), float(wall[2]))
    end_x = x1 if eye[0] > x1 else x0
    ends = np.array([1.0 if eye[0] > x1 else -1.0, 0.0, 0.0])
    roof = 2.2
    _polygon(canvas, [(end_x, y0, 0), (end_x, y0, height), (end_x, y1, height), (end_x, y1, 0)], shaded(paint, ends))
    _windows(canvas, lambda s, z: (end_x, y0 + side * s, z), depth, height)
    front = np.array([0.0, -side, 0.0])
    _polygon(canvas, [(x0, y0, 0), (x0, y0, height), (x1, y0, height), (x1, y0, 0)], shaded(paint, front))
    _windows(canvas, lambda s, z: (x0 + s, y0, z), length, height)
    tiles = shaded((70.0, 78.0, 120.0), np.array([0.0, -side * 0.5, 0.8]))
    ridge = (y0 + y1) / 2
    gable = [(end_x, y0, height), (end_x, ridge, height + roof), (end_x, y1, height)]
    _polygon(canvas, gable, shaded(paint, ends))
    eave = y0 - side * 0.4
    _polygon(
        canvas,
        [
            (x0 - 0.3, eave, height - 0.2),
            (x0 - 0.3, ridge, height + roof),
            (x1 + 0.3, ridge, height + roof),
            (x1 + 0.3, eave, height - 0.2),
        ],
        tiles,
    )


def _windows(
    canvas: Canvas, on_wall: Callable[[float, float], tuple[float, float, float]], length: float, height: float
) -> None:
    for z in np.arange(1.0, height - 1.6, 2.8):
        for s in np.arange(0.9, length - 1.4, 2.1):
            z0, z1 = float(z), float(z) + 1.4
            frame = [
                on_wall(s - 0.1, z0 - 0.1),
                on_wall(s - 0.1, z1 + 0.1),
                on_wall(s + 1.2, z1 + 0.1),
                on_wall(s + 1.2, z0 - 0.1),
            ]
            pane = [on_wall(s, z0), on_wall(s, z1), on_wall(s + 1.1, z1), on_wall(s + 1.1, z0)]
            _polygon(canvas, frame, (205, 208, 208))
            _polygon(canvas, pane, (92, 80, 70) if canvas.rng.random() < 0.75 else (150, 180, 190))


def _tree(canvas: Canvas, tree: tuple[float, float, float]) -> None:
    import cv2

    x, y, height = tree
    points, depth = canvas.projection.pixels_and_depth(np.array([[x, y, 0.0], [x, y, height * 0.6]]))
    if depth.min() < 4.0:
        return
    metre = canvas.projection.focal_px / float(depth[0])
    crown = points[1]
    _polygon(
        canvas,
        [(x - 0.13, y, 0), (x - 0.1, y, height * 0.5), (x + 0.1, y, height * 0.5), (x + 0.13, y, 0)],
        (52, 66, 82),
    )
    leaf = np.array(_LEAVES[int(canvas.rng.integers(len(_LEAVES)))], np.float64)
    haze = 1 - np.exp(-float(depth[0]) / HAZE_M)
    for ring in range(70):  # from the dark underside to the sunlit top
        share = ring / 69
        angle, reach = canvas.rng.uniform(0, 2 * np.pi), canvas.rng.random() ** 0.5 * 0.33 * height
        spot = crown + metre * np.array(
            [np.cos(angle) * reach - 0.08 * share, np.sin(angle) * reach * 0.8 - 0.25 * share * height]
        )
        colour = leaf * (0.62 + 0.75 * share + canvas.rng.uniform(-0.08, 0.08))
        colour = colour * (1 - haze) + HAZE * haze
        radius = max(1, round(metre * height * 0.095 * (1.1 - 0.5 * share)))
        cv2.circle(canvas.picture, (round(spot[0]), round(spot[1])), radius, colour.tolist(), -1, cv2.LINE_AA)


def _lamp(canvas: Canvas, place: tuple[float, float], side: float) -> None:
    x, y = place
    arm = y - side * 1.6
    _polygon(canvas, [(x - 0.07, y, 0), (x - 0.05, y, 6.6), (x + 0.05, y, 6.6), (x + 0.07, y, 0)], (96, 98, 96))
    _polygon(canvas, [(x, y, 6.5), (x, y, 6.65), (x, arm, 6.85), (x, arm, 6.7)], (96, 98, 96))
    _polygon(
        canvas,
        [(x - 0.15, arm, 6.66), (x - 0.15, arm, 6.8), (x + 0.35, arm, 6.8), (x + 0.35, arm, 6.66)],
        (208, 216, 218),
    )


def _railing(canvas: Canvas, y: float) -> None:
    for x in np.arange(-40.0, 70.0, 1.5):
        _polygon(canvas, [(x - 0.05, y, 0), (x - 0.05, y, 1.1), (x + 0.05, y, 1.1), (x + 0.05, y, 0)], (92, 100, 96))
        for z in (0.45, 0.75, 1.08):
            _polygon(
                canvas,
                [(x, y, z - 0.035), (x, y, z + 0.035), (x + 1.5, y, z + 0.035), (x + 1.5, y, z - 0.035)],
                (120, 128, 122),
            )


def _portal(canvas: Canvas, x: float) -> None:
    """An underpass: concrete, a dark opening, a railing on top."""
    concrete, opening = (150.0, 156.0, 158.0), (34.0, 32.0, 30.0)
    for y0, y1 in ((-30.0, -7.4), (7.4, 30.0)):
        _polygon(canvas, [(x, y0, 0), (x, y0, 6.4), (x, y1, 6.4), (x, y1, 0)], concrete)
    _polygon(canvas, [(x, -7.4, 0), (x, -7.4, 4.8), (x, 7.4, 4.8), (x, 7.4, 0)], opening)
    _polygon(canvas, [(x, -30, 4.8), (x, -30, 6.4), (x, 30, 6.4), (x, 30, 4.8)], concrete)
    _polygon(canvas, [(x, -30, 4.7), (x, -30, 4.9), (x, 30, 4.9), (x, 30, 4.7)], (112.0, 118.0, 120.0))
    _polygon(canvas, [(x, -7.4, 0), (x, -7.4, 4.8), (x, -7.1, 4.8), (x, -7.1, 0)], (120.0, 126.0, 128.0))
    _polygon(canvas, [(x, 7.1, 0), (x, 7.1, 4.8), (x, 7.4, 4.8), (x, 7.4, 0)], (120.0, 126.0, 128.0))
    for y in np.arange(-28.0, 28.0, 1.6):
        _polygon(canvas, [(x, y, 6.4), (x, y, 7.3), (x, y + 0.12, 7.3), (x, y + 0.12, 6.4)], (104.0, 108.0, 104.0))
    _polygon(canvas, [(x, -30, 7.2), (x, -30, 7.32), (x, 30, 7.32), (x, 30, 7.2)], (104.0, 108.0, 104.0))
