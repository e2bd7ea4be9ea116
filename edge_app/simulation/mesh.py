"""A look as painted faces in three dimensions, built once per look and drawn in every frame it appears in.

Coordinates as in shapes.py: x = 0 at the front bumper and negative behind it, y to the left, z up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_app.simulation.looks import MARK_PAINT, PAINT, Look
from edge_app.simulation.shapes import SHAPES, Outline, Part, Shape

Paint = tuple[float, float, float]  # BGR
Points = NDArray[np.float64]

SUN = np.array([-0.35, -0.45, 0.82])  # where the light comes from, in road coordinates
_AMBIENT, _DIRECT = 0.62, 0.5
_GLASS: Paint = (64.0, 52.0, 44.0)
_GLASS_SKY: Paint = (150.0, 132.0, 112.0)
_RUBBER: Paint = (30.0, 29.0, 29.0)
_RIM: Paint = (140.0, 140.0, 138.0)
_TRIM: Paint = (44.0, 42.0, 40.0)
_LAMP: Paint = (222.0, 238.0, 244.0)
_REAR_LAMP: Paint = (36.0, 30.0, 150.0)
_PLATE: Paint = (205.0, 225.0, 228.0)
BRAKE_LAMP: Paint = (70.0, 70.0, 255.0)


@dataclass(frozen=True, slots=True)
class Face:
    """One polygon. It is drawn where its `normal` looks towards the camera; details are left out when small."""

    points: Points  # (n, 3)
    normal: Points  # (3,)
    paint: Paint  # shaded
    detail: bool = False
    brake: bool = False


@dataclass(frozen=True, slots=True)
class Mesh:
    """All faces of a look in one array; `groups` are drawn from far to near, each in its own order."""

    points: Points  # (Q, 3)
    slices: tuple[slice, ...]  # of `points`, one per face
    normals: Points  # (F, 3)
    paints: tuple[Paint, ...]
    details: NDArray[np.bool_]  # (F,)
    brakes: NDArray[np.bool_]  # (F,)
    groups: tuple[tuple[float, slice], ...]  # (x of its middle, faces)
    shadow: Points  # (n, 3) outline of the body on the ground


def build_mesh(look: Look) -> Mesh:
    """The faces of a vehicle (a person is drawn from its pose instead, see figures.py)."""
    shape = SHAPES[look.shape]
    body = tuple(float(value * tint) for value, tint in zip(PAINT[look.paint], look.tint, strict=True))
    groups = [
        (_middle(part), list(_part_faces(shape, part, look, (body[0], body[1], body[2])))) for part in shape.parts
    ]
    groups.append((0.0, list(_roof_faces(shape, look))))
    wheels = list(_tyres(shape))
    faces = [*wheels, *(face for _, group in groups for face in group)]
    stops = np.cumsum([len(face.points) for face in faces])
    edges = np.cumsum([len(wheels), *(len(group) for _, group in groups)])
    spans = [slice(int(first), int(stop)) for first, stop in pairwise(edges)]
    middles = [middle for middle, _ in groups]
    return Mesh(
        points=np.concatenate([face.points for face in faces]),
        slices=tuple(slice(int(stop) - len(face.points), int(stop)) for face, stop in zip(faces, stops, strict=True)),
        normals=np.stack([face.normal for face in faces]),
        paints=tuple(face.paint for face in faces),
        details=np.array([face.detail for face in faces]),
        brakes=np.array([face.brake for face in faces]),
        groups=((float("nan"), slice(0, len(wheels))), *zip(middles, spans, strict=True)),
        shadow=_footprint(shape),
    )


def shaded(paint: Paint, normal: Points) -> Paint:
    """Lambert's law with a bright sky."""
    light = _AMBIENT + _DIRECT * max(0.0, float(normal @ SUN)) + 0.12 * max(0.0, float(normal[2]))
    return (min(paint[0] * light + 4, 255.0), min(paint[1] * light + 3, 255.0), min(paint[2] * light + 2, 255.0))


def _middle(part: Part) -> float:
    return -float(np.mean([x for x, _ in part.profile]))


def _footprint(shape: Shape) -> Points:
    half, length = shape.half_width_m, shape.length_m
    corners = np.array([[0, -half, 0], [0, half, 0], [-length, half, 0], [-length, -half, 0]], np.float64)
    cast = -SUN / SUN[2] * shape.height_m * 0.8
    return np.concatenate([corners, corners + np.array([cast[0], cast[1], 0.0])])


def _part_faces(shape: Shape, part: Part, look: Look, body: Paint) -> Iterable[Face]:
    """Strips of the profile, the two sides, then what is on them."""
    marks = dict(look.marks)
    points = part.points()  # (P, 2, 3)
    base = (214.0, 218.0, 218.0) if part.role == "cargo" and look.paint not in ("white", "silver") else body
    top = int(np.argmax([min(a[1], b[1]) for a, b in pairwise(part.profile)]))
    for index in range(len(points) - 1):
        quad = np.stack([points[index, 0], points[index + 1, 0], points[index + 1, 1], points[index, 1]])
        along = points[index + 1, 0] - points[index, 0]
        normal = np.array([along[2], 0.0, -along[0]])
        normal /= max(float(np.linalg.norm(normal)), 1e-9)
        paint = base
        if index == top and "two_tone" in marks and part.role == "body":
            paint = _mark_paint(marks["two_tone"])
        yield Face(quad, normal, shaded(paint, normal))
        if index in part.glass:
            yield from _glass(quad, normal)
    for side, sign in ((0, -1.0), (1, 1.0)):
        normal = np.array([0.0, sign, 0.0])
        yield Face(points[:, side], normal, shaded(base, normal))
        yield from _side_details(shape, part, sign, marks)
    if part.role == "body":
        yield from _front_details(shape, part, marks)
    if part is shape.parts[0]:
        yield from _rear_details(shape, part, marks)


def _glass(quad: Points, normal: Points) -> Iterable[Face]:
    """A window in a strip: dark, and paler towards its upper edge where the sky is mirrored."""
    centre = quad.mean(0)
    pane = centre + (quad - centre) * 0.86
    yield Face(pane, normal, _GLASS)
    upper = pane.copy()
    low, high = (0, 3), (1, 2)
    if pane[0, 2] > pane[1, 2]:
        low, high = high, low
    for bottom, top in zip(low, high, strict=True):
        upper[bottom] = pane[top] + 0.35 * (pane[bottom] - pane[top])
    yield Face(upper, normal, _GLASS_SKY, detail=True)


def _on_side(part: Part, sign: float, outline: Outline, lift: float = 0.01) -> Points:
    """(n, 3) an outline in (distance from the front, z), laid on the part's side."""
    x, z = np.array(outline).T
    return np.stack([-x, sign * (part.half_width_at(z) + lift), z], 1)


def _rectangle(x0: float, x1: float, z0: float, z1: float) -> Outline:
    return ((x0, z0), (x0, z1), (x1, z1), (x1, z0))


def _side_details(shape: Shape, part: Part, sign: float, marks: dict[str, str]) -> Iterable[Face]:
    normal = np.array([0.0, sign, 0.0])
    xs, zs = [x for x, _ in part.profile], [z for _, z in part.profile]
    first, last, low, high = min(xs), max(xs), min(zs), max(zs)
    if part.role == "body":
        sill = _rectangle(first + 0.1, last - 0.1, low, low + 0.14)
        yield Face(_on_side(part, sign, sill), normal, _TRIM, detail=True)
    wide = part is max(
        shape.parts, key=lambda other: max(x for x, _ in other.profile) - min(x for x, _ in other.profile)
    )
    if wide and "two_tone" in marks and shape.class_name == "car":
        for window in part.side_windows:
            grown = tuple((x, z + (0.06 if z > part.belt_m + 0.2 else -0.02)) for x, z in window)
            yield Face(_on_side(part, sign, grown, 0.005), normal, shaded(_mark_paint(marks["two_tone"]), normal))
    for window in part.side_windows:
        yield Face(_on_side(part, sign, window), normal, _GLASS)
        x0, x1 = min(x for x, _ in window), max(x for x, _ in window)
        z1 = max(z for _, z in window)
        glint = tuple((x0 + 0.3 * (x1 - x0) + 0.5 * (x - x0), max(z, z1 - 0.2)) for x, z in window)
        yield Face(_on_side(part, sign, glint, 0.012), normal, _GLASS_SKY, detail=True)
    if wide and "side_stripe" in marks:
        z = low + 0.36 * (high - low) if shape.class_name != "car" else 0.62
        stripe = _rectangle(first + 0.12, last - 0.12, z, z + 0.1 * high)
        yield Face(_on_side(part, sign, stripe, 0.015), normal, shaded(_mark_paint(marks["side_stripe"]), normal))
    if wide and "door_sign" in marks:
        middle, z = 0.55 * first + 0.45 * last, low + 0.3 * (min(high, part.belt_m) - low)
        size = 0.32 * shape.height_m**0.8
        sign_face = _rectangle(middle - size, middle + size, z, z + 0.9 * size)
        yield Face(_on_side(part, sign, sign_face, 0.02), normal, shaded(_mark_paint(marks["door_sign"]), normal))
    for axle in shape.wheels_m:
        if first <= axle <= last:
            yield Face(_wheel(shape, axle, sign, shape.wheel_radius_m), normal, _RUBBER)
            yield Face(_wheel(shape, axle, sign, shape.wheel_radius_m * 0.58), normal, _RIM, detail=True)


def _wheel(shape: Shape, axle: float, sign: float, radius: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    x = -axle + radius * np.cos(angle)
    z = shape.wheel_radius_m + radius * np.sin(angle)
    return np.stack([x, np.full(12, sign * (shape.half_width_m + 0.02)), z], 1)


def _tyres(shape: Shape) -> Iterable[Face]:
    """What shows of the tyres below the bumpers, and the dark underneath."""
    half, radius = shape.half_width_m - 0.04, shape.wheel_radius_m
    for axle, normal in ((shape.wheels_m[0], 1.0), (shape.wheels_m[-1], -1.0)):
        for sign in (-1.0, 1.0):
            y0, y1 = sign * half, sign * (half - 0.24)
            quad = np.array([[-axle, y0, 0], [-axle, y0, radius], [-axle, y1, radius], [-axle, y1, 0]], np.float64)
            yield Face(quad, np.array([normal, 0.0, 0.0]), _RUBBER)


def _across(x: float, y0: float, y1: float, z0: float, z1: float) -> Points:
    return np.array([[x, y0, z0], [x, y0, z1], [x, y1, z1], [x, y1, z0]], np.float64)


def _front_details(shape: Shape, part: Part, marks: dict[str, str]) -> Iterable[Face]:
    normal = np.array([1.0, 0.0, 0.0])
    half, x = part.half_width_m, 0.02
    z = shape.plate_z_m
    lamp_z = z + 0.06 if shape.class_name == "car" else z + 0.15
    yield Face(_across(x, -half * 0.92, half * 0.92, part.profile[0][1], z - 0.12), normal, _TRIM, detail=True)
    yield Face(_across(x, -half * 0.5, half * 0.5, z, z + 0.14), normal, _TRIM)
    for sign in (-1.0, 1.0):
        lamp = _across(x, sign * half * 0.62, sign * half * 0.97, lamp_z, lamp_z + 0.17)
        yield Face(lamp, normal, _LAMP)
    yield Face(_across(x + 0.02, -0.26, 0.26, z - 0.13, z - 0.02), normal, _PLATE, detail=True)
    if "bonnet_stripe" in marks:
        paint = _mark_paint(marks["bonnet_stripe"])
        if shape.class_name == "car":
            (x0, z0), (x1, z1) = part.profile[2], part.profile[3]
            up = np.array([z1 - z0, 0.0, x1 - x0])
            up /= np.linalg.norm(up)
            quad = np.array([[-x0, -0.22, z0], [-x1, -0.22, z1], [-x1, 0.22, z1], [-x0, 0.22, z0]]) + 0.01 * up
            yield Face(quad, up, shaded(paint, up))
        else:
            yield Face(_across(x + 0.01, -half * 0.9, half * 0.9, z + 0.4, z + 0.62), normal, shaded(paint, normal))


def _rear_details(shape: Shape, part: Part, marks: dict[str, str]) -> Iterable[Face]:
    normal = np.array([-1.0, 0.0, 0.0])
    half, x, z = part.half_width_m, -shape.length_m - 0.02, max(shape.plate_z_m, part.profile[-1][1] + 0.1)
    yield Face(_across(x, -half * 0.92, half * 0.92, part.profile[-1][1], z - 0.1), normal, _TRIM, detail=True)
    height = 0.2 if shape.class_name == "car" else 0.34
    for sign in (-1.0, 1.0):
        lamp = _across(x, sign * half * 0.66, sign * half * 0.97, z + 0.06, z + 0.06 + height)
        yield Face(lamp, normal, _REAR_LAMP, brake=True)
    yield Face(_across(x - 0.01, -0.26, 0.26, z - 0.06, z + 0.06), normal, _PLATE, detail=True)
    if shape.class_name in ("truck", "van"):  # the two wings of the door
        yield Face(_across(x, -0.02, 0.02, part.profile[-1][1] + 0.1, shape.height_m - 0.1), normal, _TRIM, detail=True)
    if "rear_sticker" in marks:
        paint = shaded(_mark_paint(marks["rear_sticker"]), normal)
        yield Face(
            _across(x - 0.01, -half * 0.58, -half * 0.1, z + 0.1, z + 0.1 + 0.22 * shape.height_m), normal, paint
        )


def _roof_faces(shape: Shape, look: Look) -> Iterable[Face]:
    """A rack with a box, or a lit sign, on the roof."""
    marks = dict(look.marks)
    roof = shape.parts[-1]
    z = max(height for _, height in roof.profile)
    xs = [x for x, height in roof.profile if height > z - 0.1]
    middle = -(min(xs) + max(xs)) / 2
    if "roof_rack" in marks:
        yield from _box((middle, 0.62, 0.5), (z, z + 0.3), _mark_paint(marks["roof_rack"]))
    elif "roof_sign" in marks:
        yield from _box((middle + 0.1, 0.16, 0.42), (z, z + 0.24), _mark_paint(marks["roof_sign"]))
        front = np.array([1.0, 0.0, 0.0])
        yield Face(_across(middle + 0.27, -0.3, 0.3, z + 0.06, z + 0.18), front, _TRIM, detail=True)


def _box(place: tuple[float, float, float], z: tuple[float, float], paint: Paint) -> Iterable[Face]:
    """`place` is (middle x, half length, half width)."""
    x, length, width = place
    for axis, sign in ((0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0), (2, 1.0)):
        normal = np.zeros(3)
        normal[axis] = sign
        if axis == 0:
            points = _across(x + sign * length, -width, width, z[0], z[1])
        elif axis == 1:
            y = sign * width
            points = np.array(
                [[x - length, y, z[0]], [x - length, y, z[1]], [x + length, y, z[1]], [x + length, y, z[0]]]
            )
        else:
            points = np.array(
                [
                    [x - length, -width, z[1]],
                    [x - length, width, z[1]],
                    [x + length, width, z[1]],
                    [x + length, -width, z[1]],
                ]
            )
        yield Face(points, normal, shaded(paint, normal))


def _mark_paint(colour: str) -> Paint:
    blue, green, red = MARK_PAINT[colour]
    return (float(blue), float(green), float(red))
