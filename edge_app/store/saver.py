"""Commits on a thread of their own, in order and bounded, so that a slow disk costs the pipeline no frames.

What waits is one batch: newer parts replace older ones, rows line up, and both go into one transaction. So the disk
always holds everything up to some step and nothing of the next one; what it does not hold was not published either, and
a process that dies resumes from there.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge_app.clock import Clock
from edge_app.errors import StoreDamagedError, StoreError
from edge_app.store.rows import Row, Shed
from edge_app.store.store import StoreSettings

MEMORY_BYTES = 20_000_000  # of messages that wait for the disk
ROWS_AHEAD, SAVES_AHEAD = 1_000, 100  # a pipeline that must not lose anything waits when so much is not on the disk
RETRY_S = 1.0
SLOW_S = 5.0  # a commit that takes longer is a problem of its own


class Commits(Protocol):
    """What is needed of the `Store`. Both raise StoreError when the disk fails."""

    def commit(self, parts: Mapping[str, bytes | None], rows: Sequence[Row] = ()) -> None: ...

    def shed(self, limits: StoreSettings, gap: Callable[[Shed], Row]) -> object: ...


@dataclass
class _Batch:
    """What goes into one transaction."""

    parts: dict[str, bytes | None] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)  # kind → rows given up
    saves: int = 0
    since_s: float = 0.0  # monotonic time of the first of them

    def add(self, later: _Batch) -> None:
        self.since_s = self.since_s if self.saves else later.since_s
        self.parts.update(later.parts)
        self.rows += later.rows
        self.lost += later.lost
        self.saves += later.saves


class Saver:
    """`start`, `save` after every step, `close`. `problem` says what is wrong with the disk, in stable words."""

    def __init__(
        self,
        store: Commits,
        limits: StoreSettings,
        gap: Callable[[Shed], Row],
        clock: Clock | None = None,
    ) -> None:
        self._store, self._limits, self._gap = store, limits, gap
        self._clock = clock or Clock()
        self._change = threading.Condition()
        self._batch = _Batch()  # waits
        self._writing = _Batch()  # is being written
        self._failure: str | None = None
        self._bug: BaseException | None = None
        self._began_s: float | None = None  # monotonic time at which the commit under way began
        self._retry_at_s = 0.0  # monotonic
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="saver", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why nothing can be written just now."""
        with self._change:
            if self._began_s is not None and time.monotonic() - self._began_s > SLOW_S:
                return f"the disk is slow: one commit is under way for more than {SLOW_S:g} s"
            return self._failure

    def save(self, parts: Mapping[str, bytes | None], rows: Sequence[Row]) -> None:
        """One step, written as a whole and soon. Never waits for the disk, never raises StoreError."""
        with self._change:
            if self._bug is not None:
                raise self._bug
            self._batch.add(_Batch(dict(parts), list(rows), saves=1, since_s=self._clock.monotonic()))
            self._bound()
            self._change.notify_all()

    def wait_for_room(self, stop: threading.Event) -> None:
        """For recordings, which can wait while a live camera cannot: until little is unwritten, or stopped."""
        with self._change:
            while not stop.is_set() and self._bug is None and self._is_far_behind():
                self._change.wait(0.2)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything saved so far is on the disk; False when the time was not enough."""
        until_s = time.monotonic() + timeout_s
        with self._change:
            self._retry_at_s = 0.0  # one try at once, whatever happened before
            self._change.notify_all()
            while self._bug is None and (self._batch.saves or self._began_s is not None):
                if time.monotonic() >= until_s:
                    return False
                self._change.wait(max(until_s - time.monotonic(), 0.0))
            if self._bug is not None:
                raise self._bug
        return True

    def close(self, timeout_s: float = 2.0) -> bool:
        """Flush and end the thread. False when a disk that fails or hangs did not take everything in that time."""
        written = self._bug is None and (self.flush(timeout_s) if self._thread.is_alive() else not self._batch.saves)
        with self._change:
            self._closing = True
            self._change.notify_all()
        return written

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._write()
        except BaseException as error:  # a bug of ours: it belongs to the pipeline, which hears of it at its next step
            with self._change:
                self._bug, self._began_s = error, None
                self._change.notify_all()

    def _wait_for_work(self) -> bool:
        """False when it is time to go."""
        with self._change:
            while not self._closing:
                pause_s = self._retry_at_s - time.monotonic()
                if self._batch.saves and pause_s <= 0:
                    return True
                self._change.wait(pause_s if self._batch.saves else None)
        return False

    def _write(self) -> None:
        with self._change:
            batch = self._writing = self._batch
            self._batch = _Batch()
            self._began_s = time.monotonic()
        try:
            self._store.commit(batch.parts, batch.rows + self._account(batch))
            batch = _Batch()
            self._store.shed(self._limits, self._gap)
            failure = None
        except StoreDamagedError:
            raise  # no try mends a damaged file; the next start carries over what can be read
        except StoreError as error:
            failure = str(error)
        with self._change:
            self._began_s, self._failure = None, failure
            if failure:
                self._retry_at_s = time.monotonic() + RETRY_S
            batch.add(self._batch)
            self._batch, self._writing = batch, _Batch()
            self._bound()
            self._change.notify_all()

    def _is_far_behind(self) -> bool:
        both = (self._batch, self._writing)
        return sum(len(one.rows) for one in both) >= ROWS_AHEAD or sum(one.saves for one in both) >= SAVES_AHEAD

    def _bound(self) -> None:
        """At most MEMORY_BYTES; provisional matches go first, then the oldest. Call it with the lock held."""
        rows = self._batch.rows
        excess_bytes = sum(len(row.payload) for row in rows) - MEMORY_BYTES
        if excess_bytes <= 0:
            return
        lost = [row for row in rows if row.kind == "match_provisional"]
        firm = [row for row in rows if row.kind != "match_provisional"]
        excess_bytes -= sum(len(row.payload) for row in lost)
        oldest = 0
        while excess_bytes > 0:
            excess_bytes -= len(firm[oldest].payload)
            oldest += 1
        self._batch.lost.update(row.kind for row in (*lost, *firm[:oldest]))
        self._batch.rows = firm[oldest:]

    def _account(self, batch: _Batch) -> list[Row]:
        if not batch.lost:
            return []
        now_s = self._clock.wall()
        since_s = now_s - (self._clock.monotonic() - batch.since_s)
        return [self._gap(Shed(dict(batch.lost), since_s, now_s, "the disk took nothing"))]
