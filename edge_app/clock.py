"""The node's clock: wall time for what is told to others, monotonic time for every duration, and what is to be thought
of the wall clock.

A roadside computer without a battery clock begins in 1970 or 2001 and is set right by years when NTP answers; somebody
may set it wrong, and right again. So nothing that waits, ages, retries or expires reads the wall clock; a step of it is
noticed by comparing both clocks, said, and forgotten once the new time has held.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import threading
import time
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path

from edge_app.contract.envelope import ClockState

log = logging.getLogger(__name__)

STEP_S = 1.0  # clocks that disagree by more than this since the last look: a step; below it, NTP's daily work
DRIFT = 1e-3  # and so much per second since the last look
HOLD_S = 60.0  # a new time that has held for so long is believed
LATEST_S = 253402300799.0  # the end of the year 9999: later times cannot be written


def kernel_synchronised() -> bool:
    """Does the kernel say that the clock is synchronised (adjtimex, which NTP and PTP daemons set)?"""
    time_error, untouched = 5, (ctypes.c_byte * 512)()  # struct timex with modes = 0 only reads
    try:
        return bool(0 <= _libc().adjtimex(untouched) < time_error)
    except (OSError, AttributeError):
        return False


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("c"))


def machine_boot() -> str:
    """Names this boot of the machine, through which monotonic time runs on; where that is unknown, always another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return uuid.uuid4().hex


class Clock:
    """One for the whole node; any thread may ask."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        synchronised: Callable[[], bool] = kernel_synchronised,
        machine: str | None = None,
    ) -> None:
        """`machine` names the boot of the machine that `monotonic` counts from."""
        self.monotonic = monotonic
        self.machine = machine_boot() if machine is None else machine
        self.steps = 0  # so many were noticed
        self._wall, self._synchronised = wall, synchronised
        self._lock = threading.Lock()
        self._looked_s = monotonic()
        self._offset_s = wall() - self._looked_s
        self._stepped_s: float | None = None  # monotonic time of the last step

    def wall(self) -> float:
        """Seconds since the epoch, as the machine believes; between 1970 and the year 9999."""
        with self._lock:
            monotonic_s, wall_s = self.monotonic(), self._wall()
            step_s = wall_s - monotonic_s - self._offset_s
            if abs(step_s) > STEP_S + DRIFT * (monotonic_s - self._looked_s):
                self.steps += 1
                self._stepped_s = monotonic_s
                log.warning("the wall clock was set by %+.0f s; times are suspect until it has held", step_s)
            self._looked_s, self._offset_s = monotonic_s, wall_s - monotonic_s
        return min(max(wall_s, 0.0), LATEST_S)

    @property
    def state(self) -> ClockState:
        """`suspect` after a step, until the new time has held; `unknown` where nobody sets the clock; else `ok`."""
        self.wall()
        if self._stepped_s is not None and self.monotonic() - self._stepped_s < HOLD_S:
            return "suspect"
        return "ok" if self._synchronised() else "unknown"
