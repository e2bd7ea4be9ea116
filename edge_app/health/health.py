"""What the node knows about itself: counters, latencies, the machine. Any thread may add; memory stays bounded."""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from edge_app.contract import messages
from edge_app.contract.messages import CameraStateName, NodeStateName
from edge_app.delivery.outgoing import Letterhead
from edge_app.errors import StoreError
from edge_app.health.pace import Pace
from edge_app.health.told import Condition, Told
from edge_app.settings import Settings
from edge_app.sources.status import CameraStatus
from edge_app.store.store import Store

SHORTEST_S, LONGEST_S, BUCKETS_PER_OCTAVE = 1e-4, 128.0, 8
BUCKETS = int(math.log2(LONGEST_S / SHORTEST_S) * BUCKETS_PER_OCTAVE) + 2
THERMAL = Path("/sys/class/thermal")


class HealthSettings(Settings):
    interval_s: float = Field(default=30.0, gt=0)
    """Time between two heartbeats."""
    prometheus_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of the Prometheus endpoint; none when absent."""
    prometheus_address: str = "127.0.0.1"
    """Address it listens on. It has no password: open it to a trusted network only."""
    dropped_limit: float = Field(default=0.5, gt=0, le=1)
    """The node is degraded when it drops a larger share of its cameras' frames: they come faster than it works."""


class Latencies:
    """Durations in log-spaced buckets: percentiles within 5 % from some 160 counters, however many are added."""

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.n, self.total_s = 0, 0.0

    def add(self, duration_s: float) -> None:
        place = math.log2(max(duration_s, SHORTEST_S) / SHORTEST_S) * BUCKETS_PER_OCTAVE
        self.counts[min(int(place), BUCKETS - 1)] += 1
        self.n += 1
        self.total_s += duration_s

    def percentile(self, share: float) -> float:
        """Seconds; 0.0 when nothing was added."""
        wanted, seen = share * self.n, 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return float(SHORTEST_S * 2 ** ((bucket + 0.5) / BUCKETS_PER_OCTAVE))
        return 0.0


@dataclass
class CameraCount:
    """One camera, as it was last looked at."""

    state: CameraStateName = "offline"
    reason: str | None = "not started"
    frames: int = 0  # processed by the pipeline
    dropped: int = 0  # read, and never seen by the pipeline
    corrupt: int = 0
    falls: int = 0
    frames_before: int = 0  # at the last heartbeat
    told: Told | None = None


class Health:
    """Counts until asked."""

    def __init__(
        self,
        cameras: Sequence[str],
        disk: Path = Path(),
        pace: Pace | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`disk` is any path on the disk whose free space is reported."""
        self.pace = pace or Pace()
        self.node: tuple[NodeStateName, str | None] = ("online", None)
        self.counters: Counter[str] = Counter(camera_state_changes=0)
        self.gauges: dict[str, int] = {}  # what there is now, by name
        self.stages: dict[str, Latencies] = {}  # since the start
        self.cameras = {camera: CameraCount() for camera in cameras}
        self._recent: dict[str, Latencies] = {}  # since the last heartbeat
        self._disk = disk
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._started_s = self._beat_s = monotonic()

    def count(self, name: str, n: int = 1) -> None:
        with self._lock:
            self.counters[name] += n

    def processed(self, cameras: Iterable[str]) -> None:
        """The pipeline has made a step with a frame of each of these."""
        with self._lock:
            for camera in cameras:
                self.cameras[camera].frames += 1
        self.pace.moved()

    def stands_at(self, name: str, n: int) -> None:
        """What somebody else counts."""
        with self._lock:
            self.counters[name] = n

    def collects(self, counters: Mapping[str, int], gauges: Mapping[str, int]) -> None:
        """How it stands with crops."""
        with self._lock:
            dict.update(self.counters, counters)  # a Counter's own would add
            self.gauges.update(gauges)

    def see(self, camera: str, condition: Condition, status: CameraStatus, *, last: bool = False) -> bool:
        """How a camera is doing at this moment. True when there is news: what is told of it, see `Told`, changed."""
        with self._lock:
            count = self.cameras[camera]
            count.dropped, count.corrupt, count.falls = status.dropped, status.corrupt, status.falls
            if count.told is None:
                count.told, news = Told(*condition), True
            else:
                changes = count.told.changes
                news = count.told.see(condition, self._monotonic(), last=last)
                self.counters["camera_state_changes"] += count.told.changes - changes
            count.state, count.reason = count.told.condition
        return news

    def look_at_pace(self) -> None:
        """Compare what came with what was processed; call it after every `see`."""
        with self._lock:
            counts = self.cameras.values()
            self.pace.count(sum(one.frames for one in counts), sum(one.dropped for one in counts))

    def took(self, stage: str, duration_s: float) -> None:
        with self._lock:
            for latencies in (self.stages, self._recent):
                latencies.setdefault(stage, Latencies()).add(duration_s)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.took(name, time.perf_counter() - began_s)

    def heartbeat(self, letterhead: Letterhead, store: Store, now_s: float) -> messages.Health:
        """Everything since the last one; latencies and frame rates start anew."""
        with self._lock:
            elapsed_s = max(self._monotonic() - self._beat_s, 1e-3)
            self._beat_s = self._monotonic()
            recent, self._recent = self._recent, {}
            cameras = tuple(self._camera_health(name, camera, elapsed_s) for name, camera in self.cameras.items())
            counters = {**self.counters, **self.gauges}
        return messages.Health(
            **letterhead.once(now_s),
            uptime_s=round(self._monotonic() - self._started_s, 3),
            cameras=cameras,
            stages=tuple(
                messages.StageHealth(
                    stage=stage, n=one.n, p50_s=round(one.percentile(0.5), 6), p95_s=round(one.percentile(0.95), 6)
                )
                for stage, one in recent.items()
            ),
            temperatures_celsius=temperatures_celsius(),
            disk_free_bytes=disk_free_bytes(self._disk),
            memory_rss_bytes=memory_rss_bytes(),
            outbox_depth=max(store.depth(), 0),
            outbox_bytes=max(store.depth_bytes(), 0),
            outbox_oldest_unsent_s=oldest_unsent_s(store),
            counters=counters,
        )

    def _camera_health(self, name: str, camera: CameraCount, elapsed_s: float) -> messages.CameraHealth:
        fps = (camera.frames - camera.frames_before) / elapsed_s
        camera.frames_before = camera.frames
        return messages.CameraHealth(
            camera=name,
            state=camera.state,
            fps=round(fps, 3),
            frames=camera.frames,
            frames_dropped=camera.dropped,
            corrupt=camera.corrupt,
            falls=camera.falls,
        )


def oldest_unsent_s(store: Store) -> float | None:
    """A failing disk must not silence the heartbeat that would tell of it."""
    with suppress(StoreError):
        return store.oldest_unsent_s()
    return None


def temperatures_celsius(folder: Path = THERMAL) -> dict[str, float]:
    """Zone → temperature; empty where the machine has no such zones. A zone that cannot be read is left out."""
    found: dict[str, float] = {}
    for zone in sorted(folder.glob("thermal_zone*")):
        with suppress(OSError, ValueError):
            name = (zone / "type").read_text().strip()
            celsius = int((zone / "temp").read_text()) / 1000
            found[name if name not in found else f"{name}-{zone.name}"] = celsius
    return found


def disk_free_bytes(path: Path) -> int | None:
    with suppress(OSError):
        return shutil.disk_usage(path).free
    return None


def memory_rss_bytes() -> int | None:
    """Resident memory of this process; None where there is no /proc."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None
