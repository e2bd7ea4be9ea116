"""The third fidelity: finished tracklets with embeddings, straight from the truth, for sites of any size."""

from __future__ import annotations

import numpy as np

from edge_app.simulation.appearance import VERSION, embeddings_of, name_code
from edge_app.simulation.traffic import Passage
from edge_app.simulation.world import World
from edge_app.types import Floats, Tracklet

_PATH_STEP_S = 0.5
_VIEWS = 5
_TIME_SIGMA_S = 0.1
_EDGE_SHARE = 0.04  # of the frame: a box this near to an edge came through it


def simulated_tracklets(world: World, node: str = "sim") -> tuple[list[Tracklet], dict[str, int]]:
    """All tracklets whose passage ends within the world's span, ordered by exit time; and tracklet id → vehicle id.

    Some passages are lost (never tracked) and times are a little off, more so with difficulty.
    """
    tracklets = []
    truth: dict[str, int] = {}
    for passage in world.passages():
        rng = np.random.default_rng([world.demand.seed, passage.vehicle, name_code(passage.camera), 17])
        if not world.start_s <= passage.exit_time_s <= world.end_s or rng.random() < 0.02 * world.demand.difficulty:
            continue
        tracklet = _tracklet(world, node, passage, rng)
        tracklets.append(tracklet)
        truth[tracklet.id] = passage.vehicle
    tracklets.sort(key=lambda tracklet: (tracklet.exit_time_s, tracklet.id))
    return tracklets, truth


def _tracklet(world: World, node: str, passage: Passage, rng: np.random.Generator) -> Tracklet:
    spec = world.camera(passage.camera)
    entry_s, exit_s = max(passage.entry_time_s, world.start_s), passage.exit_time_s
    entry_s += min(abs(rng.normal(0.0, _TIME_SIGMA_S)), (exit_s - entry_s) / 4)
    exit_s -= min(abs(rng.normal(0.0, _TIME_SIGMA_S)), (exit_s - entry_s) / 4)
    times = np.linspace(entry_s, exit_s, max(int((exit_s - entry_s) / _PATH_STEP_S) + 1, 2))
    view = world.views[passage.camera]
    boxes = view.clipped(view.boxes(passage.shape, passage.positions_at(times), passage.lateral_m))
    move = (boxes[-1, :2] + boxes[-1, 2:] - boxes[0, :2] - boxes[0, 2:]) / 2
    embeddings = embeddings_of(
        passage.look,
        passage.class_name,
        (world.site.name, passage.camera, spec.viewpoint),
        world.demand.difficulty,
        disturbances=(0.3 * rng.random(_VIEWS)).astype(np.float32),
        generators=(rng, rng),
    )
    return Tracklet(
        id=f"{node}/{passage.camera}/1/{passage.vehicle}-{round(passage.entry_time_s - world.start_s + 1e4)}",
        node=node,
        camera=passage.camera,
        class_name=passage.class_name,
        entry_time_s=float(entry_s),
        exit_time_s=float(exit_s),
        time_sigma_s=_TIME_SIGMA_S,
        entry_zone=_edge(boxes[0], spec.width_px, spec.height_px),
        exit_zone=_edge(boxes[-1], spec.width_px, spec.height_px),
        heading_rad=float(np.arctan2(move[1], move[0])),
        embeddings=embeddings,
        qualities=np.full(_VIEWS, 0.8, np.float32),
        embedding_version=VERSION,
        path_times_s=times,
        path_boxes=boxes,
        frame_px=(spec.width_px, spec.height_px),
    )


def _edge(box: Floats, width_px: int, height_px: int) -> str:
    """The frame edge that a box touches; inside when none."""
    gaps = {
        "left": box[0] / width_px,
        "right": 1 - box[2] / width_px,
        "top": box[1] / height_px,
        "bottom": 1 - box[3] / height_px,
    }
    nearest = min(gaps, key=lambda edge: gaps[edge])
    return nearest if gaps[nearest] < _EDGE_SHARE else "inside"
