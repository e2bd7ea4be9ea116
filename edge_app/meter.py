"""Where the pipeline's time goes: seconds per stage, measured on the pipeline's own thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STAGES = ("detect", "track", "crops", "embed", "tracklets", "associate", "commit")


class Meter:
    """Adds up the time of each stage; `take` hands a tick's times over and begins anew."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._tick = dict.fromkeys(STAGES, 0.0)
        self.total = dict.fromkeys(STAGES, 0.0)
        self.ticks = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = self._clock()
        try:
            yield
        finally:
            self._tick[name] += self._clock() - began

    def take(self) -> dict[str, float]:
        """Seconds per stage since the last call."""
        tick, self._tick = self._tick, dict.fromkeys(STAGES, 0.0)
        for name, spent in tick.items():
            self.total[name] += spent
        self.ticks += 1
        return tick

    @property
    def busy_s(self) -> float:
        """Time the pipeline's thread has spent working, not waiting for frames."""
        return sum(self.total.values())
