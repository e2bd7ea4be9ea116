"""The bodies that drive and walk through the simulated site, as extruded side profiles.

x runs backwards from the front bumper (0 at the front, length at the back), z up, y to the left; metres.
The same points give the true bounding box and the drawing, so the two always agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Outline = tuple[tuple[float, float], ...]  # (x, z) points


@dataclass(frozen=True, slots=True)
class Part:
    """One extruded profile. `glass` are the strips of the profile (by first point) that are windows."""

    profile: Outline  # from the lower front corner over the roof to the lower back corner
    half_width_m: float
    roof_inset_m: float = 0.0  # how much narrower the body is above the belt line
    belt_m: float = 9.0  # height of the belt line
    glass: tuple[int, ...] = ()
    side_windows: tuple[Outline, ...] = ()
    role: str = "body"  # body | cargo

    def points(self) -> NDArray[np.float64]:
        """(P, 2, 3): the profile's points on the right and on the left side."""
        x, z = np.array(self.profile).T
        half = self.half_width_at(z)
        return np.stack([np.stack([-x, -half, z], 1), np.stack([-x, half, z], 1)], 1)

    def half_width_at(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Half the width at height z: narrower above the belt line."""
        top = max(height for _, height in self.profile)
        share = np.clip((z - self.belt_m) / max(top - self.belt_m, 1e-6), 0.0, 1.0)
        return self.half_width_m - self.roof_inset_m * share


@dataclass(frozen=True, slots=True)
class Shape:
    """A body: its parts and its wheels."""

    name: str
    class_name: str
    length_m: float
    parts: tuple[Part, ...]
    wheels_m: tuple[float, ...]  # distance of each axle from the front bumper
    wheel_radius_m: float
    plate_z_m: float = 0.55

    @property
    def half_width_m(self) -> float:
        return max(part.half_width_m for part in self.parts)

    @property
    def height_m(self) -> float:
        return max(z for part in self.parts for _, z in part.profile)

    def hull(self) -> NDArray[np.float64]:
        """(P, 3) float64: every point that can touch the bounding box, relative to the front bumper on the ground."""
        bodies = [part.points().reshape(-1, 3) for part in self.parts]
        half = self.half_width_m - 0.02
        tyres = [(-x + dx, y, 0.0) for x in self.wheels_m for dx in (-0.12, 0.12) for y in (-half, half)]
        return np.concatenate([*bodies, np.array(tyres).reshape(-1, 3)])


_CAR_FRONT: Outline = ((0.05, 0.22), (0.0, 0.5), (0.08, 0.7), (1.15, 0.92), (1.95, 1.42))


def _car(name: str, length: float, back: Outline, windows: tuple[Outline, ...], rear_glass: tuple[int, ...]) -> Shape:
    part = Part(
        (*_CAR_FRONT, *back),
        half_width_m=0.9,
        roof_inset_m=0.2,
        belt_m=0.92,
        glass=(3, *rear_glass),
        side_windows=windows,
    )
    return Shape(name, "car", length, (part,), (0.85, length - 0.85), 0.32)


HATCHBACK = _car(
    "hatchback",
    4.0,
    ((3.2, 1.45), (3.8, 1.02), (3.98, 0.8), (4.0, 0.45), (3.95, 0.25)),
    (((1.42, 0.96), (2.03, 1.36), (2.5, 1.38), (2.5, 0.96)), ((2.58, 0.96), (2.58, 1.38), (3.1, 1.38), (3.5, 0.98))),
    (5,),
)
SALOON = _car(
    "saloon",
    4.7,
    ((3.1, 1.43), (3.85, 1.0), (4.62, 0.95), (4.7, 0.6), (4.64, 0.25)),
    (((1.42, 0.96), (2.03, 1.36), (2.5, 1.37), (2.5, 0.96)), ((2.58, 0.96), (2.58, 1.37), (3.05, 1.35), (3.6, 0.97))),
    (5,),
)
ESTATE = _car(
    "estate",
    4.8,
    ((4.25, 1.47), (4.7, 1.02), (4.8, 0.8), (4.8, 0.45), (4.75, 0.25)),
    (
        ((1.42, 0.96), (2.03, 1.36), (2.5, 1.39), (2.5, 0.96)),
        ((2.58, 0.96), (2.58, 1.39), (3.4, 1.4), (3.4, 0.96)),
        ((3.48, 0.96), (3.48, 1.4), (4.15, 1.4), (4.45, 0.99)),
    ),
    (5,),
)
VAN = Shape(
    "van",
    "van",
    5.4,
    (
        Part(
            (
                (0.05, 0.28),
                (0.0, 0.6),
                (0.1, 1.0),
                (0.75, 1.22),
                (1.5, 2.12),
                (1.8, 2.3),
                (5.3, 2.3),
                (5.4, 2.2),
                (5.4, 0.35),
            ),
            half_width_m=1.0,
            roof_inset_m=0.1,
            belt_m=1.2,
            glass=(3,),
            side_windows=(((1.05, 1.25), (1.62, 1.95), (2.3, 1.95), (2.3, 1.25)),),
        ),
    ),
    (0.95, 4.3),
    0.35,
    0.6,
)
TRUCK = Shape(
    "truck",
    "truck",
    8.2,
    (
        Part(
            ((2.3, 0.85), (2.3, 3.4), (8.2, 3.4), (8.2, 0.85)),
            half_width_m=1.22,
            role="cargo",
        ),
        Part(
            ((0.0, 0.4), (0.0, 1.45), (0.15, 2.5), (0.4, 2.75), (2.1, 2.75), (2.1, 0.45)),
            half_width_m=1.15,
            roof_inset_m=0.06,
            belt_m=1.5,
            glass=(1,),
            side_windows=(((0.35, 1.5), (0.45, 2.3), (1.35, 2.3), (1.35, 1.5)),),
        ),
    ),
    (1.1, 5.6, 6.8),
    0.5,
    0.75,
)
_BUS_WINDOWS: tuple[Outline, ...] = tuple(
    ((x, 1.25), (x, 2.4), (x + 1.55, 2.4), (x + 1.55, 1.25)) for x in (1.6, 3.3, 5.0, 6.7, 8.4)
)
BUS = Shape(
    "bus",
    "bus",
    10.6,
    (
        Part(
            (
                (0.0, 0.35),
                (0.0, 1.05),
                (0.15, 2.55),
                (0.35, 2.95),
                (10.5, 2.95),
                (10.6, 2.6),
                (10.6, 1.4),
                (10.55, 0.4),
            ),
            half_width_m=1.25,
            roof_inset_m=0.05,
            belt_m=1.2,
            glass=(1, 5),
            side_windows=_BUS_WINDOWS,
        ),
    ),
    (2.5, 8.0),
    0.48,
    0.6,
)
PERSON = Shape(
    "person",
    "person",
    0.5,
    (Part(((0.05, 0.0), (0.05, 1.3), (0.1, 1.75), (0.4, 1.75), (0.45, 1.3), (0.45, 0.0)), half_width_m=0.26),),
    (),
    0.0,
)

SHAPES: dict[str, Shape] = {shape.name: shape for shape in (HATCHBACK, SALOON, ESTATE, VAN, TRUCK, BUS, PERSON)}
CLASS_NAMES: tuple[str, ...] = ("car", "van", "truck", "bus")
