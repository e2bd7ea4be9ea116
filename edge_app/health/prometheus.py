"""The Prometheus endpoint: the same numbers as the heartbeat, collected when they are asked for."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_app import listening
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


class PrometheusEndpoint(listening.Listening):
    """Serves `/metrics`."""

    def __init__(self, settings: HealthSettings, health: Health, store: Store) -> None:
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry()
        registry.register(_Collector(health, store))
        super().__init__(
            "Prometheus", place_of(settings), lambda place: start_http_server(place.port, place.address, registry)
        )


def place_of(settings: HealthSettings) -> listening.Place:
    return listening.Place(settings.prometheus_address, settings.prometheus_port or 0, "health.prometheus_port")


def check_port(settings: HealthSettings) -> str:
    """What `edge-app check` says of the endpoint. Raises WorldError when somebody else has its port."""
    return listening.check_port(place_of(settings), _is_a_node)


def _is_a_node(place: listening.Place) -> bool:
    try:
        with urllib.request.urlopen(f"{place.from_here}/metrics", timeout=2) as answer:
            return b"crosslane_frames" in answer.read(1 << 20)
    except (OSError, ValueError, http.client.HTTPException):
        return False
