"""The empty scene of one camera: sky, ground, road, buildings, trees. Drawn once, twice as large, then shrunk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_app.simulation.appearance import name_code
from edge_app.simulation.geometry import Projection
from edge_app.simulation.roadside import HAZE, HAZE_M, Canvas, draw_roadside
from edge_app.simulation.sites import CameraSpec
from edge_app.types import Image

_LARGER = 2
_ROAD_HALF_M = 3.75

Array = NDArray[np.floating[Any]]  # (H, W) or (H, W, 3), mostly float32


def background(camera: CameraSpec, site: str) -> Image:
    """(H, W, 3) uint8 BGR."""
    import cv2

    width, height = camera.width_px * _LARGER, camera.height_px * _LARGER
    projection = Projection.of(camera.pose, width, height)
    rng = np.random.default_rng(name_code(site, camera.id, "scenery"))
    picture = _sky(width, height, rng)
    horizon = int(np.clip(projection.horizon_px(), 0, height))
    _hills(picture, horizon, rng)
    ground = _ground(camera, projection, (width, height), rng)
    below = ground[0]
    picture[below] = ground[1][below]
    draw_roadside(camera, Canvas(picture, projection, rng))
    shrunk = cv2.resize(picture, (camera.width_px, camera.height_px), interpolation=cv2.INTER_AREA)
    return shrunk.astype(np.uint8, copy=False)


def _sky(width: int, height: int, rng: np.random.Generator) -> Image:
    import cv2

    share = np.linspace(0, 1, height)[:, None, None] ** 0.7
    sky = np.array([222.0, 178.0, 140.0]) * (1 - share) + np.array([232.0, 222.0, 212.0]) * share
    clouds = np.zeros((height, width), np.float32)
    for cells in (3, 7, 15):
        coarse = rng.random((cells, cells * 2)).astype(np.float32)
        clouds += (
            np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32) / cells**0.6
        )
    clouds = np.clip((clouds - np.quantile(clouds, 0.55)) * 1.6, 0, 0.85)[..., None]
    blended: Image = (sky * (1 - clouds) + 244.0 * clouds).astype(np.uint8)
    return blended


def _hills(picture: Image, horizon: int, rng: np.random.Generator) -> None:
    """Wooded hills along the horizon, paler the farther they are."""
    import cv2

    width = picture.shape[1]
    x = np.linspace(0, 1, 160)
    for far, colour in ((1.0, (196, 182, 164)), (0.6, (160, 152, 128)), (0.3, (108, 118, 92))):
        waves: Array = sum(rng.normal() / k * np.sin(2 * np.pi * (k * x * 1.5 + rng.random())) for k in range(1, 9))  # type: ignore[assignment]
        rough = 0.12 * rng.random(160) * (1 - far)
        top = horizon - picture.shape[0] * (0.018 + 0.045 * far * (0.6 + 0.4 * np.tanh(waves)) + 0.06 * rough)
        outline = np.stack([x * width, top], 1)
        outline = np.concatenate([outline, [[width, horizon + 4], [0, horizon + 4]]])
        cv2.fillPoly(picture, [np.rint(outline * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)


def _ground(
    camera: CameraSpec, projection: Projection, size: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], Image]:
    """Where the ground is seen (H, W), and its colour there: every pixel's ray is followed to z = 0."""
    u, v = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    centre = projection.centre_px
    rays = np.stack([u - centre[0], v - centre[1], np.full_like(u, projection.focal_px)], -1) @ projection.axes
    below = rays[..., 2] < -1e-3
    reach = projection.position_m[2] / np.where(below, -rays[..., 2], 1.0)
    x = projection.position_m[0] + reach * rays[..., 0]
    y = projection.position_m[1] + reach * rays[..., 1]
    distance = np.hypot(x - projection.position_m[0], y - projection.position_m[1])
    x, y, distance = (values.astype(np.float32) for values in (x, y, distance))
    colour = _surface(camera, x, y, distance, _Noise(rng))
    haze = (1 - np.exp(-distance / HAZE_M))[..., None]
    return below, np.clip(colour * (1 - haze) + HAZE.astype(np.float32) * haze, 0, 255).astype(np.uint8)


def _bgr(blue: float, green: float, red: float) -> Array:
    return np.array([blue, green, red], np.float32)


class _Noise:
    """Smooth noise on the plane, from one random tile at several scales."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._tile = rng.random((256, 256)).astype(np.float32)

    def __call__(self, x: Array, y: Array, metres: float) -> Array:
        """Values in [-1, 1] that change over about `metres`."""
        import cv2

        column, row = (x / metres) % 254.0, (y / metres) % 254.0
        values = cv2.remap(self._tile, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)
        return np.asarray(values, np.float32) * 2 - 1


def _surface(camera: CameraSpec, x: Array, y: Array, distance: Array, noise: _Noise) -> Array:
    """(H, W, 3) what lies at (x, y): grass or water, footway, kerb, asphalt, lane markings."""
    near = np.clip(18.0 / np.maximum(distance, 1.0), 0.05, 1.0)  # far texture averages out
    patches = noise(x, y, 5.0) * 0.6 + noise(x, y, 1.7) * 0.4
    blades = noise(x, y, 0.14) * near
    colour = _bgr(62.0, 112.0, 96.0) + patches[..., None] * _bgr(10, 14, 20) + blades[..., None] * _bgr(10, 18, 15)
    if camera.scenery == "water":
        waves = noise(x * 0.25, y, 0.7) * near + 0.5 * noise(x * 0.3, y, 3.0)
        water = _bgr(136.0, 116.0, 84.0) + waves[..., None] * _bgr(20, 20, 18)
        colour = np.where(((y > 7.6) & (y < 31.0))[..., None], water, colour)
        colour = np.where(((y >= 31.0) & (y < 32.2))[..., None], _bgr(120.0, 128.0, 130.0), colour)
    if camera.scenery in ("street", "harbour"):
        slabs = _bgr(150.0, 158.0, 160.0) + (noise(x, y, 0.9) * 7 + blades * 8)[..., None]
        joints = ((x % 1.2 < 0.05) | (y % 1.2 < 0.05)) & (near > 0.4)
        slabs = slabs - joints[..., None] * 16.0
        colour = np.where((np.abs(y) < 14.0)[..., None], slabs, colour)
    footway = (np.abs(y + 5.6) < 1.4) | (np.abs(y - 5.6) < 1.4)
    paving = _bgr(140.0, 148.0, 150.0) + (noise(x, y, 0.5) * 8 + blades * 9)[..., None]
    paving = paving - (((x % 0.8) < 0.045) & (near > 0.35))[..., None] * 18.0
    colour = np.where(footway[..., None], paving, colour)
    kerb = (np.abs(y) >= _ROAD_HALF_M) & (np.abs(y) < _ROAD_HALF_M + 0.22)
    colour = np.where(kerb[..., None], _bgr(176.0, 180.0, 180.0) + (noise(x, y, 0.3) * 7)[..., None], colour)
    return _road(camera, colour, (x, y, near), noise)


def _road(camera: CameraSpec, colour: Array, place: tuple[Array, Array, Array], noise: _Noise) -> Array:
    x, y, near = place
    grain = noise(x, y, 0.09) * near * 9 + noise(x, y, 2.6) * 4 + noise(x * 0.08, y, 0.5) * 4
    tracks = -7.0 * np.exp(-(((np.abs(np.abs(y) - 1.75) - 0.75) / 0.28) ** 2))  # where the tyres run
    patch = (np.sin(np.floor(x / 11.0) * 12.9898 + (y > 0) * 4.0) > 0.72) * -9.0
    asphalt = _bgr(96.0, 95.0, 93.0) + (grain + tracks + patch)[..., None]
    worn = 1.0 - 0.25 * np.clip(noise(x, y, 0.35) + 0.4, 0, 1)
    paint = 222.0 * worn
    lines = (np.abs(np.abs(y) - 3.45) < 0.075) | ((np.abs(y) < 0.075) & (x % 9.0 < 3.6))
    if camera.light is not None:
        stop = camera.light.stop_line_m + 0.4
        lines |= (x > stop) & (x < stop + 0.45) & (np.abs(y) < 3.3)
        stripes = (x > stop + 1.6) & (x < stop + 4.4) & (np.abs(y) < 3.4) & (y % 1.0 < 0.5)
        lines |= stripes
    asphalt = np.where(lines[..., None], paint[..., None], asphalt)
    return np.where((np.abs(y) < _ROAD_HALF_M)[..., None], asphalt, colour)
