"""The second and third fidelities: detections, embeddings and tracklets from the truth."""

import numpy as np
import pytest

from edge_app.demo.score import passages_of
from edge_app.simulation.detections import SimulatedDetector, SimulatedEmbedder, intersection_over_union
from edge_app.simulation.tracklets import simulated_tracklets
from edge_app.simulation.world import World
from edge_app.types import Frame, View


@pytest.fixture(scope="module")
def world() -> World:
    return World("town", seed=7, seconds=120.0)


def frames(world: World, camera: str, step_s: float = 0.7) -> list[Frame]:
    spec = world.camera(camera)
    times = world.start_s + np.arange(0.0, 120.0, step_s)
    return [Frame(camera, float(t), None, spec.width_px, spec.height_px) for t in times]


def test_open_vehicles_are_found_and_little_else(world: World) -> None:
    detector = SimulatedDetector(world)
    wanted = found = right = total = 0
    for camera in world.cameras:
        given = frames(world, camera.id)
        for frame, detections in zip(given, detector.detect(given), strict=True):
            truth = world.visible(camera.id, frame.time_s)
            total += len(detections)
            if len(truth) == 0:
                continue
            overlaps = intersection_over_union(detections.boxes, truth.boxes)
            right += int((overlaps.max(1, initial=0.0) > 0.5).sum())
            open_ = truth.occluded < 0.2
            wanted += int(open_.sum())
            found += int((overlaps.max(0, initial=0.0) > 0.5)[open_].sum())
    assert found / wanted > 0.96
    assert right / total > 0.94


def test_the_detector_is_a_function_of_camera_and_time(world: World) -> None:
    given = frames(world, "harbour", 3.0)
    forwards = SimulatedDetector(world).detect(given)
    backwards = SimulatedDetector(World("town", seed=7, seconds=120.0)).detect(given[::-1])[::-1]
    for first, second in zip(forwards, backwards, strict=True):
        assert np.array_equal(first.boxes, second.boxes)
        assert np.array_equal(first.scores, second.scores)
        assert np.array_equal(first.classes, second.classes)


def views_of(world: World, camera: str, count: int = 40) -> tuple[list[View], list[int]]:
    views, vehicles = [], []
    for time_s in world.start_s + np.arange(0.0, 120.0, 1.1):
        truth = world.visible(camera, float(time_s))
        for index in range(len(truth)):
            if truth.occluded[index] < 0.2 and len(views) < count:
                views.append(View("t", camera, float(time_s), truth.boxes[index] + 1.0, 1.0, None))
                vehicles.append(int(truth.ids[index]))
    return views, vehicles


def test_embeddings_are_unit_rows_that_tell_looks_apart(world: World) -> None:
    embedder = SimulatedEmbedder(world)
    views, vehicles = views_of(world, "gate")
    rows = embedder.embed(views)
    assert rows.shape == (len(views), embedder.dimension)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    looks = {p.vehicle: p.look.key for p in world.passages()}
    cosine = rows @ rows.T
    number = np.array(vehicles)
    same = (number[:, None] == number[None]) & ~np.eye(len(number), dtype=bool)
    unlike = np.array([[looks[a] != looks[b] for b in vehicles] for a in vehicles])
    assert np.median(cosine[same]) > np.percentile(cosine[unlike], 95)


def test_embeddings_do_not_depend_on_order_or_company(world: World) -> None:
    embedder = SimulatedEmbedder(world)
    views, _ = views_of(world, "bridge", 12)
    together = embedder.embed(views)
    alone = np.concatenate([embedder.embed([view]) for view in views[::-1]])[::-1]
    assert np.array_equal(together, alone)


def test_a_view_of_nothing_and_no_views_at_all(world: World) -> None:
    embedder = SimulatedEmbedder(world)
    nothing = View("t", "gate", world.start_s + 1.0, np.array([0, 0, 9, 9], np.float32), 1.0, None)
    assert np.isclose(np.linalg.norm(embedder.embed([nothing])), 1.0)
    assert embedder.embed([]).shape == (0, embedder.dimension)


def test_look_alikes_have_nearly_equal_embeddings_across_cameras() -> None:
    world = World("town", seed=7, difficulty=1.0, seconds=600.0)
    tracklets, vehicles = simulated_tracklets(world)
    looks = {p.vehicle: p.look.key for p in world.passages()}
    means = np.stack([t.embeddings.mean(0) for t in tracklets])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    number = np.array([vehicles[t.id] for t in tracklets])
    keys = [looks[vehicle] for vehicle in number]
    alike = np.array([[a == b for b in keys] for a in keys]) & (number[:, None] != number[None])
    cameras = np.array([t.camera for t in tracklets])
    across = cameras[:, None] != cameras[None]
    cosine = means @ means.T
    same = (number[:, None] == number[None]) & across
    assert abs(np.median(cosine[alike & across]) - np.median(cosine[same])) < 0.05


def test_tracklets_come_in_order_of_exit_and_with_the_truth(world: World) -> None:
    tracklets, vehicles = simulated_tracklets(world)
    exits = [tracklet.exit_time_s for tracklet in tracklets]
    assert exits == sorted(exits)
    assert len({tracklet.id for tracklet in tracklets}) == len(tracklets) == len(vehicles)
    shown = passages_of(world, tracklets)
    assert {track: passage.vehicle for track, passage in shown.items() if passage} == vehicles
    again, _ = simulated_tracklets(World("town", seed=7, seconds=120.0))
    assert [t.id for t in again] == [t.id for t in tracklets]
    assert all(np.array_equal(a.embeddings, b.embeddings) for a, b in zip(again, tracklets, strict=True))
    assert {t.exit_zone for t in tracklets if t.camera == "bridge"} == {"right"}
