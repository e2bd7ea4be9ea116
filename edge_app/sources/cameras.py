"""All cameras of the site, run together: what the pipeline iterates over."""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

from edge_app.clock import STEP_S
from edge_app.errors import ConfigurationError
from edge_app.sources import open_source as open_camera
from edge_app.sources import together
from edge_app.sources.clock import SteadyClock
from edge_app.sources.live import LiveCamera, Opener
from edge_app.sources.lockstep import LONGEST_GAP_S, RecordedCamera, merged_ticks
from edge_app.sources.playhead import Playhead
from edge_app.sources.settings import CameraSettings
from edge_app.sources.status import CameraStatus
from edge_app.types import Frame

log = logging.getLogger(__name__)

_HOUSEKEEPING_S = 0.5  # the longest pause between two ticks of live cameras
_CLOSE_S = 2.0  # a thread that still waits for its camera then is left to its read time-out

Tick = tuple[float, list[Frame]]


class Cameras:
    """Runs all cameras and gives the pipeline its ticks.

    live      One thread per camera; a tick holds the newest frame of every camera that has one. Older frames are
              dropped and counted; a camera that fails is opened again, for ever, without holding the others.
              Recordings are paced together by `speed` (None: as fast as they can be read) and end by themselves;
              beside live cameras they play as if they happened now, from their beginning.
    lockstep  Recordings and simulations only, merged by capture time into ticks of `tick_s`: deterministic, nothing
              dropped, as fast as the pipeline takes them, or paced by `speed`.

    `resume_after`: capture time per camera after which its recording continues. `clock`: stamps live cameras.
    """

    def __init__(
        self,
        sources: Sequence[CameraSettings],
        mode: Literal["live", "lockstep"] = "live",
        open_source: Opener | None = None,
        *,
        resume_after: Mapping[str, float] | None = None,
        speed: float | None = None,
        tick_s: float = 0.1,
        clock: SteadyClock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        _refuse_impossible(sources, mode)
        self._clock = clock or SteadyClock()
        self._speed = speed or None
        self._tick_s = tick_s
        self._news = threading.Condition()
        self._live: list[LiveCamera] = []
        self._recorded: list[RecordedCamera] = []
        self._all: Sequence[LiveCamera | RecordedCamera]
        opener = open_source or partial(open_camera, clock=self._clock)
        resume = dict(resume_after or {})
        if mode == "lockstep":
            self._recorded = [
                RecordedCamera(source, opener, self._clock.monotonic, resume.get(source.id)) for source in sources
            ]
            self._all = self._recorded
            return
        recordings = [source.id for source in sources if not source.is_live]
        self._all_recorded = len(recordings) == len(sources)
        beside_live = not self._all_recorded
        if beside_live and recordings:
            self._speed = 1.0
            log.info("%s: played in real time, as if it happened now, beside live cameras", ", ".join(recordings))
        self._playhead = Playhead(recordings, self._speed, self._clock.monotonic) if self._speed else None
        rng = rng or random.Random()
        self._live = [
            LiveCamera(
                source,
                opener,
                self._news,
                self._clock,
                rng=rng,
                playhead=self._playhead,
                as_now=beside_live,
                after_s=None if beside_live else resume.get(source.id),
            )
            for source in sources
        ]
        self._all = self._live

    def ticks(self, stop: threading.Event, resume_at: float | None = None) -> Iterator[Tick]:
        """Yields (now, frames) until `stop` is set or every camera has ended; to be called once.

        `resume_at`: the `now` that was worked on last; in lockstep the next tick follows it, with or without frames.

        `now` is never before a frame of its tick, and goes backwards only when the clock of live cameras returns from a
        wrong time (`SteadyClock`). Live cameras give a tick at least every
        half second, with or without frames, so that the pipeline can look after its clocks and at `states()`.
        """
        for camera in self._all:
            camera.start()
        yield from self._live_ticks(stop) if self._live else self._paced_ticks(stop, resume_at)

    def states(self) -> dict[str, CameraStatus]:
        """How every camera is doing now; a fault shows here within a second of its limit."""
        with self._news:
            statuses = [camera.status() for camera in self._all]
        return {status.camera: status for status in statuses}

    def close(self) -> None:
        """Stops all cameras. A thread that waits for a silent camera ends by itself with its read time-out."""
        for camera in self._all:
            camera.stop()
        deadline_s = time.monotonic() + _CLOSE_S
        for camera in self._all:
            if not camera.join(max(0.0, deadline_s - time.monotonic())):
                log.info("camera %s: still waiting for its source", camera.settings.id)

    def _live_ticks(self, stop: threading.Event) -> Iterator[Tick]:
        now_s: float | None = None
        returns = self._clock.returns
        while not stop.is_set():
            with self._news:
                self._news.wait_for(self._something_new, timeout=_HOUSEKEEPING_S)
                finished = all(camera.finished for camera in self._live)
                frames = [frame for camera in self._live if (frame := camera.take()) is not None]
                for camera in self._live:
                    camera.look()
            if finished and not frames:
                return
            clock_s = self._now_s()
            if self._clock.returns != returns and clock_s is not None:  # capture time goes back, this once
                returns, now_s = self._clock.returns, None
                frames = [frame for frame in frames if frame.time_s <= clock_s + STEP_S]
            moments = [now_s, clock_s, *(frame.time_s for frame in frames)]
            known = [moment for moment in moments if moment is not None]
            if known:  # recordings that have not shown a frame yet have no time
                now_s = max(known)
                yield now_s, frames

    def _something_new(self) -> bool:
        return any(camera.has_frame() for camera in self._live) or all(camera.finished for camera in self._live)

    def _now_s(self) -> float | None:
        """Capture time at this moment; None where only the frames themselves can tell."""
        if not self._all_recorded:
            return self._clock()
        return self._playhead.position_s() if self._playhead else None

    def _paced_ticks(self, stop: threading.Event, resume_at: float | None) -> Iterator[Tick]:
        begin, last_s = (0.0, 0.0), -math.inf  # monotonic and capture time from which the pace counts; the last tick
        for now_s, frames in merged_ticks(self._recorded, self._tick_s, stop, resume_at):
            if (
                now_s - last_s > LONGEST_GAP_S
            ):  # nobody waits for what is skipped: a node without steps is taken for dead
                begin = self._clock.monotonic(), now_s
            last_s = now_s
            if self._speed:
                due_s = begin[0] + (now_s - begin[1]) / self._speed
                if stop.wait(max(0.0, due_s - self._clock.monotonic())):
                    return
            yield now_s, frames


def _refuse_impossible(sources: Sequence[CameraSettings], mode: Literal["live", "lockstep"]) -> None:
    ids = [source.id for source in sources]
    found = [
        f"camera id {camera} is used {ids.count(camera)} times" for camera in sorted(set(ids)) if ids.count(camera) > 1
    ]
    if not sources:
        found.append("no camera is configured")
    found += together.problems(sources, mode, os.environ)
    if found:
        raise ConfigurationError(found, "cameras")
