"""The Prometheus endpoint: the same numbers as the heartbeat, collected when they are asked for."""

from __future__ import annotations

import errno
import http.client
import logging
import socket
import threading
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edge_app.errors import WorldError
from edge_app.health.health import (
    BUCKETS_PER_OCTAVE,
    SHORTEST_S,
    Health,
    HealthSettings,
    Latencies,
    memory_rss_bytes,
    oldest_unsent_s,
)
from edge_app.store.store import Store

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

log = logging.getLogger(__name__)

TRY_AGAIN_S = 10.0


class _Collector:
    def __init__(self, health: Health, store: Store) -> None:
        self._health, self._store = health, store

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        frames = CounterMetricFamily("crosslane_frames", "Frames processed.", labels=["camera"])
        dropped = CounterMetricFamily("crosslane_frames_dropped", "Frames replaced unseen.", labels=["camera"])
        working = GaugeMetricFamily("crosslane_camera_ok", "1 while the camera delivers.", labels=["camera"])
        for name, camera in self._health.cameras.items():
            frames.add_metric([name], camera.frames)
            dropped.add_metric([name], camera.dropped)
            working.add_metric([name], float(camera.state == "ok"))
        yield from (frames, dropped, working)
        well = self._health.node[0] == "online"
        yield GaugeMetricFamily("crosslane_node_ok", "0 while the node is degraded; its log says why.", float(well))
        events = CounterMetricFamily("crosslane_events", "What happened, by name.", labels=["event"])
        for name, count in list(self._health.counters.items()):
            events.add_metric([name], count)
        yield events
        stands = GaugeMetricFamily("crosslane_waiting", "What there is now, by name.", labels=["what"])
        for name, count in list(self._health.gauges.items()):
            stands.add_metric([name], count)
        yield stands
        stages = HistogramMetricFamily("crosslane_stage_seconds", "Time spent in each stage.", labels=["stage"])
        for name, latencies in list(self._health.stages.items()):
            stages.add_metric([name], _octaves(latencies), latencies.total_s)
        yield stages
        yield GaugeMetricFamily("crosslane_outbox_depth", "Messages not acknowledged.", self._store.depth())
        yield GaugeMetricFamily("crosslane_outbox_bytes", "Size of these messages.", self._store.depth_bytes())
        oldest_s = oldest_unsent_s(self._store) or 0.0
        yield GaugeMetricFamily("crosslane_outbox_oldest_unsent_seconds", "Age of the oldest of these.", oldest_s)
        yield GaugeMetricFamily("crosslane_memory_rss_bytes", "Resident memory.", memory_rss_bytes() or 0)


def _octaves(latencies: Latencies) -> list[tuple[str, float]]:
    """Cumulative counts at every doubling; Prometheus wants the upper edge as text, and +Inf at the end."""
    found: list[tuple[str, float]] = []
    for end in range(BUCKETS_PER_OCTAVE, len(latencies.counts), BUCKETS_PER_OCTAVE):
        edge_s = SHORTEST_S * 2 ** (end / BUCKETS_PER_OCTAVE)
        found.append((f"{edge_s:g}", float(sum(latencies.counts[:end]))))
    return [*found, ("+Inf", float(latencies.n))]


class PrometheusEndpoint:
    """Serves `/metrics` in a thread until it is closed. While its port is taken, `problem` says so, and it tries again:
    numbers for a chart are no reason to stop matching."""

    def __init__(self, settings: HealthSettings, health: Health, store: Store) -> None:
        from prometheus_client import CollectorRegistry

        self.problem: str | None = None
        self.port = settings.prometheus_port or 0
        self._address = settings.prometheus_address
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(health, store))
        self._serving: tuple[Any, threading.Thread] | None = None
        self._stop = threading.Event()
        self._again = threading.Thread(target=self._try_again, name="prometheus", daemon=True)
        if not self._listen():
            self._again.start()

    def close(self) -> None:
        self._stop.set()
        if self._again.is_alive():
            self._again.join()
        if self._serving is not None:
            server, thread = self._serving
            server.shutdown()
            server.server_close()
            thread.join()

    def _try_again(self) -> None:
        while not self._stop.wait(TRY_AGAIN_S):
            if self._listen():
                return

    def _listen(self) -> bool:
        from prometheus_client import start_http_server

        try:
            self._serving = start_http_server(self.port, self._address, self._registry)
        except OSError as error:
            if self.problem is None:
                self.problem = f"Prometheus: {_cannot_listen(self._address, self.port, error)}"
                log.warning("%s; trying again every %g s", self.problem, TRY_AGAIN_S)
            return False
        self.port = self._serving[0].server_port
        if self.problem is not None:
            log.info("Prometheus: listening on %s:%d", self._address, self.port)
        self.problem = None
        return True


def check_port(settings: HealthSettings) -> str:
    """What `edge-app check` says of the endpoint. Raises WorldError when somebody else has its port."""
    address, port = settings.prometheus_address, settings.prometheus_port or 0
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, port), family=family):
            return f"{address}:{port} is free"
    except OSError as error:
        if error.errno == errno.EADDRINUSE and _is_a_node(address, port):
            return f"{address}:{port}: a node is serving there"
        raise WorldError(f"health.prometheus_port: {_cannot_listen(address, port, error)}") from error


def _cannot_listen(address: str, port: int, error: OSError) -> str:
    return f"cannot listen on {address}:{port}: {error.strerror or error}; choose another health.prometheus_port"


def _is_a_node(address: str, port: int) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address, address)
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=2) as answer:
            return b"crosslane_frames" in answer.read(1 << 20)
    except (OSError, ValueError, http.client.HTTPException):
        return False
