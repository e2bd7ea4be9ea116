"""SIGTERM and Ctrl-C: the node is asked to end, and it ends within a bounded time, whatever hangs.

A signal's handler runs on the main thread between two steps of Python, so a main thread that hangs in a library never
runs it. Therefore a thread of its own hears of every signal through a pipe, and is the one that loses patience.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

STOP_WITHIN_S = 9.0  # systemd's TimeoutStopSec is longer: the stacks below are still written
HUNG = 70  # a bug's exit code: systemd starts the node again unless it asked for the end itself
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """A signal came while the node was starting: there is nothing to save, so whatever is being opened is left."""


class StopSignals:
    """`with StopSignals() as signals:` … `signals.started()` … work until `signals.stop` is set.

    Before `started` a signal raises `Stopped` on the main thread, afterwards it sets `stop`. A second signal, or a
    process that is still there `STOP_WITHIN_S` after the first, ends at once. Use it on the main thread.
    """

    def __init__(self, within_s: float = STOP_WITHIN_S, leave: Callable[[int], object] = os._exit) -> None:
        self.stop = threading.Event()
        self._within_s, self._leave = within_s, leave
        self._starting = True

    def __enter__(self) -> StopSignals:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._heard) for number in SIGNALS}
        threading.Thread(target=self._watch, args=(self._read,), name="stopping", daemon=True).start()
        return self

    def started(self) -> None:
        """From here on there is something to save."""
        self._starting = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._write)  # the thread ends with its pipe

    def _heard(self, _number: int, _frame: object) -> None:
        self.stop.set()
        if self._starting:
            self._starting = False
            raise Stopped

    def _watch(self, pipe: int) -> None:
        """The thread: wait for the first signal, then for the second, the end of the work, or the end of patience."""
        try:
            if _next_signal(pipe, None) is None:
                return
            self.stop.set()
            again = _next_signal(pipe, time.monotonic() + self._within_s)
            if again is None:
                return
        except TimeoutError:
            log.error("not ended %g s after the signal: leaving as it is; these threads were", self._within_s)
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
            self._leave(HUNG)
        else:
            log.warning("a second signal: leaving at once")
            self._leave(128 + again)
        finally:
            os.close(pipe)


def flushed(flush: Callable[[float], bool], timeout_s: float, stop: threading.Event) -> bool:
    """Flush for so long at most, and no longer than until stopped."""
    until_s = time.monotonic() + timeout_s
    while not flush(0.2):
        if stop.is_set() or time.monotonic() > until_s:
            return False
    return True


def leave(code: int = 0) -> None:
    """End the process without taking the interpreter apart: everything is saved and closed, and freeing the networks
    and worlds of a node took another fifteen seconds on a busy machine."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _next_signal(pipe: int, until_s: float | None) -> int | None:
    """The next one of `SIGNALS`; None when the pipe was closed. Raises TimeoutError at `until_s`, monotonic time."""
    while True:
        wait_s = None if until_s is None else max(until_s - time.monotonic(), 0.0)
        if not select.select([pipe], [], [], wait_s)[0]:
            raise TimeoutError
        heard = os.read(pipe, 1)
        if not heard:
            return None
        if heard[0] in SIGNALS:
            return heard[0]


class Closing:
    """One time in which everything that is open must close; it begins with the first part that has its turn.

    A part gets, of what is left, its share among the shares that are still to come. So one that hangs costs the others
    nothing, and what quick ones leave is there for a slow one behind them, which a time of its own would cut off.
    """

    def __init__(self, within_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._within_s, self._monotonic = within_s, monotonic
        self._until_s: float | None = None  # monotonic
        self._to_come: list[Turn] = []

    def expect(self, what: str, share: float) -> Turn:
        """A part that is open now; `share` in the unit of the others'."""
        self._to_come.append(Turn(self, what, share))
        return self._to_come[-1]

    def limit_s(self, turn: Turn) -> float:
        """It is this part's turn: how long it may take."""
        if self._until_s is None:
            self._until_s = self._monotonic() + self._within_s
        shares = sum(each.share for each in self._to_come)
        self._to_come.remove(turn)
        return max(self._until_s - self._monotonic(), 0.0) * turn.share / shares


class Turn:
    """One part's turn in a `Closing`, taken once."""

    def __init__(self, closing: Closing, what: str, share: float) -> None:
        self._closing, self._what, self.share = closing, what, share

    def within(self, close: Callable[[float], T]) -> T:
        """Of a part that keeps to the seconds it is given."""
        return close(self._closing.limit_s(self))

    def leave_behind(self, close: Callable[[], object]) -> None:
        """Of a part that may hang: then it is left behind, and said. Raises what `close` raises."""
        limit_s = self._closing.limit_s(self)
        failed: list[BaseException] = []

        def run() -> None:
            try:
                close()
            except BaseException as error:
                failed.append(error)

        closer = threading.Thread(target=run, name=f"close {self._what}", daemon=True)
        closer.start()
        closer.join(limit_s)
        if closer.is_alive():
            log.warning("%s: not closed within %.1f s, left behind", self._what, limit_s)
        if failed:
            raise failed[0]
