"""A simulated site as a site configuration: what an installer would have written for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge_app.config import Site, parse
from edge_app.errors import ConfigurationError
from edge_app.simulation.sites import LinkSpec
from edge_app.simulation.world import START_S, World

LOOKS = 12  # passages looked at
# of the demo's embedder, between tracklets of the seeds 31 to 33, which neither the demo nor its training uses
SIMILARITY = {"genuine_mean": 0.93, "genuine_std": 0.06, "impostor_mean": 0.10, "impostor_std": 0.31}
MODELS = Path(__file__).resolve().parents[2] / "configs" / "models"


@dataclass(frozen=True, slots=True)
class Play:
    """Which synthetic site to play, and how."""

    site: str = "town"
    seed: int = 7
    difficulty: float = 0.5
    seconds: float = 120.0
    fidelity: Literal["frames", "detections"] = "detections"
    speed: float | None = None  # 1 is real time; None as fast as possible
    start_s: float = START_S
    fps: float | None = None  # None: the cameras' own

    def world(self) -> World:
        """Raises ConfigurationError for an unknown site."""
        try:
            return World(
                self.site, seed=self.seed, difficulty=self.difficulty, seconds=self.seconds, start_s=self.start_s
            )
        except ValueError as error:
            raise ConfigurationError([str(error)], "simulated site") from None


def site_config(play: Play, store: Path, mqtt: dict[str, Any] | None = None, models: Path = MODELS) -> Site:
    """The configuration of a simulated site. `mqtt` as in a file; `models` holds the demo's detector and embedder."""
    return parse(raw_config(play, store, mqtt, models), Path("simulated site"))


def raw_config(play: Play, store: Path, mqtt: dict[str, Any] | None, models: Path = MODELS) -> dict[str, Any]:
    """The same as plain values, ready for YAML."""
    world = play.world()
    address = (
        f"sim://{play.site}/{{camera}}?seed={play.seed}&difficulty={play.difficulty:g}&seconds={play.seconds:g}"
        f"&start={play.start_s:.0f}&fidelity={play.fidelity}{f'&fps={play.fps:g}' if play.fps else ''}"
    )
    raw: dict[str, Any] = {
        "site": play.site,
        "node": "edge-1",
        "ticks": {"mode": "lockstep", "speed": play.speed},
        "cameras": [
            {"id": camera.id, "source": address.format(camera=camera.id), **_area(camera.horizon)}
            for camera in world.cameras
        ],
        "links": [
            {"from_camera": link.from_, "to_camera": link.to, "transit": _guess(world, link)} for link in world.links
        ],
        "store": {"path": str(store)},
    }
    if play.fidelity == "frames":
        raw["detector"] = {"path": str(models / "demo_detector.onnx"), "classes": list(world.class_names)}
        raw["track"] = {"new_track_score": 0.6}
        raw["associate"] = {"similarity": SIMILARITY}
        raw["embedder"] = {"path": str(models / "demo_embedder.onnx")}
    if mqtt is not None:
        raw["mqtt"] = mqtt
    return raw


def _area(horizon: float) -> dict[str, Any]:
    """What somebody who looks at the picture would leave out."""
    return {"area": [[0.0, horizon], [1.0, horizon], [1.0, 1.0], [0.0, 1.0]]} if horizon else {}


def _guess(world: World, link: LinkSpec) -> dict[str, float]:
    """What somebody with a stopwatch would say: half to three times a rounded travel time. The rest must be learned."""
    seconds = link.median_s + _outside_s(world, link.from_)[1] + _outside_s(world, link.to)[0]
    typical = max(round(seconds / 5) * 5, 5)
    return {"min_s": typical / 2, "typical_s": float(typical), "max_s": typical * 3.0}


def _outside_s(world: World, camera: str) -> tuple[float, float]:
    """How long vehicles are in the picture but outside the area: after entering it, and before leaving it; medians."""
    spec = world.camera(camera)
    if not spec.horizon:
        return 0.0, 0.0
    view, before, after = world.views[camera], [], []
    for passage in world.camera_passages(camera)[:LOOKS]:
        times = np.linspace(passage.entry_time_s, passage.exit_time_s, 40)[:-1]  # at the last one it is gone
        boxes = view.clipped(view.boxes(passage.shape, passage.positions_at(times), passage.lateral_m))
        inside = times[boxes[:, 3] >= spec.horizon * spec.height_px]
        if len(inside):
            before.append(inside[0] - passage.entry_time_s)
            after.append(passage.exit_time_s - inside[-1])
    return (float(np.median(before)), float(np.median(after))) if before else (0.0, 0.0)
