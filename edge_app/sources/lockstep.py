"""All recordings merged by capture time: the same ticks on every run, nothing dropped."""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from edge_app.errors import SourceError
from edge_app.sources.damage import Losses
from edge_app.sources.live import Opener, losses_so_far
from edge_app.sources.settings import CameraSettings
from edge_app.sources.status import CameraStatus
from edge_app.types import Frame

log = logging.getLogger(__name__)

_AHEAD = 4  # frames decoded ahead per camera: enough to keep the decoder busy, small enough for eight 1080p cameras
_POLL_S = 0.2
LONGEST_GAP_S = 60.0  # a longer pause in all recordings is skipped


class RecordedCamera:
    """Reads one recording ahead in its own thread; frames come out in order, then the end or the error."""

    def __init__(
        self, settings: CameraSettings, opener: Opener, monotonic: Callable[[], float], after_s: float | None = None
    ) -> None:
        self.settings = settings
        self._open = opener
        self._after_s = after_s
        self._monotonic = monotonic
        self._queue: queue.Queue[Frame | SourceError | None] = queue.Queue(maxsize=_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"recording-{settings.id}", daemon=True)
        self._opened = self._ended = False
        self._frames = 0
        self._losses = Losses()
        self._last_time_s = after_s
        self._last_error: str | None = None
        self._arrivals_s: deque[float] = deque(maxlen=256)  # monotonic

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """True when the thread has ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def next_frame(self, stop: threading.Event) -> Frame | None:
        """The next frame in order; None at the end, after an error, or when stopped."""
        while not (stop.is_set() or self._stop.is_set()):
            try:
                item = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if isinstance(item, Frame):
                self._frames += 1
                self._last_time_s = item.time_s
                self._arrivals_s.append(self._monotonic())
                return item
            if isinstance(item, SourceError):
                self._last_error = str(item)
            self._ended = item is None
            for lost in self._losses.words():
                log.warning("camera %s (%s): %s", self.settings.id, self.settings.source, lost)
            return None
        return None

    def status(self) -> CameraStatus:
        over = self._ended or self._last_error is not None
        arrivals_s = list(self._arrivals_s)
        span_s = arrivals_s[-1] - arrivals_s[0] if len(arrivals_s) > 1 else 0.0
        return CameraStatus(
            camera=self.settings.id,
            state="ended" if self._ended else "ok" if self._opened and not over else "offline",
            frames=self._frames,
            dropped=0,
            reconnects=0,
            corrupt=self._losses.damaged + self._losses.doubted,
            fps=(len(arrivals_s) - 1) / span_s if span_s > 0 and not over else 0.0,
            last_time_s=self._last_time_s,
            last_error=self._last_error,
            reason=self._last_error,
            losses=self._losses.words(),
        )

    def _run(self) -> None:
        try:
            self._read_ahead()
            self._put(None)
        except SourceError as error:
            self._put(error)
        except Exception as error:  # a bug in one source must not stop the others
            log.exception("camera %s", self.settings.id)
            self._put(self.settings.failure(f"unexpected {type(error).__name__}: {error}"))

    def _read_ahead(self) -> None:
        source = self._open(self.settings, self._after_s)
        self._opened = True
        last_s = -math.inf if self._after_s is None else self._after_s
        try:
            while not self._stop.is_set() and (frame := source.read()) is not None:
                self._losses = losses_so_far(source)
                if frame.time_s <= last_s:
                    raise self.settings.failure(f"capture time went back from {last_s:.3f} s to {frame.time_s:.3f} s")
                last_s = frame.time_s
                self._put(frame)
        finally:
            self._losses = losses_so_far(source)
            source.close()

    def _put(self, item: Frame | SourceError | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return


def merged_ticks(
    cameras: Sequence[RecordedCamera], tick_s: float, stop: threading.Event, resume_at: float | None = None
) -> Iterator[tuple[float, list[Frame]]]:
    """Yields (end of tick, its frames); a tick is [k · tick_s, (k + 1) · tick_s) for a whole k.

    The grid is absolute, so a run resumed after the tick `resume_at` has the ticks of an unbroken one. Frames are
    ordered by time, then by the order of the cameras; one camera may have several in a tick. Ticks without frames are
    yielded too, but a pause longer than a minute in all cameras at once is skipped.
    """
    heads: dict[int, Frame] = {}

    def advance(index: int) -> None:
        frame = cameras[index].next_frame(stop)
        if frame is None:
            heads.pop(index, None)
        else:
            heads[index] = frame

    for index in range(len(cameras)):
        advance(index)
    tick = None if resume_at is None else round(resume_at / tick_s)  # a tick is called by its end
    while heads and not stop.is_set():
        first_tick = min(_tick_of(frame.time_s, tick_s) for frame in heads.values())
        if tick is None or first_tick < tick or (first_tick - tick) * tick_s > LONGEST_GAP_S:
            tick = first_tick
        frames = []
        for index in range(len(cameras)):
            while index in heads and _tick_of(heads[index].time_s, tick_s) <= tick:
                frames.append(heads[index])
                advance(index)
        if stop.is_set():
            return  # what was read is read again after a restart: a tick is given out whole or not at all
        yield (tick + 1) * tick_s, sorted(frames, key=lambda frame: frame.time_s)
        tick += 1


def _tick_of(time_s: float, tick_s: float) -> int:
    # a frame exactly on the grid must not fall into the tick before it by rounding
    return math.floor(time_s / tick_s + 1e-3)
