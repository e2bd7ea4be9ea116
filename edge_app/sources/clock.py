"""What time it is, for everything that is stamped while it happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edge_app.clock import HOLD_S, STEP_S


class SteadyClock:
    """Seconds since the epoch that do not jump backwards within a passage, for all live cameras of this process.

    The wall clock of a roadside computer steps: forwards when NTP answers for the first time after a start without
    a battery clock, backwards when somebody sets it wrong and right again. Between steps the monotonic clock tells
    the time. A forward step is followed at once. After a backward step the clock first runs on (a transit would
    otherwise become negative) and loses at most a thousandth; once the earlier time has held for a minute it is
    believed, and the clock returns to it in one counted step, which ends every open track. All cameras see the same
    step at the same moment, so that times of two cameras always compare.
    """

    _SLEW = 1e-3

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self.monotonic = monotonic
        self._lock = threading.Lock()
        self._updated_s = monotonic()
        self._offset_s = self._wall_offset_s = wall() - self._updated_s  # our time = monotonic time + offset
        self._stepped_s: float | None = None  # monotonic time of the last step, of the wall clock's or ours
        self.steps = 0  # of the wall clock
        self.returns = 0  # steps back that we have followed

    def __call__(self) -> float:
        with self._lock:
            monotonic_s = self.monotonic()
            offset_s = self._wall() - monotonic_s
            if abs(offset_s - self._wall_offset_s) > STEP_S:
                self._stepped_s = monotonic_s
                self.steps += 1
            ahead_s = offset_s - self._offset_s
            held = self._stepped_s is None or monotonic_s - self._stepped_s >= HOLD_S
            if ahead_s < -STEP_S and held:
                self._offset_s, self._stepped_s = offset_s, monotonic_s
                self.returns += 1
            else:
                self._offset_s += max(ahead_s, -self._SLEW * (monotonic_s - self._updated_s))
            self._wall_offset_s, self._updated_s = offset_s, monotonic_s
            return monotonic_s + self._offset_s

    @property
    def suspect(self) -> bool:
        """Did the wall clock step a moment ago, or does it lag behind the times we give out?"""
        self()
        recent = self._stepped_s is not None and self._updated_s - self._stepped_s < HOLD_S
        return recent or self._offset_s - self._wall_offset_s > STEP_S
