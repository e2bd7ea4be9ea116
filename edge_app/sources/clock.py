"""What time it is, for everything that is stamped while it happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class SteadyClock:
    """Seconds since the epoch that never go backwards, for all live cameras of this process.

    The wall clock of a roadside computer steps: forwards when NTP answers for the first time after a start without
    a battery clock, backwards when somebody sets it wrong and right again. Between steps the monotonic clock tells
    the time. A forward step is followed at once; after a backward step the clock runs on (a transit would otherwise
    become negative) and loses at most a thousandth until the wall clock has caught up. All cameras see the same step
    at the same moment, so that times of two cameras always compare.
    """

    STEP_S = 1.0  # a disagreement beyond this is a step, below it NTP's daily work
    SUSPECT_S = 60.0  # how long times are suspect after a forward step
    _SLEW = 1e-3

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self.monotonic = monotonic
        self._lock = threading.Lock()
        self._updated_s = monotonic()
        self._offset_s = wall() - self._updated_s  # our time = monotonic time + offset
        self._stepped_s: float | None = None  # monotonic time of the last forward step
        self._behind_s = 0.0  # how far the wall clock lags behind our time
        self.steps = 0

    def __call__(self) -> float:
        with self._lock:
            monotonic_s = self.monotonic()
            offset_s = self._wall() - monotonic_s
            ahead_s = offset_s - self._offset_s
            if ahead_s > self.STEP_S:
                self._stepped_s = monotonic_s
                self.steps += 1
            elif ahead_s < -self.STEP_S <= -self._behind_s:
                self.steps += 1
            slew_s = self._SLEW * (monotonic_s - self._updated_s)
            self._offset_s += max(ahead_s, -slew_s)
            self._behind_s = self._offset_s - offset_s
            self._updated_s = monotonic_s
            return monotonic_s + self._offset_s

    @property
    def suspect(self) -> bool:
        """Did the wall clock step a moment ago, or does it lag behind the times we give out?"""
        self()
        recent = self._stepped_s is not None and self._updated_s - self._stepped_s < self.SUSPECT_S
        return recent or self._behind_s > self.STEP_S
