"""Crops on a thread of their own: from what a step saw to what the spool accepts. Matching never waits for it.

    note(views, tracklets, facts)   on the pipeline's thread, after the facts went to be written: a queue, no more
      → look_of                     who stands in it; JPEG
      → Hold                        until the association has spoken
      → policy.decide               which are worth their bytes
      → Spool.add                   on the disk
      → Saver.save                  accepted: in the transaction of the facts or a later one, never before them

So a process that dies doubles no crop: what a restart decides again was not accepted. It loses what was in memory; how
much that is goes into every transaction, and the next start counts it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from edge_app.associate.facts import Fact, Match, Unmatched
from edge_app.collection.keeper import Keeper
from edge_app.collection.spool import Spool
from edge_app.collection.upload import Uploader
from edge_app.store.parts import Parts, sealed, unsealed
from edge_app.store.rows import Row, Shed
from edge_app.types import Tracklet, View

log = logging.getLogger(__name__)

MEMORY = "collection/memory"  # part: how many views are in memory only
LOST_BEFORE = "crops_lost_with_the_process"
LOOK_S = 0.5  # so often at least the spool is tended
SWEEP_S = 10.0  # so often tracks that became no passage are looked for
QUEUE_BYTES, QUEUE_TICKS = 32_000_000, 10_000  # of pixels, and of anything, that wait for this thread
_FORMAT = "crosslane.crops_in_memory/1"
AHEAD_TICKS = 100  # a recording waits when so many do


class Saves(Protocol):
    """Takes parts and messages, to write them soon; see `Saver`."""

    def save(self, parts: Mapping[str, bytes | None], rows: Sequence[Row]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Tick:
    """What one step had for us."""

    views: Sequence[View]
    tracklets: Sequence[Tracklet]
    facts: Sequence[Fact]
    still_open: Collection[str] | None = None

    @property
    def pixel_bytes(self) -> int:
        return sum(view.crop.nbytes for view in self.views if view.crop is not None)


class Collector:
    """`start`, `note` after every step, `settle` before the last words are written, `close`."""

    def __init__(
        self,
        keeper: Keeper,
        spool: Spool,
        saver: Saves,
        *,
        gap: Callable[[Shed], Row],
        time_s: Callable[[], float],
        open_tracks: Callable[[], Collection[str]],
        uploader: Uploader | None = None,
        lost_before: int = 0,
    ) -> None:
        """`time_s`: the store's time. `open_tracks` is asked on the pipeline's thread. `uploader`: of this spool.
        `lost_before`: what the last process had in memory."""
        self._keeper, self.spool, self._saver, self._uploader = keeper, spool, saver, uploader
        self._gap, self._time_s, self._open_tracks = gap, time_s, open_tracks
        self._change = threading.Condition()
        self._ticks: deque[_Tick] = deque()
        self._queued_bytes = 0
        self._lost: Counter[str] = Counter({LOST_BEFORE: lost_before})
        self._accounted = 0  # of the views seen, as far as the saver was told
        self._bug: str | None = None
        self._gauges: dict[str, int] = {}
        self._swept_s = time.monotonic()
        self._busy = self._closing = False
        self._ending = False  # nothing more comes: let go what is held
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    def start(self) -> None:
        self._saver.save(self.parts(), [])
        self._save()
        self._thread.start()
        if self._uploader is not None:
            self._uploader.start()

    def parts(self) -> dict[str, bytes]:
        """For the pipeline's next transaction: how many views are in memory only."""
        with self._change:
            return self._memory(self._accounted)

    def _memory(self, accounted: int) -> dict[str, bytes]:
        return {MEMORY: sealed(_FORMAT, b"%d" % max(self._lost["crops_seen"] - accounted, 0))}

    def note(self, views: Sequence[View], tracklets: Sequence[Tracklet], facts: Sequence[Fact]) -> None:
        """One step. Never waits; pixels that find the queue full are left out and counted."""
        decided = [fact for fact in facts if isinstance(fact, Match | Unmatched)]
        tick = _Tick([view for view in views if view.crop is not None], list(tracklets), decided)
        if time.monotonic() - self._swept_s >= SWEEP_S:
            self._swept_s = time.monotonic()
            tick = replace(tick, still_open=self._open_tracks())
        elif not (tick.views or tracklets or decided):
            return
        with self._change:
            self._lost["crops_seen"] += len(tick.views)
            if self._queued_bytes + tick.pixel_bytes > QUEUE_BYTES or len(self._ticks) >= QUEUE_TICKS:
                self._lost["crops_lost_in_the_queue"] += len(tick.views)
                tick = replace(tick, views=())
            if len(self._ticks) < QUEUE_TICKS:
                self._ticks.append(tick)
                self._queued_bytes += tick.pixel_bytes
            self._change.notify_all()

    @property
    def problem(self) -> str | None:
        """What ails it, in stable words. Matching goes on."""
        return self._bug or self.spool.problem or (self._uploader.problem if self._uploader is not None else None)

    def counters(self) -> dict[str, int]:
        """Since the start, by name; every view seen is in one of them, held, or in the queue."""
        sent = dict(self._uploader.counters) if self._uploader is not None else {}
        return {**dict(self._lost), **dict(self._keeper.counters), **dict(self.spool.counters), **sent}

    def gauges(self) -> dict[str, int]:
        """What there is now, as of the last look: whoever asks must not wait for the disk."""
        return self._gauges

    def wait_for_room(self, stop: threading.Event) -> None:
        """For recordings, which can wait: until little is queued, or stopped."""
        with self._change:
            while not stop.is_set() and len(self._ticks) >= AHEAD_TICKS and self._thread.is_alive():
                self._change.wait(0.2)

    def settle(self, timeout_s: float, over: threading.Event | None = None) -> bool:
        """Let go what is held and bring everything to the saver; False, and said, when the time was not enough.

        `over`: all recordings were played, so the segment becomes a shard, as soon as the saver has written it; when
        this is set, nobody waits any more.
        """
        until_s = time.monotonic() + timeout_s
        with self._change:
            self._ending = True
            self._change.notify_all()
            while self._ending or self._busy or self._ticks:
                stopped = over is not None and over.is_set()
                if stopped or time.monotonic() >= until_s or not self._thread.is_alive():
                    log.warning("ending without the last crops: %s", self.problem or "the disk is slow")
                    return False
                self._change.wait(min(max(until_s - time.monotonic(), 0.0), LOOK_S))
        if over is not None:
            self.spool.seal()
            self._save()
        return True

    def flush(self, timeout_s: float) -> bool:
        """Wait so long at most until every closed shard is in the store of crops; True also where nothing is sent."""
        until_s = time.monotonic() + timeout_s
        while (
            self._uploader is not None and self._uploader.may_send and (self.spool.closed() or not self.spool.settled)
        ):
            if time.monotonic() >= until_s:
                return False
            time.sleep(0.05)
        return True

    def close(self, timeout_s: float = 2.0) -> None:
        """End the threads; a disk or a store that hangs is left behind."""
        until_s = time.monotonic() + timeout_s
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._uploader is not None:
            self._uploader.close(timeout_s / 2)  # a store that hangs leaves the spool its time
        if self._thread.is_alive():
            self._thread.join(max(until_s - time.monotonic(), 0.0))
        if not self._thread.is_alive():
            self.spool.tend()
            self.spool.close()

    def _run(self) -> None:
        while True:
            with self._change:
                if not (self._ticks or self._ending or self._closing):
                    self._change.wait(LOOK_S)
                ticks, self._ticks, self._queued_bytes = list(self._ticks), deque(), 0
                ending, self._busy = self._ending, True
            try:
                self._work(ticks, ending)
                self._bug = None
            except Exception as error:  # a mistake of ours here must not end the matching
                log.exception("crops: unexpected error")
                self._lost["crop_errors"] += 1
                self._bug = f"crops are lost: {type(error).__name__}, see the log"
            with self._change:
                self._busy, self._ending = False, self._ending and not ending
                self._change.notify_all()
                if self._closing and not self._ticks:
                    return

    def _work(self, ticks: Sequence[_Tick], ending: bool) -> None:
        keeper, at_s = self._keeper, self._time_s()
        for tick in ticks:
            for view in tick.views:
                keeper.see(view)
            for tracklet in tick.tracklets:
                keeper.over(tracklet, time.monotonic())
            for fact in tick.facts:
                keeper.hear(fact, at_s)
            keeper.tidy(time.monotonic(), at_s, tick.still_open)
        if not ticks:
            keeper.tidy(time.monotonic(), at_s)
        if ending:
            keeper.end(at_s)
        keeper.flush()
        self.spool.tend()
        self._save()

    def _save(self) -> None:
        """What was accepted, in one transaction with what then is in memory: apart from each other a process that dies
        between them would count the accepted as lost."""
        accounted = self._keeper.accounted
        parts, losses = self.spool.take()
        with self._change:
            accounted += self._lost["crops_lost_in_the_queue"]
            memory = self._memory(accounted)
        if parts or losses:
            self._saver.save({**parts, **self._keeper.stored(), **memory}, [self._gap(loss) for loss in losses])
        with self._change:  # not before: a step of the pipeline between them would miss some
            self._accounted = accounted
        self._gauges = {
            "crops_waiting_for_a_verdict": self._keeper.hold.looks,
            "crop_shards_waiting": len(self.spool.closed()),
            "crop_spool_bytes": self.spool.size_bytes(),
        }


def lost_before(parts: Parts) -> int:
    """How many views the last process had in memory, as of its last transaction."""
    return parts.read(MEMORY, lambda stored: int(unsealed(stored, _FORMAT))) or 0
