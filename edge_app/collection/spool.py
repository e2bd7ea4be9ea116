"""Crops on the disk until they are at the trainer's: a segment that is filled, shards that are closed.

    segment-000012.open                              is filled; how much of it counts is in the store
    edge-1-a1b2c3.7-000011-0123456789abcdef.tar      closed, waits for its upload
    edge-1-a1b2c3.7-000010-89abcdef01234567.tar.gone empty: it is at the trainer's; `.lost`: given up; `.old`: replaced

The store is right, the folder follows: what is accepted, what is closed and what is gone is said by parts that are
written with the facts, and a file is renamed or removed only after the store says so. Stopped anywhere between, the
next start ends what was begun (`recovery.py`), so no crop is lost or doubled.

Bounded by bytes, age and the disk's free space: the oldest shards give way, counted and told in a `gap`.

Any thread may call any method.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from edge_app.collection import closed
from edge_app.collection.closed import ClosedShard
from edge_app.collection.recovery import ENDINGS, GONE, LOST, OLD, OPEN, SHARDS, loss_of, private_folder, recovered
from edge_app.collection.segment import Contents, Segment, State
from edge_app.collection.settings import CollectionSettings
from edge_app.contract.crop import Crop
from edge_app.contract.shard import ShardName, encode
from edge_app.contract.whole import sync_folder
from edge_app.errors import StoreError
from edge_app.store.parts import Parts
from edge_app.store.rows import Shed

log = logging.getLogger(__name__)

DAY_S = 86400.0


class Spool:
    """`add` crops, `tend` now and then; `closed` and `confirmed` are for the upload. `take` goes to the store."""

    def __init__(
        self,
        settings: CollectionSettings,
        owner: tuple[str, str],
        parts: Parts,
        *,
        stored: Callable[[str], bytes | None],
        time_s: Callable[[], float],
    ) -> None:
        """Ends what the last process began.

        Args:
            owner: node and boot id, for the names of shards.
            parts: what the store held at its opening.
            stored: the part of that key as it is on the disk now; `Store.part`.
            time_s: the store's time, which ages are differences of.

        Raises `StoreError` when the folder cannot be used, or another process uses it.
        """
        self._settings, self._owner, self._stored, self._time_s = settings, owner, stored, time_s
        self.folder = settings.folder
        self.counters: Counter[str] = Counter()  # since the start
        self._lock = threading.RLock()
        self._problems: dict[str, str] = {}
        with ExitStack() as opened:
            try:
                self._only_process = private_folder(self.folder)
                opened.callback(self._only_process)
                found = recovered(self.folder, parts, time_s())
            except OSError as error:
                why = error.strerror or error
                raise StoreError(f"collection.folder {self.folder}: {why}; can it be written?") from error
            opened.pop_all()
        self._segment, self._shards, self._sealed, self._gone = found.segment, found.shards, found.sealed, found.gone
        self._changes, self._losses = found.changes, found.losses
        self.counters["crops_lost_in_the_spool"] = sum(loss.counts["crop"] for loss in found.losses)

    # For those who keep crops.

    def add(self, crops: Sequence[Crop]) -> bool:
        """All or none of them; False when the disk does not take them, and `problem` says why. Raises `ShardError` for
        a crop that no reader would take."""
        blocks = [encode(crop) for crop in crops]
        with self._lock:
            if not self._has_room(sum(map(len, blocks))):
                return False
            try:
                self._segment.append(blocks, [crop.record for crop in crops])
            except OSError as error:
                self._fails("write", f"crops are lost: {error.strerror or error}")
                return False
            self._problems.clear()
            self._changes[OPEN] = self._segment.state.stored()
            return True

    def seal(self) -> None:
        """Close the segment, if anything is in it. It becomes a shard when the store has it."""
        with self._lock:
            if not self._segment.state.size_bytes:
                return
            try:
                sha256 = self._segment.finish()
            except OSError as error:
                self._fails("write", f"a shard cannot be closed: {error.strerror or error}")
                return
            state, now_s = self._segment.state, self._time_s()
            path = self._segment.path
            if sha256 is None:
                self._lose(state.contents, "a segment was damaged")
                path.unlink(missing_ok=True)
            else:
                name = str(ShardName(*self._owner, state.number, sha256[:16]))
                shard = ClosedShard(name, self.folder / name, sha256, path.stat().st_size, state.contents, now_s)
                self._shards[name], self._sealed[name] = shard, path
                self._changes[SHARDS + name] = closed.stored(shard)
            self._next_segment(state)

    def tend(self) -> None:
        """Close what is full or old enough, end what the store has taken, give up what is too much."""
        with self._lock:
            state, settings = self._segment.state, self._settings
            if state.size_bytes >= settings.shard_bytes or (
                state.size_bytes and self._time_s() - state.opened_at_s >= settings.shard_s
            ):
                self.seal()
            try:
                self._follow_store()
                self._problems.pop("store", None)
            except (OSError, StoreError) as error:
                self._fails("store", f"shards wait: {error}")
            self._bound()

    def take(self) -> tuple[dict[str, bytes | None], list[Shed]]:
        """Parts for the store, and what is to be told as lost with them, since the last call."""
        with self._lock:
            taken, self._changes = (self._changes, self._losses), {}
            self._losses = []
            return taken

    @property
    def problem(self) -> str | None:
        """What ails it just now, in stable words. Never waits for the disk."""
        return "spool: " + "; ".join(problems) if (problems := list(self._problems.values())) else None

    @property
    def settled(self) -> bool:
        """Nothing waits for the store."""
        with self._lock:
            return not (self._changes or self._losses or self._sealed or self._gone)

    @property
    def accepted(self) -> int:
        """Crops that were ever taken in."""
        return self._segment.state.accepted

    def size_bytes(self) -> int:
        """What lies on the disk."""
        with self._lock:
            return self._segment.state.size_bytes + sum(shard.bytes for shard in self._shards.values())

    def close(self) -> None:
        """The last call. What `take` was not asked for is done again at the next start."""
        self._only_process()

    # For the upload.

    def closed(self) -> list[ClosedShard]:
        """The shards that can be uploaded, the oldest first."""
        with self._lock:
            return [shard for name, shard in self._shards.items() if name not in self._sealed]

    def confirmed(self, name: str) -> bool:
        """The other end has this shard, by its digest: it is deleted here. False when it was given up meanwhile."""
        with self._lock:
            known = self._retire(name, GONE)
            self.counters["crop_shards_confirmed"] += known
            return known

    def damaged(self, name: str) -> bool:
        """The file is not what its digest says any more: it is deleted, and told as lost."""
        return self._give_up(name, "a shard was damaged on the disk")

    def replace(self, name: str, by: Sequence[Crop]) -> None:
        """A closed shard leaves, and these of its crops are filled in anew; one transaction of the store does both.
        Raises `StoreError` when the disk does not take it."""
        with self._lock:
            if by and not self.add(by):
                raise StoreError(self.problem or "the disk does not take crops")
            (self.folder / name).replace(self.folder / (name + OLD))
            sync_folder(self.folder)
            del self._shards[name]
            self._gone.add(name)
            self._changes[SHARDS + name] = None

    # Inside; every caller holds the lock.

    def _follow_store(self) -> None:
        """Files follow what is on the disk as said by the store."""
        for name, segment in list(self._sealed.items()):
            if self._stored(SHARDS + name) is not None:
                with suppress(FileNotFoundError):  # renamed by an earlier try
                    segment.replace(self.folder / name)
                sync_folder(self.folder)
                del self._sealed[name]
        for name in list(self._gone):
            if self._stored(SHARDS + name) is None:
                for ending in ENDINGS:
                    (self.folder / (name + ending)).unlink(missing_ok=True)
                self._gone.discard(name)

    def _bound(self, more_bytes: int = 0) -> None:
        """Give up the oldest shards until there is room for so much more."""
        settings, now_s = self._settings, self._time_s()
        for shard in self.closed():
            if now_s - shard.closed_at_s > settings.retention_days * DAY_S:
                self._give_up(shard.name, f"not uploaded within {settings.retention_days:g} days")
            elif self.size_bytes() + more_bytes > settings.spool_bytes:
                self._give_up(shard.name, f"the spool is above {settings.spool_bytes} bytes")
            elif self._free_bytes() - more_bytes < settings.keep_free_bytes:
                self._give_up(shard.name, f"the disk has less than {settings.keep_free_bytes} bytes free")
            else:
                break

    def _has_room(self, size: int) -> bool:
        """For crops; facts come first."""
        self._bound(size)
        settings = self._settings
        if self._free_bytes() - size < settings.keep_free_bytes:
            self._fails("room", f"crops are lost: less than {settings.keep_free_bytes} bytes of the disk are free")
        elif self.size_bytes() + size > settings.spool_bytes:
            self._fails("room", f"crops are lost: {settings.spool_bytes} bytes wait for the store")
        else:
            self._problems.pop("room", None)
        return "room" not in self._problems

    def _free_bytes(self) -> int:
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:
            return 0

    def _give_up(self, name: str, reason: str) -> bool:
        with self._lock:
            shard = self._shards.get(name)
            if shard is None or not self._retire(name, LOST):
                return False
            self._lose(shard.contents, reason)
            return True

    def _retire(self, name: str, ending: str) -> bool:
        """A closed shard leaves: its bytes at once, its name when the store has forgotten it."""
        if name not in self._shards or name in self._sealed:
            return False
        gone = self.folder / (name + ending)
        with suppress(OSError):  # a file that is missing is as good as gone
            (self.folder / name).replace(gone)
            os.truncate(gone, 0)
            sync_folder(self.folder)
        del self._shards[name]
        self._gone.add(name)
        self._changes[SHARDS + name] = None
        return True

    def _next_segment(self, state: State) -> None:
        self._segment = Segment(self.folder, State(state.number + 1, self._time_s(), accepted=state.accepted))
        self._changes[OPEN] = self._segment.state.stored()

    def _lose(self, contents: Contents, reason: str) -> None:
        self._losses.append(loss_of(contents, reason))
        self.counters["crops_lost_in_the_spool"] += contents.crops

    def _fails(self, what: str, problem: str) -> None:
        if what not in self._problems:
            log.warning("spool %s: %s", self.folder, problem)
        self._problems[what] = problem
