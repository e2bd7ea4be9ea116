"""A simulated site as a site configuration: what an installer would have written for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_app.config import SiteConfig, parse
from edge_app.errors import ConfigurationError
from edge_app.simulation.world import START_S, World

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

    def world(self) -> World:
        """Raises ConfigurationError for an unknown site."""
        try:
            return World(
                self.site, seed=self.seed, difficulty=self.difficulty, seconds=self.seconds, start_s=self.start_s
            )
        except ValueError as error:
            raise ConfigurationError([str(error)], "simulated site") from None


def site_config(play: Play, store: Path, mqtt: dict[str, Any] | None = None, models: Path = MODELS) -> SiteConfig:
    """The configuration of a simulated site. `mqtt` as in a file; `models` holds the demo's detector and embedder."""
    return parse(raw_config(play, store, mqtt, models), Path("simulated site"))


def raw_config(play: Play, store: Path, mqtt: dict[str, Any] | None, models: Path = MODELS) -> dict[str, Any]:
    """The same as plain values, ready for YAML."""
    world = play.world()
    address = (
        f"sim://{play.site}/{{camera}}?seed={play.seed}&difficulty={play.difficulty:g}&seconds={play.seconds:g}"
        f"&start={play.start_s:.0f}&fidelity={play.fidelity}"
    )
    raw: dict[str, Any] = {
        "site": play.site,
        "node": "edge-1",
        "ticks": {"mode": "lockstep", "speed": play.speed},
        "cameras": [{"id": camera.id, "source": address.format(camera=camera.id)} for camera in world.cameras],
        "links": [
            {"from_camera": link.from_, "to_camera": link.to, "transit": _guess(link.median_s)} for link in world.links
        ],
        "store": {"path": str(store)},
    }
    if play.fidelity == "frames":
        raw["detector"] = {"path": str(models / "demo_detector.onnx")}
        raw["embedder"] = {"path": str(models / "demo_embedder.onnx")}
    if mqtt is not None:
        raw["mqtt"] = mqtt
    return raw


def _guess(median_s: float) -> dict[str, float]:
    """What somebody with a map would say: half to three times a rounded travel time. The rest must be learned."""
    typical = max(round(median_s / 5) * 5, 5)
    return {"min_s": typical / 2, "typical_s": float(typical), "max_s": typical * 3.0}
