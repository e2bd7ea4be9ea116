"""One playing position for all recordings that are played in real time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable


class Playhead:
    """Capture time as if the recordings were happening now, `speed` times as fast.

    It starts at the earliest first frame, once every recording has shown its first frame or given up, or after
    `GRACE_S` for those that are slow to open. All recordings share it, so cameras of one scene stay aligned.
    """

    GRACE_S = 5.0

    def __init__(self, cameras: Iterable[str], speed: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._waiting = set(cameras)
        self._speed = speed
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._made_s = monotonic()
        self._first_s: float | None = None  # capture time of the earliest first frame
        self._started_s: float | None = None  # monotonic time at which that frame plays

    def arrive(self, camera: str, time_s: float | None) -> None:
        """The first frame of a recording was read, or there will be none (None)."""
        with self._lock:
            self._waiting.discard(camera)
            if time_s is not None and self._started_s is None:
                self._first_s = time_s if self._first_s is None else min(self._first_s, time_s)

    def position_s(self) -> float | None:
        """Capture time that plays now; None before the start."""
        with self._lock:
            now_s = self._monotonic()
            if self._first_s is None:
                return None
            if self._started_s is None:
                if self._waiting and now_s - self._made_s < self.GRACE_S:
                    return None
                self._started_s = now_s
            return self._first_s + (now_s - self._started_s) * self._speed

    def wait_s(self, time_s: float) -> float:
        """How long until the frame of this capture time plays; 0 when it is due."""
        position_s = self.position_s()
        return 0.05 if position_s is None else max(0.0, (time_s - position_s) / self._speed)
