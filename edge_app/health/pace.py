"""Does the pipeline move at all, and does it keep up with its cameras? Everything in monotonic time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

STUCK_S = 10.0
WINDOW_S = 10.0  # frames are counted over so long
RELIEF = 0.8  # keeping up again below this share of the limit, so that a node at the edge does not change all the time


class Pace:
    """The pipeline calls `moved`, the heartbeat everything else. What is wrong is said in words that stay the same."""

    def __init__(
        self, dropped_limit: float = 0.5, stuck_s: float = STUCK_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._stuck_s, self._monotonic = dropped_limit, stuck_s, monotonic
        self._moved_s: float | None = None  # nothing is expected of a pipeline that never had a tick
        self._counts: deque[tuple[float, int, int]] = deque()  # when, frames processed and dropped since the start
        self._overloaded = False

    def moved(self) -> None:
        """A tick arrived, or a step was made."""
        self._moved_s = self._monotonic()

    def over(self) -> None:
        """No more steps will be made."""
        self._moved_s = None

    def count(self, processed: int, dropped: int) -> None:
        """How many frames of all cameras the pipeline has taken since the start, and how many it never saw."""
        now_s = self._monotonic()
        self._counts.append((now_s, processed, dropped))
        while len(self._counts) > 1 and self._counts[1][0] <= now_s - WINDOW_S:
            self._counts.popleft()
        first_s, processed_before, dropped_before = self._counts[0]
        lost = dropped - dropped_before
        came = processed - processed_before + lost
        if now_s - first_s >= WINDOW_S and came > 0:
            self._overloaded = lost / came > self._limit * (RELIEF if self._overloaded else 1.0)

    @property
    def stuck(self) -> str | None:
        if self._moved_s is None or self._monotonic() - self._moved_s <= self._stuck_s:
            return None
        return f"the pipeline has not moved for more than {self._stuck_s:g} s"

    @property
    def overloaded(self) -> str | None:
        if not self._overloaded:
            return None
        return (
            f"more than {self._limit:.0%} of the frames are dropped, see frames_dropped in health: set cameras.fps to"
            " what this machine can do"
        )
