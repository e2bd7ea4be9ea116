"""One camera in its own thread, with a slot for its newest frame."""

from __future__ import annotations

import logging
import math
import random
import threading
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from edge_app.clock import STEP_S
from edge_app.errors import SourceError
from edge_app.sources.base import Source
from edge_app.sources.clock import SteadyClock
from edge_app.sources.damage import Losses
from edge_app.sources.playhead import Playhead
from edge_app.sources.retry import Retry
from edge_app.sources.settings import CameraSettings
from edge_app.sources.status import CameraState, CameraStatus
from edge_app.types import Frame

Opener: TypeAlias = Callable[[CameraSettings, float | None], Source]
Condition: TypeAlias = tuple[CameraState, str | None]  # and why, where it is not ok

log = logging.getLogger(__name__)

_NOTHING_YET = "no frame yet"
_SETTLED_S = 5.0  # a connection that lived this long was good; the next failure begins the back-off anew
_RATE_WINDOW_S = 5.0
_CLOCK_LIMIT_S = 10.0  # frames stamped this far from now are not to be believed
_LOSSES_EVERY_S = 300.0  # the shortest time between two lines in the log about one camera's damaged pictures


def losses_so_far(source: Source) -> Losses:
    """What this connection lost; simulations and fakes cannot be damaged and need no counter."""
    return getattr(source, "losses", None) or Losses()


class LiveCamera:
    """Reads one source for ever, opens it again when it fails, keeps only the newest frame.

    One thread for its whole life, whatever the camera does. Everything mutable is guarded by `news`, the condition
    all cameras share and on which the pipeline waits. A recording is played once; an error ends it. `as_now`: it
    stands beside live cameras, and its frames are stamped as if they were taken when they are played.
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
        as_now: bool = False,
        after_s: float | None = None,
    ) -> None:
        self.settings = settings
        self._open = opener
        self._news = news
        self._clock = clock
        self._retry = Retry(rng)
        self._playhead = playhead if not settings.is_live else None
        self._as_now = as_now
        self._stop = threading.Event()
        self._slot: Frame | None = None
        self._connected_s: float | None = None  # monotonic; None while not connected
        self._heard_s: float | None = None  # monotonic time of this connection's newest frame
        self._changed_s = 0.0  # monotonic time of the last picture that differed from its predecessor
        self._arrivals_s: deque[float] = deque(maxlen=256)  # monotonic
        self._digest: int | None = None
        self._ended = self.finished = False
        self._frames = self._dropped = self._connections = 0
        self._losses_before, self._losses = Losses(), Losses()
        self._losses_told, self._losses_told_s = Losses(), -math.inf
        self._was_ok, self._falls = False, 0
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

    def look(self) -> Condition:
        """How the camera is; counts its falls, logs its losses. Call with `news` held, every second or more often."""
        now_s = self._clock.monotonic()
        condition = self._condition(now_s)
        is_ok = condition[0] == "ok"
        self._falls += self.settings.is_live and self._was_ok and not is_ok
        self._was_ok = is_ok
        self._tell_losses(now_s)
        return condition

    def status(self) -> CameraStatus:
        """Call with `news` held."""
        state, reason = self.look()
        now_s = self._clock.monotonic()
        recent = [arrival_s for arrival_s in self._arrivals_s if now_s - arrival_s < _RATE_WINDOW_S]
        fps = (len(recent) - 1) / (now_s - recent[0]) if len(recent) > 1 else 0.0
        losses = self._losses_before + self._losses
        return CameraStatus(
            camera=self.settings.id,
            state=state,
            frames=self._frames,
            dropped=self._dropped,
            reconnects=max(0, self._connections - 1),
            corrupt=losses.damaged + losses.doubted,
            fps=fps,
            last_time_s=self._last_time_s,
            last_error=self._last_error,
            reason=reason,
            falls=self._falls,
            losses=losses.words(),
        )

    def _condition(self, now_s: float) -> Condition:
        """How it is at this moment. The reasons hold no measured number: what stays the same must read the same."""
        if self._ended:
            return "ended", None
        if self._connected_s is None:
            return "offline", self._last_error or _NOTHING_YET
        if (stalled := self._stalled(now_s, self._connected_s)) is not None:
            return "stalled", stalled
        if self._heard_s is None:  # a connection is worth nothing before its first frame
            return "offline", self._last_error or _NOTHING_YET
        doubt = self._clock_doubt() if self.settings.is_live else None
        return ("ok", None) if doubt is None else ("clock_suspect", doubt)

    def _clock_doubt(self) -> str | None:
        if self._clock.suspect:
            return "the clock of this computer stepped"
        if abs(self._clock_off_s) > _CLOCK_LIMIT_S:
            return "the times of its frames do not agree with the clock of this computer"
        return None

    def _stalled(self, now_s: float, connected_s: float) -> str | None:
        """Why a connected camera is stalled; None when it is not."""
        silent_s = now_s - (connected_s if self._heard_s is None else self._heard_s)
        patience_s = max(self.settings.stall_after_s, 2.0 / (self.settings.fps or math.inf))
        if silent_s > patience_s:
            return f"connected, but no frame for {patience_s:g} s"
        frozen_after_s = self.settings.frozen_after_s if self.settings.is_live else None
        if frozen_after_s is not None and now_s - self._changed_s > frozen_after_s:
            return f"the picture has not changed for {frozen_after_s:g} s"
        return None

    def _tell_losses(self, now_s: float) -> None:
        losses = self._losses_before + self._losses
        if losses != self._losses_told and (self._ended or now_s - self._losses_told_s >= _LOSSES_EVERY_S):
            self._losses_told, self._losses_told_s = losses, now_s
            log.warning("camera %s: since the start, %s", self.settings.id, "; ".join(losses.words()))

    def _run(self) -> None:
        while not self._stop.is_set():
            started_s, frames = self._clock.monotonic(), self._frames
            try:
                self._play()
                ended = self.settings.is_live and not self._stop.is_set()
                problem = self.settings.failure("the camera ended the stream") if ended else None
            except SourceError as error:
                problem = error
            except Exception as error:  # a bug in one source must not silence the camera for ever, nor the others
                log.exception("camera %s", self.settings.id)
                problem = self.settings.failure(f"unexpected {type(error).__name__}: {error}")
            self._disconnected(problem)
            if problem is None or not self.settings.is_live:
                return
            if self._frames > frames and self._clock.monotonic() - started_s > _SETTLED_S:
                self._retry.settled()
            self._stop.wait(self._retry.pause_s(problem))

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
                frame = self._in_its_time(frame)
                self._losses = losses_so_far(source)
                self._deliver(frame)
        finally:
            self._losses = losses_so_far(source)
            source.close()

    def _in_its_time(self, frame: Frame) -> Frame:
        """Waits until a recording's frame is due; its time is then that of the recording, or now."""
        if self._playhead is None:
            return frame
        self._playhead.arrive(self.settings.id, frame.time_s)
        while not self._stop.is_set() and (wait_s := self._playhead.wait_s(frame.time_s)) > 0:
            self._stop.wait(min(wait_s, 0.2))
        position_s = self._playhead.position_s()
        if not self._as_now or position_s is None:
            return frame
        # less what this frame is late, so that recordings of one scene stay aligned
        return replace(frame, time_s=self._clock() - (position_s - frame.time_s))

    def _deliver(self, frame: Frame) -> None:
        live_image = frame.image if self.settings.is_live else None
        digest = None if live_image is None else zlib.crc32(live_image[::8, ::8].tobytes())
        now_s, clock_s = self._clock.monotonic(), self._clock()
        with self._news:
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

    def _disconnected(self, problem: SourceError | None) -> None:
        if self._playhead is not None:
            self._playhead.arrive(self.settings.id, None)
        with self._news:
            self._connected_s = None
            self._losses_before, self._losses = self._losses_before + self._losses, Losses()
            self._ended = problem is None and not self._stop.is_set()
            self.finished = self._ended or not self.settings.is_live
            if problem is not None:
                self._last_error = str(problem)
                if not self.settings.is_live:  # of a live camera the heartbeat tells, and not each time
                    log.warning("%s", problem)
            if not self._stop.is_set():
                self.look()
            self._news.notify_all()
