"""The composition root: configuration → parts → threads → signals. The only file that wires."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType

from edge_app.associate.draft import Rules
from edge_app.associate.facts import Match
from edge_app.bus import MqttSettings
from edge_app.config import Site
from edge_app.contract.envelope import uuid7
from edge_app.delivery.aggregate import Aggregates
from edge_app.delivery.journal import Journal
from edge_app.delivery.outgoing import Letterhead, birth_message, gap_row
from edge_app.delivery.publish import Publisher
from edge_app.errors import SourceError
from edge_app.health.health import Health, clock_state
from edge_app.health.heartbeat import Heartbeat
from edge_app.health.prometheus import PrometheusEndpoint
from edge_app.meter import Meter
from edge_app.perception.crops import CropSelector
from edge_app.perception.models import open_site_detector, open_site_embedder
from edge_app.perception.perception import Perception
from edge_app.perception.track import TrackerBank
from edge_app.perception.tracklets import TrackletBuilder, Zone
from edge_app.pipeline import PROGRESS, Association, Pipeline, Step
from edge_app.sources.cameras import Cameras
from edge_app.store.rows import Row, Shed
from edge_app.store.saver import Saver
from edge_app.store.store import Store
from edge_app.types import Detector, Embedder

log = logging.getLogger(__name__)

BROKER_ANSWER_S = 5.0
FLUSH_S = 10.0


class Node:
    """One node, opened: `with Node(config) as node: for step in node.steps(stop): …`."""

    def __init__(self, config: Site, clock: Callable[[], float] = time.time, lineage: str | None = None) -> None:
        """`lineage`: see `Store`; given for a replay, whose ids must be the same every time."""
        self.config = config
        self._lineage = lineage
        self.meter = Meter()
        self._clock = clock
        self._exit = ExitStack()

    def __enter__(self) -> Node:
        with ExitStack() as opened:
            self._open(opened)
            self._exit = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _open(self, opened: ExitStack) -> None:
        config = self.config
        self.detector, self.embedder, bundle_digest = open_models(config)
        self.store = Store(config.store.path, self._clock, self._lineage)
        opened.callback(self.store.close)
        parts = self.store.load()
        self.letterhead = Letterhead(
            site=config.site,
            node=config.node,
            boot_id=self.store.boot_id,
            embedding_version=self.embedder.version,
            bundle_digest=bundle_digest,
            config_digest=config.digest,
            clock_state=clock_state(),
        )
        self.perception = self._perception()
        carried_over = self.perception.restore(parts)
        rules = Rules(config.node, self.store.boot_id, config.links, config.associate, _event_id)
        aggregates = Aggregates(config.aggregate, [camera.id for camera in config.cameras], config.links, parts)
        saver = Saver(self.store, config.store, self._gap)
        self.pipeline = Pipeline(
            self.perception,
            Association(rules, parts),
            Journal(saver, self.letterhead, aggregates, self._clock),
            self.meter,
            carried_over,
            **json.loads(parts.get(PROGRESS, b"{}")),
        )
        self.cameras = Cameras(
            config.cameras,
            config.ticks.mode,
            resume_after=self.pipeline.positions,
            speed=config.ticks.speed,
            tick_s=config.ticks.tick_s,
        )
        opened.callback(self.cameras.close)
        self.health = Health([camera.id for camera in config.cameras], config.store.path.parent)
        self.publisher: Publisher | None = None
        if config.mqtt is not None:
            self.publisher = self._publish(config.mqtt, opened)
        if config.health.prometheus_port is not None:
            opened.callback(PrometheusEndpoint(config.health, self.health, self.store).close)

    def _publish(self, mqtt: MqttSettings, opened: ExitStack) -> Publisher:
        """Connect and say who this is. A broker that is away or refuses is tried again while the node runs."""
        config = self.config
        publisher = Publisher(self.store, mqtt, self.letterhead, self._clock)
        zones = {camera.id: list(camera.zones) for camera in config.cameras}
        detector = (config.detector.path.name if config.detector else None, self.detector.class_names)
        publisher.hold(birth_message(self.letterhead, zones, config.links, detector, self._clock()))
        publisher.start()
        opened.callback(publisher.close)
        publisher.await_answer(BROKER_ANSWER_S)
        heartbeat = Heartbeat(
            config.health,
            self.health,
            publisher,
            self.store,
            cameras=self.cameras.states,
            problem=lambda: self.pipeline.journal.problem or publisher.status.problem,
            clock=self._clock,
        )
        heartbeat.start()
        opened.callback(heartbeat.close)
        return publisher

    def _perception(self) -> Perception:
        config, names = self.config, self.detector.class_names
        track = {camera.id: config.track for camera in config.cameras}
        zones = {
            camera.id: {name: Zone(polygon=polygon) for name, polygon in camera.zones.items()}
            for camera in config.cameras
        }
        return Perception(
            self.detector,
            TrackerBank(config.node, self.store.boot_id, track, names),
            CropSelector(config.crops),
            self.embedder,
            TrackletBuilder(config.node, names, zones, config.tracklets),
            self.meter,
            {camera.id: camera.area for camera in config.cameras if camera.area is not None},
        )

    def steps(self, stop: threading.Event) -> Iterator[Step]:
        """Run until stopped, or until every recording has been played and everything is decided."""
        for step in self.pipeline.run(self.cameras.ticks(stop, self.pipeline.now or None)):
            self._count(step)
            yield step
        if stop.is_set():
            self.pipeline.save()
        else:
            yield from self.pipeline.finish()
            if self.publisher is not None and not self.publisher.flush(FLUSH_S):
                log.warning("%d messages wait in the store for the broker", self.store.depth())

    def _count(self, step: Step) -> None:
        for stage, seconds in step.seconds.items():
            if seconds:
                self.health.took(stage, seconds)
        if step.tracklets or step.facts:
            self.health.count("tracklets", len(step.tracklets))
            for fact in step.facts:
                self.health.count(f"{fact.state}_matches" if isinstance(fact, Match) else type(fact).__name__.lower())

    def failed_cameras(self) -> list[str]:
        """What went wrong with each recording that could not be read to its end."""
        return [status.last_error for status in self.cameras.states().values() if status.last_error]

    def _gap(self, shed: Shed) -> Row:
        return gap_row(self.letterhead, shed, self._clock())


def open_models(config: Site) -> tuple[Detector, Embedder, str | None]:
    """Detector, embedder and the digest of the embedder's bundle, None where it is a loose file; those of the
    simulation where the cameras deliver detections."""
    if config.delivers_detections:
        from edge_app.simulation.detections import SimulatedDetector, SimulatedEmbedder
        from edge_app.sources.simulated import world_of

        world = world_of(config.cameras[0].source)
        return SimulatedDetector(world), SimulatedEmbedder(world), None
    assert config.detector is not None  # checked by config.parse
    assert config.embedder is not None
    embedder, checked, bundle = open_site_embedder(config.embedder, config.bundles)
    detector = open_site_detector(config.detector, config.bundles)
    if bundle is None:
        return detector, embedder, None
    log.info("%s, %s %d: %s", bundle.path.name, bundle.manifest.name, bundle.manifest.serial, checked)
    return detector, embedder, bundle.digest


def run(config: Site) -> None:
    """`edge-app run`: until SIGTERM or SIGINT, or the end of all recordings."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Node(config) as node:
        for _ in node.steps(stop):
            pass
        failed = [] if stop.is_set() else node.failed_cameras()
    raise_for(failed)


def raise_for(failed: list[str]) -> None:
    """SourceError naming every camera of `failed`."""
    if failed:
        raise SourceError("\n".join(failed))


def _event_id(time_s: float, content: str) -> str:
    return uuid7(time_s, content.encode())
