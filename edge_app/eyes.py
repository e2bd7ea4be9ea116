"""A site's perception, and whoever looks at what it sees."""

from __future__ import annotations

from edge_app.config import Site
from edge_app.look.look import Look, Subject
from edge_app.look.serve import LookPage
from edge_app.meter import Meter
from edge_app.perception.crops import CropSelector
from edge_app.perception.detect import OnnxDetector
from edge_app.perception.finished import Zone
from edge_app.perception.perception import Perception
from edge_app.perception.riders import Asked
from edge_app.perception.track import TrackerBank
from edge_app.perception.tracklets import TrackletBuilder
from edge_app.types import Detector, Embedder


def open_eyes(config: Site, networks: tuple[Detector, Embedder], boot: str, meter: Meter) -> Perception:
    """Nothing was seen yet. `boot` names this run of the node in the ids of its tracks."""
    detector, embedder = networks
    names = detector.class_names
    track = {camera.id: config.track for camera in config.cameras}
    zones = {
        camera.id: {name: Zone(polygon=polygon) for name, polygon in camera.zones.items()} for camera in config.cameras
    }
    classes = config.detector and config.detector.classes
    asked = Asked(frozenset(classes) if classes else None, config.track.two_wheelers, config.track.riders_by_motion)
    return Perception(
        detector,
        TrackerBank(config.node, boot, track, names),
        CropSelector(config.crops),
        embedder,
        TrackletBuilder(config.node, names, zones, config.tracklets, asked),
        meter,
        config.areas,
    )


def subject_of(config: Site, detector: Detector) -> Subject:
    """What a look is at."""
    spec = detector.input if isinstance(detector, OnnxDetector) else None
    return Subject(
        config.site,
        tuple(camera.id for camera in config.cameras),
        config.links,
        config.areas,
        {camera.id: camera.zones for camera in config.cameras},
        detector.class_names,
        config.track.two_wheelers,
        config.track.new_track_score,
        config.tracklets.minimum_duration_s,
        config.crops,
        None if spec is None else (spec.width_px, spec.height_px),
    )


def open_page(config: Site, perception: Perception) -> LookPage:
    """The page on what it sees."""
    subject = subject_of(config, perception.detector)
    return LookPage(config.look, perception, lambda: Look(subject, pictures=True))
