"""The sites that can be simulated: cameras, the roads between them, and where traffic comes from.

town      four cameras, five directed links, one fork (gate → market | bridge), one ring (harbour → gate)
grid-N    N cameras on a square grid of one-way streets, every camera leading right and down (for scale)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_app.simulation.geometry import Pose

_ENTRY_WAIT_S = 3.0
Scenery = Literal["suburb", "street", "water", "harbour"]
Viewpoint = Literal["front", "rear", "side"]


@dataclass(frozen=True, slots=True)
class Light:
    """A traffic light inside a camera's view; red begins each cycle."""

    stop_line_m: float
    cycle_s: float
    red_s: float


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """One camera and the piece of one-way road it sees."""

    id: str
    viewpoint: Viewpoint
    pose: Pose
    speed_mps: float  # the usual speed on this road
    map_position: tuple[float, float]  # for drawings of the network, in the unit square, y down
    lanes_m: tuple[float, ...] = (-1.75, 1.75)  # lateral position of each lane
    footway_m: float = -5.6
    scenery: Scenery = "suburb"
    horizon: float = 0.0  # share of the picture's height above which vehicles are too small to be recognised
    portal_m: float | None = None  # an underpass from which traffic emerges, or into which it vanishes
    light: Light | None = None
    width_px: int = 640
    height_px: int = 360
    fps: float = 10.0


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """Vehicles leaving `from_` reach `to` after a log-normal time (from exit to entry; parking comes on top)."""

    from_: str
    to: str
    share: float  # of the vehicles that leave `from_`; what is left turns off and is not seen again
    median_s: float
    sigma: float  # standard deviation of log transit time

    @property
    def p1_s(self) -> float:
        return self.median_s * math.exp(-2.3263 * self.sigma)

    @property
    def p99_s(self) -> float:
        """With the usual wait behind others where the view of `to` begins."""
        return self.median_s * math.exp(2.3263 * self.sigma) + _ENTRY_WAIT_S


@dataclass(frozen=True, slots=True)
class Entry:
    """Vehicles that come into the site just before this camera."""

    camera: str
    rate_per_s: float
    platoon_share: float = 0.3  # of arrivals that bring a whole queue with them


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A small road network."""

    name: str
    cameras: tuple[CameraSpec, ...]
    links: tuple[LinkSpec, ...]
    entries: tuple[Entry, ...]
    warm_up_s: float  # traffic runs this long before the world begins, so that it begins full


def site_named(name: str) -> SiteSpec:
    """The site of that name. Raises ValueError naming the sites there are."""
    if name == "town":
        return _town()
    count = name.removeprefix("grid-")
    if name.startswith("grid-") and count.isascii() and count.isdigit() and 2 <= int(count) <= 256:
        return _grid(int(count))
    raise ValueError(
        f"unknown simulated site {name!r}: expected 'town' or 'grid-N' with N from 2 to 256, as in 'grid-16'"
    )


def _town() -> SiteSpec:
    gate = CameraSpec(
        "gate", "front", Pose((60.0, 4.4, 6.4), (36.0, -0.2, 0.0), 0.88), 9.5, (0.08, 0.5), horizon=0.3, portal_m=0.0
    )
    market = CameraSpec(
        "market",
        "rear",
        Pose((-9.0, -6.4, 6.2), (13.0, -0.5, 0.2), 0.86),
        8.0,
        (0.5, 0.14),
        scenery="street",
        horizon=0.35,
        portal_m=46.0,
        light=Light(26.0, 30.0, 9.0),
    )
    bridge = CameraSpec(
        "bridge", "side", Pose((14.0, -16.5, 4.6), (14.0, 0.5, 1.1), 0.8), 9.0, (0.5, 0.86), scenery="water"
    )
    harbour = CameraSpec(
        "harbour",
        "front",
        Pose((39.0, -11.5, 6.8), (23.5, -0.6, 0.3), 0.84),
        8.5,
        (0.92, 0.5),
        scenery="harbour",
        horizon=0.26,
    )
    links = (
        LinkSpec("gate", "market", 0.5, 14.0, 0.08),
        LinkSpec("gate", "bridge", 0.36, 21.0, 0.09),
        LinkSpec("market", "harbour", 0.8, 17.0, 0.08),
        LinkSpec("bridge", "harbour", 0.78, 12.0, 0.08),
        LinkSpec("harbour", "gate", 0.4, 26.0, 0.09),
    )
    entries = (Entry("gate", 0.17), Entry("market", 0.07), Entry("bridge", 0.07), Entry("harbour", 0.03))
    return SiteSpec("town", (gate, market, bridge, harbour), links, entries, warm_up_s=150.0)


def _grid(count: int) -> SiteSpec:
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    rng = np.random.default_rng([7001, count])
    models = _town().cameras
    cameras = []
    for index in range(count):
        row, column = divmod(index, columns)
        model = models[int(rng.integers(len(models)))]
        place = ((column + 0.5) / columns, (row + 0.5) / rows)
        cameras.append(_like(model, f"c{index + 1:03d}", float(rng.uniform(0.85, 1.2)) * model.speed_mps, place))
    links = []
    for index in range(count):
        row, column = divmod(index, columns)
        right = row * columns + (column + 1) % columns
        down = (row + 1) % rows * columns + column
        targets = sorted({target for target in (right, down) if target < count and target != index})
        for target in targets:
            median, sigma = float(rng.uniform(12.0, 40.0)), float(rng.uniform(0.08, 0.13))
            links.append(LinkSpec(cameras[index].id, cameras[target].id, 0.8 / len(targets), median, sigma))
    entries = tuple(Entry(camera.id, 0.035) for camera in cameras)
    return SiteSpec(f"grid-{count}", tuple(cameras), tuple(links), entries, warm_up_s=240.0)


def _like(model: CameraSpec, name: str, speed_mps: float, place: tuple[float, float]) -> CameraSpec:
    return CameraSpec(
        name,
        model.viewpoint,
        model.pose,
        speed_mps,
        place,
        scenery=model.scenery,
        horizon=model.horizon,
        portal_m=model.portal_m,
        light=model.light,
    )
