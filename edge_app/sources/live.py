"""One camera in its own thread, with a slot for its newest frame."""

from __future__ import annotations

import logging
import math
import random
import threading
import zlib
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from edge_app.clock import STEP_S
from edge_app.errors import SourceError
from edge_app.sources.base import Source
from edge_app.sources.clock import SteadyClock
from edge_app.sources.playhead import Playhead
from edge_app.sources.settings import CameraSettings
from edge_app.sources.status import CameraState, CameraStatus
from edge_app.types import Frame

Opener: TypeAlias = Callable[[CameraSettings, float | None], Source]

log = logging.getLogger(__name__)

_RECONNECT_FIRST_S = 0.5
_RECONNECT_MAX_S = 4.0  # with an open time-out of 4 s a returning camera is back in less than 10 s
_SETTLED_S = 5.0  # a connection that lived this long was good; the next failure begins the back-off anew
_RATE_WINDOW_S = 5.0
_CLOCK_LIMIT_S = 10.0  # frames stamped this far from now are not to be believed


def backoff_s(failures: int, rng: random.Random) -> float:
    """Pause before the next attempt: doubles up to a limit, and never in step with other cameras."""
    return min(_RECONNECT_MAX_S, _RECONNECT_FIRST_S * 2.0 ** min(failures, 10)) * rng.uniform(0.5, 1.0)


def corrupt_so_far(source: Source) -> int:
    """Damaged packets of this connection; simulations and fakes cannot be damaged and need no counter."""
    return int(getattr(source, "corrupt", 0))


class LiveCamera:
    """Reads one source for ever, opens it again when it fails, keeps only the newest frame.

    One thread for its whole life, whatever the camera does. Everything mutable is guarded by `news`, the condition
    all cameras share and on which the pipeline waits. A recording is played once; an error ends it.
    """

    def __init__(
        self,
        settings: CameraSettings,
        opener: Opener,
        news: threading.Condition,
        clock: SteadyClock,
        *,
        rng: random.Random,
        playhead: Playhead | None = None,
        after_s: float | None = None,
    ) -> None:
        self.settings = settings
        self._open = opener
        self._news = news
        self._clock = clock
        self._rng = rng
        self._playhead = playhead if not settings.is_live else None
        self._stop = threading.Event()
        self._slot: Frame | None = None
        self._connected_s: float | None = None  # monotonic; None while not connected
        self._heard_s: float | None = None  # monotonic time of this connection's newest frame
        self._changed_s = 0.0  # monotonic time of the last picture that differed from its predecessor
        self._arrivals_s: deque[float] = deque(maxlen=256)  # monotonic
        self._digest: int | None = None
        self._ended = self.finished = False
        self._frames = self._dropped = self._connections = 0
        self._corrupt_before = self._corrupt = 0
        self._last_time_s = after_s
        self._last_error: str | None = None
        self._clock_off_s = 0.0  # capture time of the newest frame minus our clock
        self._thread = threading.Thread(target=self._run, name=f"camera-{settings.id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """True when the thread has ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def has_frame(self) -> bool:
        return self._slot is not None

    def take(self) -> Frame | None:
        """The newest frame that was not taken yet. Call with `news` held."""
        frame, self._slot = self._slot, None
        return frame

    def status(self) -> CameraStatus:
        """Call with `news` held."""
        now_s = self._clock.monotonic()
        recent = [arrival_s for arrival_s in self._arrivals_s if now_s - arrival_s < _RATE_WINDOW_S]
        fps = (len(recent) - 1) / (now_s - recent[0]) if len(recent) > 1 else 0.0
        return CameraStatus(
            camera=self.settings.id,
            state=self._state(now_s),
            frames=self._frames,
            dropped=self._dropped,
            reconnects=max(0, self._connections - 1),
            corrupt=self._corrupt_before + self._corrupt,
            fps=fps,
            last_time_s=self._last_time_s,
            last_error=self._last_error,
        )

    def _state(self, now_s: float) -> CameraState:
        if self._ended:
            return "ended"
        if self._connected_s is None:
            return "offline"
        if self._is_stalled(now_s, self._connected_s):
            return "stalled"
        if self._heard_s is None:
            return "offline"  # a connection is worth nothing before its first frame
        if self.settings.is_live and (self._clock.suspect or abs(self._clock_off_s) > _CLOCK_LIMIT_S):
            return "clock_suspect"
        return "ok"

    def _is_stalled(self, now_s: float, connected_s: float) -> bool:
        silent_s = now_s - (connected_s if self._heard_s is None else self._heard_s)
        patience_s = max(self.settings.stall_after_s, 2.0 / (self.settings.fps or math.inf))
        frozen_after_s = self.settings.frozen_after_s if self.settings.is_live else None
        frozen = frozen_after_s is not None and now_s - self._changed_s > frozen_after_s
        return silent_s > patience_s or frozen

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            started_s, frames = self._clock.monotonic(), self._frames
            try:
                self._play()
                problem = None
            except SourceError as error:
                problem = str(error)
            except Exception as error:  # a bug in one source must not silence the camera for ever, nor the others
                log.exception("camera %s", self.settings.id)
                problem = str(self.settings.failure(f"unexpected {type(error).__name__}: {error}"))
            self._disconnected(problem)
            if problem is None or not self.settings.is_live:
                return
            settled = self._frames > frames and self._clock.monotonic() - started_s > _SETTLED_S
            failures = 0 if settled else failures + 1
            self._stop.wait(backoff_s(failures, self._rng))

    def _play(self) -> None:
        """From opening the source to its end; None is returned at the end of a recording or when stopped."""
        source = self._open(self.settings, self._last_time_s)
        try:
            with self._news:
                self._connections += 1
                self._connected_s = self._changed_s = self._clock.monotonic()
                self._digest = self._heard_s = None
            while not self._stop.is_set():
                frame = source.read()
                if frame is None:
                    return
                self._wait_for_its_time(frame)
                self._corrupt = corrupt_so_far(source)
                self._deliver(frame)
        finally:
            self._corrupt = corrupt_so_far(source)
            source.close()

    def _wait_for_its_time(self, frame: Frame) -> None:
        if self._playhead is None:
            return
        self._playhead.arrive(self.settings.id, frame.time_s)
        while not self._stop.is_set() and (wait_s := self._playhead.wait_s(frame.time_s)) > 0:
            self._stop.wait(min(wait_s, 0.2))

    def _deliver(self, frame: Frame) -> None:
        live_image = frame.image if self.settings.is_live else None
        digest = None if live_image is None else zlib.crc32(live_image[::8, ::8].tobytes())
        now_s, clock_s = self._clock.monotonic(), self._clock()
        with self._news:
            if self._last_error is not None:
                log.info("camera %s: back", self.settings.id)
            self._last_error = None
            self._frames += 1
            self._arrivals_s.append(now_s)
            self._heard_s = now_s
            if digest is None or digest != self._digest:
                self._digest, self._changed_s = digest, now_s
            self._clock_off_s = frame.time_s - clock_s
            if self._last_time_s is not None and frame.time_s <= self._last_time_s:
                returned = self.settings.is_live and clock_s < self._last_time_s - STEP_S
                if not returned:  # time of one camera goes backwards only with our clock, see SteadyClock
                    self._dropped += 1
                    return
            self._last_time_s = frame.time_s
            self._dropped += self._slot is not None
            self._slot = frame
            self._news.notify_all()

    def _disconnected(self, problem: str | None) -> None:
        if self._playhead is not None:
            self._playhead.arrive(self.settings.id, None)
        with self._news:
            self._connected_s = None
            self._corrupt_before += self._corrupt
            self._corrupt = 0
            self._ended = problem is None and not self._stop.is_set()
            self.finished = self._ended or not self.settings.is_live
            if problem is not None and problem != self._last_error:
                log.warning("%s", problem)
                self._last_error = problem
            self._news.notify_all()
