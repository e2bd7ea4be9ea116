"""The two networks of a node: those of its configuration, or those that a simulation of detections brings along."""

from __future__ import annotations

import logging

from edge_app.clock import Clock
from edge_app.config import Site
from edge_app.perception.models import note_run, open_site_detector, open_site_embedder
from edge_app.perception.recorded import RecordedSettings, open_recorded
from edge_app.runtime.bundles import Today
from edge_app.types import Detector, Embedder

log = logging.getLogger(__name__)


def open_models(config: Site, clock: Clock) -> tuple[Detector, Embedder, str | None]:
    """Detector, embedder and the digest of the embedder's bundle, None where it is a loose file; those of the
    simulation where the cameras deliver detections; boxes from a file stand for either detector."""
    cameras = [camera.id for camera in config.cameras]
    if config.delivers_detections:
        from edge_app.simulation.detections import SimulatedDetector, SimulatedEmbedder
        from edge_app.sources.simulated import world_of

        world = world_of(config.cameras[0].source)
        boxes = open_recorded(config.detector, cameras) if isinstance(config.detector, RecordedSettings) else None
        return boxes or SimulatedDetector(world), SimulatedEmbedder(world), None
    assert config.detector is not None  # checked by config.parse
    assert config.embedder is not None
    today = Today(clock.wall(), clock.state == "ok")
    embedder, checked, bundle, unseen = open_site_embedder(config.embedder, config.bundles, today)
    detector, detectors_bundle = open_site_detector(config.detector, cameras, config.bundles, today)
    note_run(config.bundles, bundle, detectors_bundle)
    if unseen:
        log.warning("the embedder makes nothing of pictures that are %s", ", ".join(unseen))
    if bundle is None:
        return detector, embedder, None
    log.info("%s, %s %d: %s", bundle.path.name, bundle.manifest.name, bundle.manifest.serial, checked)
    return detector, embedder, bundle.digest
