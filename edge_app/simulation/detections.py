"""The second fidelity: no pixels. A detector and an embedder that read the truth and make a camera's mistakes.

Both are pure functions of (world, camera, time): asked twice, in another order or after a restart, they answer alike.
"""

from __future__ import annotations

import numpy as np

from edge_app.boxes import intersection_over_union
from edge_app.simulation.appearance import DIMENSION, VERSION, embeddings_of, name_code
from edge_app.simulation.world import Visible, World
from edge_app.types import Detections, Floats, Frame, View

_FOUND_IOU = 0.3


class SimulatedDetector:
    """Implements `edge_app.types.Detector`: jittered boxes, misses behind others, a few false alarms."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.class_names: tuple[str, ...] = world.class_names

    def detect(self, frames: list[Frame]) -> list[Detections]:
        return [self._detect(frame.camera, frame.time_s) for frame in frames]

    def _detect(self, camera: str, time_s: float) -> Detections:
        demand = self._world.demand
        truth = self._world.visible(camera, time_s)
        rng = _generator(demand.seed, camera, time_s)
        draws = rng.random((len(truth), 3))
        noise = rng.normal(size=(len(truth), 4))
        # A box is lost gradually: hardly ever in the open, nearly always when four fifths are hidden.
        lost = 0.004 + 0.02 * demand.difficulty + 1.0 / (1.0 + np.exp((0.72 - truth.occluded) / 0.05))
        kept = draws[:, 0] > lost
        sides = np.tile(truth.boxes[:, 2:] - truth.boxes[:, :2], (1, 2))
        boxes = truth.boxes + (0.008 + 0.02 * demand.difficulty) * sides * noise
        scores = np.clip(0.93 - 0.45 * truth.occluded - 0.12 * truth.cut - 0.12 * draws[:, 1], 0.05, 0.99)
        mistaken = draws[:, 2] < 0.02 * demand.difficulty
        classes = np.where(mistaken, (truth.classes + 1) % len(self.class_names), truth.classes)
        false_box, false_score = self._false_alarm(camera, rng)
        size = np.array([self._world.camera(camera).width_px, self._world.camera(camera).height_px] * 2, np.float32)
        return Detections(
            np.clip(np.concatenate([boxes[kept], false_box]), 0, size).astype(np.float32),
            np.concatenate([scores[kept], false_score]).astype(np.float32),
            np.concatenate([classes[kept], np.zeros(len(false_score), np.int64)]),
        )

    def _false_alarm(self, camera: str, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """(n, 4) boxes and (n,) scores with n = 0 or 1."""
        if rng.random() > 0.01 + 0.02 * self._world.demand.difficulty:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        spec = self._world.camera(camera)
        width, height = rng.uniform(20, 90), rng.uniform(20, 70)
        left, top = rng.uniform(0, spec.width_px - width), rng.uniform(0, spec.height_px - height)
        box = np.array([[left, top, left + width, top + height]], np.float32)
        return box, np.array([rng.uniform(0.1, 0.55)], np.float32)


class SimulatedEmbedder:
    """Implements `edge_app.types.Embedder`: finds the vehicle behind a view by IoU with the truth at its time."""

    version: str = VERSION
    dimension: int = DIMENSION

    def __init__(self, world: World) -> None:
        self._world = world

    def embed(self, views: list[View]) -> Floats:
        """(M, D) float32 unit rows; a view of nothing gets a random direction."""
        if not views:
            return np.zeros((0, DIMENSION), np.float32)
        return np.concatenate([self._one(view) for view in views])

    def _one(self, view: View) -> Floats:
        world = self._world
        truth = world.visible(view.camera, view.time_s)
        index = best_overlap(view.box, truth)
        if index is None:
            vector = _generator(world.demand.seed, view.camera, view.time_s).normal(size=(1, DIMENSION))
            direction: Floats = (vector / np.linalg.norm(vector)).astype(np.float32)
            return direction
        passage = truth.passages[index]
        camera = (world.site.name, view.camera, world.camera(view.camera).viewpoint)
        generators = (
            _generator(world.demand.seed + passage.vehicle, view.camera, passage.entry_time_s),
            _generator(world.demand.seed + passage.vehicle, view.camera, view.time_s),
        )
        disturbance = np.array([truth.occluded[index] + truth.cut[index]], np.float32)
        look, difficulty = passage.look, world.demand.difficulty
        return embeddings_of(
            look, passage.class_name, camera, difficulty, disturbances=disturbance, generators=generators
        )


def best_overlap(box: Floats, truth: Visible) -> int | None:
    """The index of the visible vehicle whose box fits best, None below IoU 0.3."""
    if len(truth) == 0:
        return None
    overlaps = intersection_over_union(box[None], truth.boxes)[0]
    best = int(np.argmax(overlaps))
    return best if overlaps[best] >= _FOUND_IOU else None


def _generator(seed: int, camera: str, time_s: float) -> np.random.Generator:
    return np.random.default_rng([seed, name_code(camera), round(time_s * 1000)])
