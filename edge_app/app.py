"""The composition root: configuration → parts → threads. The only file that wires."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType

from edge_app.associate.draft import Rules
from edge_app.bus import MqttSettings
from edge_app.clock import Clock
from edge_app.collection.collector import Collector
from edge_app.collection.opening import KeepsNothing, open_collector
from edge_app.config import Site
from edge_app.contract.envelope import uuid7
from edge_app.delivery.aggregate import Aggregates
from edge_app.delivery.journal import Journal
from edge_app.delivery.outgoing import Letterhead, birth_message, gap_row
from edge_app.delivery.publish import Publisher
from edge_app.errors import SourceError, SourcesError, StoreError
from edge_app.eyes import open_eyes, open_page
from edge_app.health.health import Health
from edge_app.health.heartbeat import Heartbeat
from edge_app.health.pace import STUCK_S, Pace
from edge_app.health.prometheus import PrometheusEndpoint
from edge_app.health.steps import count_step
from edge_app.health.watchdog import status_line
from edge_app.look.serve import LookPage
from edge_app.meter import Meter
from edge_app.networks import open_models
from edge_app.pipeline import DRAIN_STEP_S, Association, Pipeline, Step, progress_of
from edge_app.sources.cameras import Cameras, Tick
from edge_app.sources.clock import SteadyClock
from edge_app.stopping import STOP_WITHIN_S, Closing, flushed
from edge_app.store.parts import Parts
from edge_app.store.rows import Row, Shed
from edge_app.store.saver import Saver
from edge_app.store.store import Store

log = logging.getLogger(__name__)

BROKER_ANSWER_S = 5.0
FLUSH_S = 10.0
DISK_S = 60.0  # so long a disk that fails is waited for at the end of all recordings
CLOSE_WITHIN_S = STOP_WITHIN_S - 0.5  # before it the step under way comes to its end
# Shares of that time: what waits for somebody else's machine gets more.
CROPS, STEPS, PUBLISHER, CAMERAS, OTHERS = 0.5, 1.0, 2.5, 2.5, 0.5


class Node:
    """One node, opened: `with Node(config) as node: for step in node.steps(stop): …`."""

    def __init__(self, config: Site, clock: Clock | None = None, lineage: str | None = None) -> None:
        """`lineage`: see `Store`; given for a replay, whose ids must be the same every time."""
        self.config = config
        self._lineage = lineage
        self.meter = Meter()
        self.clock = clock or Clock()
        self._closing = Closing(CLOSE_WITHIN_S)
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
        self.detector, self.embedder, bundle_digest = open_models(config, self.clock)
        self.store = Store(config.store.path, self.clock, self._lineage)
        opened.callback(self._closing.expect("the store", OTHERS).leave_behind, self.store.close)
        parts = Parts(self.store.load())
        self.letterhead = Letterhead(
            site=config.site,
            node=config.node,
            boot_id=self.store.boot_id,
            embedding_version=self.embedder.version,
            bundle_digest=bundle_digest,
            config_digest=config.digest,
            clock_state=lambda: self.clock.state,
        )
        self.perception = open_eyes(config, (self.detector, self.embedder), self.store.boot_id, self.meter)
        carried_over = self.perception.restore(parts)
        rules = Rules(config.node, self.store.boot_id, config.links, config.associate, _event_id)
        progress = progress_of(parts)
        goes_on_at_s = progress.get("now") if config.ticks.mode == "lockstep" else None
        cameras = [camera.id for camera in config.cameras]
        aggregates = Aggregates(config.aggregate, cameras, config.links, parts, goes_on_at_s)
        self.saver = Saver(self.store, config.store, self._gap, self.clock)
        self.saver.start()
        opened.callback(self._closing.expect("the saver", OTHERS).within, self.saver.close)
        self.collector = self._collect(parts, opened)
        self.pipeline = Pipeline(
            self.perception,
            Association(rules, parts),
            Journal(self.saver, self.letterhead, aggregates, self.clock.wall),
            self.meter,
            carried_over,
            **progress,
            collection=self.collector,
        )
        self._say_losses(parts)
        self.cameras = Cameras(
            config.cameras,
            config.ticks.mode,
            resume_after=self.pipeline.positions,
            speed=config.ticks.speed,
            tick_s=config.ticks.tick_s,
            clock=SteadyClock(self.clock.wall, self.clock.monotonic),
        )
        opened.callback(self._closing.expect("the cameras", CAMERAS).leave_behind, self.cameras.close)
        self._watch_health(opened)

    def _collect(self, parts: Parts, opened: ExitStack) -> Collector | KeepsNothing:
        """Crops for the trainer, where they are asked for."""
        config = self.config
        collector = open_collector(
            config.collection,
            (config.site, config.node),
            (self.store, parts),
            self.saver,
            gap=self._gap,
            open_tracks=self.perception.builder.names,
            classes=self.detector.class_names,
            upload=None if config.upload is None else (config.upload, self.clock),
        )
        opened.callback(self._closing.expect("the crops", OTHERS).within, collector.close)
        return collector

    def _watch_health(self, opened: ExitStack) -> None:
        """Whoever hears of it: the broker, Prometheus and the log. A replay has its own account."""
        config = self.config
        pace = Pace(config.health.dropped_limit, max(STUCK_S, 2 * self._longest_tick_s()))
        self.health = Health([camera.id for camera in config.cameras], config.store.path.parent, pace)
        self.publisher: Publisher | None = None
        self.prometheus: PrometheusEndpoint | None = None
        self.page: LookPage | None = None
        if config.mqtt is not None:
            self.publisher = self._publish(config.mqtt, opened)
        if config.health.prometheus_port is not None:
            self.prometheus = PrometheusEndpoint(config.health, self.health, self.store)
            opened.callback(self._closing.expect("Prometheus", OTHERS).leave_behind, self.prometheus.close)
        if config.look.port is not None and self._lineage is None:
            self.page = open_page(config, self.perception)
            opened.callback(self._closing.expect("the page", OTHERS).leave_behind, self.page.close)
        if self._lineage is None:
            heartbeat = Heartbeat(
                config.health,
                self.health,
                self.publisher,
                self.store,
                cameras=self.cameras.states,
                problem=self._problem,
                clock=self.clock.wall,
            )
            heartbeat.start()
            opened.callback(heartbeat.close)

    def _longest_tick_s(self) -> float:
        """Seconds between two ticks that are paced; everything else comes more often."""
        ticks = self.config.ticks
        return max(ticks.tick_s, DRAIN_STEP_S) / ticks.speed if ticks.mode == "lockstep" and ticks.speed else 0.0

    def _problem(self) -> str | None:
        """What ails this node beside its pipeline and its cameras."""
        problems = [
            self.saver.problem,
            self.collector.problem,
            self.publisher and self.publisher.status.problem,
            self.prometheus and self.prometheus.problem,
            self.page and self.page.problem,
        ]
        return "; ".join(problem for problem in problems if problem) or None

    def _publish(self, mqtt: MqttSettings, opened: ExitStack) -> Publisher:
        """Connect and say who this is. A broker that is away or refuses is tried again while the node runs."""
        config = self.config
        publisher = Publisher(self.store, mqtt, self.letterhead, self.clock.wall)
        zones = {camera.id: list(camera.zones) for camera in config.cameras}
        detector = (config.detector.path.name if config.detector else None, self.detector.class_names)
        birth = birth_message(self.letterhead, zones, config.links, detector, self.clock.wall())
        for page in self.letterhead.pages(birth):
            publisher.hold(page)
        publisher.start()
        opened.callback(self._closing.expect("the broker's connection", PUBLISHER).leave_behind, publisher.close)
        publisher.await_answer(BROKER_ANSWER_S)
        return publisher

    def steps(self, stop: threading.Event) -> Iterator[Step]:
        """Run until stopped, or until every recording has been played and everything is decided."""
        for step in self.pipeline.run(self._ticks(stop)):
            yield self._counted(step, stop)
        if not stop.is_set():
            yield from self._finish(stop)
        self.health.pace.over()
        if stop.is_set():
            self.pipeline.save()
            last_crops = self._closing.expect("the last crops", CROPS)
            last_steps = self._closing.expect("the last steps", STEPS)
            last_crops.within(self.collector.settle)
            if not last_steps.within(self.saver.flush):
                log.warning("stopping without the last steps on the disk: %s", self.saver.problem or "it is slow")
        else:
            self._deliver(stop)

    def _ticks(self, stop: threading.Event) -> Iterator[Tick]:
        for tick in self.cameras.ticks(stop, self.pipeline.now or None):
            self.health.pace.moved()
            yield tick

    def _finish(self, stop: threading.Event) -> Iterator[Step]:
        """What is still open is decided at the pace of the recordings: no fact is said before its time."""
        speed = self.config.ticks.speed
        for step in self.pipeline.finish():
            yield self._counted(step, stop)
            if stop.wait(DRAIN_STEP_S / speed if speed else 0.0):
                return
            self.health.pace.moved()

    def _counted(self, step: Step, stop: threading.Event) -> Step:
        """Recordings then wait for a disk that cannot follow; a live camera does not wait."""
        if self.page is not None:
            self.page.add(step.tracklets)
        count_step(self.health, step, self.perception.losses.take())
        self.health.stands_at("messages_refused", self.letterhead.refusals.total)
        self.health.collects(self.collector.counters(), self.collector.gauges())
        if self.config.ticks.mode == "lockstep":
            self.saver.wait_for_room(stop)
            self.collector.wait_for_room(stop)
        return step

    def status(self) -> str:
        """How the node is doing, in one line."""
        return status_line(self.cameras.states(), self._problem())

    def _deliver(self, stop: threading.Event) -> None:
        """Everything was played: all of it goes to the disk and, as far as the broker is there, to the broker.

        Raises StoreError when the disk does not take it; nothing is lost then, a restart goes on from what it has.
        """
        self.collector.settle(DISK_S, stop)
        if not flushed(self.saver.flush, DISK_S, stop) and not stop.is_set():
            raise StoreError(self.saver.problem or "the disk is too slow")
        if self.publisher is not None and not flushed(self.publisher.flush, FLUSH_S, stop):
            log.warning("%d messages wait in the store for the broker", self.store.depth())
        if not flushed(self.collector.flush, FLUSH_S, stop):
            log.warning("crops wait in the spool for their store")

    def failed_cameras(self) -> list[str]:
        """What went wrong with each recording that could not be read to its end."""
        return [status.last_error for status in self.cameras.states().values() if status.last_error]

    def _say_losses(self, parts: Parts) -> None:
        """State that cannot be read is set aside and begun anew; that, and what a damaged file cost, is published."""
        if parts.unreadable:
            for group, count in self.store.set_aside(parts.unreadable, self._gap).items():
                reason = next(why for key, why in parts.unreadable.items() if key.startswith(group))
                log.warning("stored state %s: %d unreadable and begun anew: %s", group, count, reason)
        self.store.say_losses(self._gap)

    def _gap(self, shed: Shed) -> Row:
        return gap_row(self.letterhead, shed, self.clock.wall())


def raise_for(failed: list[str]) -> None:
    """SourceError naming every camera of `failed`."""
    if failed:
        raise SourcesError(failed) if len(failed) > 1 else SourceError(failed[0])


def _event_id(time_s: float, content: str) -> str:
    return uuid7(time_s, content.encode())
