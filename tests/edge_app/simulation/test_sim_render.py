"""The first fidelity: pictures."""

import numpy as np
import pytest

from edge_app.simulation.looks import MARKS, PAINT, Look
from edge_app.simulation.mesh import build_mesh
from edge_app.simulation.render import Renderer
from edge_app.simulation.shapes import SHAPES
from edge_app.simulation.world import World


def test_pictures_have_their_size_and_are_a_function_of_time() -> None:
    world = World("town", seed=7, seconds=30.0, persons=True)
    for camera in world.cameras:
        renderer = Renderer(world, camera.id)
        first = renderer.frame(world.start_s + 12.3)
        assert first.shape == (360, 640, 3)
        assert first.dtype == np.uint8
        renderer.frame(world.start_s + 3.0)
        assert np.array_equal(renderer.frame(world.start_s + 12.3), first)
        assert 30 < first.mean() < 220


def test_a_vehicle_changes_the_picture_where_its_box_is() -> None:
    world = World("town", seed=7, difficulty=0.0, seconds=120.0)
    renderer = Renderer(world, "bridge")
    times = world.start_s + np.arange(0.0, 120.0, 0.5)
    empty = next(t for t in times if len(world.visible("bridge", t)) == 0)
    busy = next(
        t
        for t in times
        if len(world.visible("bridge", t)) == 1 and world.visible("bridge", t).cut[0] == 0 and t > empty
    )
    change = np.abs(renderer.frame(busy).astype(int) - renderer.frame(empty)).mean(2)
    x0, y0, x1, y1 = world.visible("bridge", busy).boxes[0].astype(int)
    inside = change[y0:y1, x0:x1].mean()
    outside = change[40 : y0 - 20].mean()  # above the vehicle, below the clock
    assert inside > 4 * outside


def test_cameras_see_the_same_world_differently() -> None:
    world = World("town", seed=7, seconds=10.0)
    means = [Renderer(world, camera.id).frame(world.start_s + 5.0).mean((0, 1)) for camera in world.cameras]
    assert np.ptp(np.stack(means), axis=0).max() > 5.0


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "person"])
@pytest.mark.parametrize("mark", [None, *MARKS])
def test_every_shape_can_be_drawn_with_every_mark(shape: str, mark: str | None) -> None:
    marks = () if mark is None else ((mark, "red"),)
    mesh = build_mesh(Look(shape, "blue", marks, (1.0, 1.0, 1.0)))
    assert len(mesh.slices) == len(mesh.paints) == len(mesh.normals) == len(mesh.details)
    assert mesh.slices[-1].stop == len(mesh.points)
    assert np.isfinite(mesh.points).all()
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1.0)
    # The drawing stays inside the true hull, but for what stands on the roof.
    hull, points = SHAPES[shape].hull(), mesh.points
    assert points[:, 1].min() > hull[:, 1].min() - 0.1
    assert points[:, 0].max() < 0.1
    assert all(0 <= value <= 255 for paint in mesh.paints for value in paint)


def test_every_paint_has_a_colour_of_its_own() -> None:
    colours = np.array(list(PAINT.values()), np.float64)
    gaps = np.linalg.norm(colours[:, None] - colours[None], axis=2) + 1e9 * np.eye(len(colours))
    assert gaps.min() > 40
