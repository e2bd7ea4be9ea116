"""How long what waits in the store has waited: over restarts, and whatever is done to the wall clock."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable
from typing import Any

from edge_app.clock import Clock

log = logging.getLogger(__name__)

START_S = 10.0  # so long at least is a machine away that was started anew
PLAUSIBLE_S = 366 * 86400.0  # nobody keeps a node in the cupboard for longer; a clock set by years is likelier


class Ages:
    """The store's own time, in which rows are queued: it runs with monotonic time and never jumps.

    `stored` is written with every commit, so a new process goes on from there. What passed since is known exactly while
    the machine has not been started anew; over a power cut it is the difference of two wall times, counted only when
    the clock was trusted at both, and plausible; else only what a start takes at least. So what waits may be thought
    younger than it is, never older. It begins at the wall time of the store's making, which means nothing.
    """

    def __init__(self, clock: Clock, stored: str | None) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._opened_s = clock.monotonic()
        self._slept_from_s: float | None = None  # trusted wall time of the last commit before a start of the machine
        if stored is None:
            self._base_s = clock.wall()
            return
        before = json.loads(stored)
        self._base_s = float(before["at_s"])
        if before["machine"] == clock.machine:
            self._base_s += max(self._opened_s - before["monotonic_s"], 0.0)
            return
        self._base_s += START_S
        if before["trusted"]:
            self._slept_from_s = before["wall_s"] + START_S

    def now_s(self) -> float:
        """Ages are differences of these."""
        elapsed_s = self._clock.monotonic() - self._opened_s
        with self._lock:
            if self._slept_from_s is not None and self._clock.state == "ok":  # NTP may need a while after a start
                slept_s = self._clock.wall() - elapsed_s - self._slept_from_s
                self._base_s += slept_s if 0 < slept_s <= PLAUSIBLE_S else 0.0
                self._slept_from_s = None
            return self._base_s + elapsed_s

    def wall_ahead_s(self) -> float:
        """Wall time minus the store's time: what was queued is told in today's wall time."""
        return self._clock.wall() - self.now_s()

    def stored(self) -> str:
        """What a later process needs to go on."""
        asleep = self._slept_from_s is not None
        moment = {
            "at_s": self.now_s(),
            "machine": self._clock.machine,
            "monotonic_s": self._clock.monotonic(),
            "wall_s": self._clock.wall(),
            "trusted": not asleep and self._clock.state == "ok",
        }
        return json.dumps(moment)


def opened(execute: Callable[..., Any], clock: Clock) -> Ages:
    """The store's time goes on. Where it is damaged, or of a release that queued by the wall clock, which may have
    stood at 2001, everything begins to age now."""
    stored = execute("SELECT value FROM meta WHERE key = 'age'").fetchone()
    if stored is not None:
        try:
            ages = Ages(clock, stored[0])
            if math.isfinite(ages.now_s()):
                return ages
        except (ValueError, KeyError, TypeError):
            pass
        log.warning("the store's own time cannot be read (%.80r); what waits in it begins to age now", stored[0])
    ages = Ages(clock, None)
    execute("UPDATE outbox SET queued_at_s = ?", (ages.now_s(),))
    return ages
