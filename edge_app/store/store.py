"""Association state and outbox in one SQLite file, so that a fact and the state that produced it are written together.

Write-ahead log, `synchronous=FULL` where facts are written: after a power cut the file opens at the last commit. Marks
of what was sent may be lost with the power; the row is then sent again, and subscribers drop the repeat by event_id.

Any thread may call any method. Committing (pipeline) and draining (publisher) have a connection and a lock each, so
neither waits for the other longer than one short write.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from edge_app.clock import Clock
from edge_app.settings import FilePath, Settings
from edge_app.store import ages, aside, opening, salvage, shedding
from edge_app.store.opening import plain_errors
from edge_app.store.rows import Row, Shed, checksum, is_whole
from edge_app.store.tables import transaction

log = logging.getLogger(__name__)

LEDGER_ROWS = 10_000  # so many sent event ids are remembered, lest an event decided twice is sent twice


class StoreSettings(Settings):
    path: FilePath = Path("state/crosslane.db")
    """The database file. Its folder is made when it is missing."""
    outbox_max_bytes: int = Field(default=64_000_000, ge=100_000)
    """Above this the least valuable messages are given up, counted, and the count is published."""
    outbox_max_age_s: float = Field(default=7 * 86400.0, gt=0)
    """Messages that could not be sent for so long are given up in the same way."""


@dataclass(frozen=True, slots=True)
class Pending:
    """One row that no broker has acknowledged yet."""

    id: int
    kind: str
    topic: str
    queued_at_s: float  # in the store's own time, see `Store.time_s`
    payload: bytes


class Store:
    """Opened once per process: every open counts one boot. Every method raises StoreError when the file fails."""

    def __init__(self, path: Path, clock: Clock | None = None, lineage: str | None = None) -> None:
        """`lineage` begins the boot ids of a new database; random by default, so that ids are never used again.

        A damaged database is replaced by a new one with all that can be read of it; `say_losses` tells. Raises
        `StoreRefusedError` for a file that is not ours, or of a newer release.
        """
        self._clock = clock or Clock()
        self.path = path
        self.wake = threading.Event()  # set after every commit that queued something
        self._commit_lock, self._drain_lock, self._count_lock = threading.Lock(), threading.Lock(), threading.Lock()
        with plain_errors(path):
            opening.make_folder(path.parent)
            self._only_process = opening.lock(path)
            with ExitStack() as opened:
                opened.callback(self._only_process.close)
                self._writer, self.boot_id = opening.open_store(path, lineage, self._clock.wall())
                opened.callback(self._writer.close)
                self._ages = ages.opened(self._writer.execute, self._clock)
                self._drainer = opening.connect(path, "NORMAL")
                opened.callback(self._drainer.close)
                self._set_damaged_messages_aside()
                depth, size = self._writer.execute(
                    "SELECT count(*), coalesce(sum(bytes), 0) FROM outbox WHERE payload IS NOT NULL"
                ).fetchone()
                self._depth, self._bytes = int(depth), int(size)
                opening.mark(self._only_process)
                opening.make_private(path)
                opened.pop_all()

    def load(self) -> dict[str, bytes]:
        """Every part, as last committed."""
        with plain_errors(self.path), self._commit_lock:
            return dict(self._writer.execute("SELECT key, CAST(value AS BLOB) FROM parts"))

    def part(self, key: str) -> bytes | None:
        """One part as it is on the disk now; None when there is none."""
        with plain_errors(self.path), self._drain_lock:
            found = self._drainer.execute("SELECT CAST(value AS BLOB) FROM parts WHERE key = ?", (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def commit(self, parts: Mapping[str, bytes | None], rows: Sequence[Row] = ()) -> None:
        """Write parts (None deletes) and queue messages, all or nothing. Messages queued or sent before are skipped."""
        if not parts and not rows:
            return
        with self._queueing() as (write, queue):
            for key, value in parts.items():
                if value is None:
                    write("DELETE FROM parts WHERE key = ?", (key,))
                else:
                    write("INSERT OR REPLACE INTO parts VALUES (?, ?)", (key, value))
            for row in rows:
                queue(row)
            write("INSERT OR REPLACE INTO meta VALUES ('age', ?)", (self._ages.stored(),))

    def pending(self, limit: int, after_id: int = 0) -> list[Pending]:
        """The oldest unsent rows with a larger id, in the order they were queued."""
        with plain_errors(self.path), self._drain_lock:
            found = self._drainer.execute(
                "SELECT id, kind, topic, queued_at_s, payload FROM outbox"
                " WHERE payload IS NOT NULL AND id > ? ORDER BY id LIMIT ?",
                (after_id, limit),
            )
            return [Pending(*row) for row in found]

    def mark_sent(self, ids: Iterable[int]) -> None:
        """Call it with rows whose PUBACK arrived, and with no others."""
        count, size = 0, 0
        with plain_errors(self.path), self._drain_lock, transaction(self._drainer) as write:
            for row_id in ids:
                sent = write("SELECT bytes FROM outbox WHERE id = ? AND payload IS NOT NULL", (row_id,)).fetchone()
                if sent:
                    write("UPDATE outbox SET payload = NULL WHERE id = ?", (row_id,))
                    count, size = count + 1, size + sent[0]
            write("DELETE FROM outbox WHERE payload IS NULL AND id <= (SELECT max(id) FROM outbox) - ?", (LEDGER_ROWS,))
        self._count(-count, -size)

    def put_aside(self, ids: Iterable[int], reason: str, gap: Callable[[Shed], Row]) -> Shed | None:
        """Take rows that the broker does not take out of the outbox; `gap` is queued as their account."""
        with self._queueing() as (write, queue):
            shed, size = aside.put_refused(write, ids, reason, self._clock.wall(), self._ages.wall_ahead_s())
            if shed is None:
                return None
            queue(gap(shed))
        self._count(-sum(shed.counts.values()), -size)
        return shed

    def time_s(self) -> float:
        """The time that `Pending.queued_at_s` is in: monotonic over restarts, nothing to do with the wall clock."""
        return self._ages.now_s()

    def depth(self) -> int:
        """Messages not yet acknowledged."""
        return self._depth

    def depth_bytes(self) -> int:
        return self._bytes

    def oldest_unsent_s(self) -> float | None:
        """Age of the oldest unacknowledged message; None when there is none."""
        with plain_errors(self.path), self._drain_lock:
            first = self._drainer.execute(
                "SELECT queued_at_s FROM outbox WHERE payload IS NOT NULL ORDER BY id LIMIT 1"
            ).fetchone()
        return None if first is None else max(self._ages.now_s() - first[0], 0.0)

    def shed(self, limits: StoreSettings, gap: Callable[[Shed], Row]) -> Shed | None:
        """Keep the outbox within its bounds. What is given up is counted in a message queued in the same transaction.

        Cheap when there is nothing to do; call it after every commit.
        """
        oldest_s = self.oldest_unsent_s() if self._depth else None
        too_old = oldest_s is not None and oldest_s > limits.outbox_max_age_s
        if self._bytes <= limits.outbox_max_bytes and not too_old:
            return None
        with self._queueing() as (write, queue):
            victims = shedding.too_old(write, self._ages.now_s() - limits.outbox_max_age_s)
            excess_bytes = self._bytes - shedding.total_bytes(victims) - limits.outbox_max_bytes
            if excess_bytes > 0:
                victims += shedding.least_valuable(write, excess_bytes + limits.outbox_max_bytes // 10, victims)
            if not victims:
                return None
            reason = "too old" if too_old else f"above {limits.outbox_max_bytes} bytes"
            shed = shedding.account(victims, reason, self._ages.wall_ahead_s())
            for victim in victims:
                write("DELETE FROM outbox WHERE id = ?", (victim.id,))
            queue(gap(shed))
        self._count(-len(victims), -shedding.total_bytes(victims))
        return shed

    def set_aside(self, parts: Mapping[str, str], gap: Callable[[Shed], Row]) -> dict[str, int]:
        """Parts that nobody can read, each with the reason, are put aside; `gap` publishes how many of
        which group (`associate/passages`) it were. Returns that count too."""
        counts = Counter("/".join(key.split("/")[:2]) for key in parts)
        now_s = self._clock.wall()
        reason = f"stored state could not be read, and begins anew: {next(iter(parts.values()))}"
        row = gap(Shed(dict(counts), now_s, now_s, reason[: salvage.LONGEST_REASON]))
        with self._queueing() as (write, queue):
            aside.put_parts(write, parts, now_s)
            queue(row)
        return dict(counts)

    def say_losses(self, gap: Callable[[Shed], Row]) -> list[Shed]:
        """What a damaged file cost, since it was last asked; `gap` publishes it, in the transaction that forgets it."""
        with self._queueing() as (write, queue):
            losses = salvage.take_losses(write)
            for loss in losses:
                queue(gap(loss))
        return losses

    def close(self) -> None:
        """The last call. A process that dies without it loses nothing."""
        with plain_errors(self.path), self._commit_lock, self._drain_lock:
            self._drainer.close()
            self._writer.close()
            self._only_process.close()

    def _set_damaged_messages_aside(self) -> None:
        """A message that the disk changed must neither be sent nor stop those behind it."""
        damaged: list[tuple[int, str, float]] = []
        columns = "id, kind, queued_at_s, CAST(event_id AS TEXT), CAST(topic AS TEXT), payload, checksum"
        for row_id, kind, queued_at_s, event_id, topic, payload, stored in self._writer.execute(
            f"SELECT {columns} FROM outbox WHERE payload IS NOT NULL"
        ):
            if not is_whole(Row(event_id, kind, topic, payload), stored):
                damaged.append((row_id, str(kind), queued_at_s))
        if not damaged:
            return
        now_s, ahead_s = self._clock.wall(), self._ages.wall_ahead_s()
        times_s = [at_s + ahead_s for _, _, at_s in damaged if isinstance(at_s, float)]
        counts = dict(Counter(kind for _, kind, _ in damaged))
        lost = Shed(counts, min(times_s, default=now_s), max(times_s, default=now_s), "unsent messages were damaged")
        log.error("store %s: %d unsent messages were damaged and are set aside: %s", self.path, len(damaged), counts)
        with transaction(self._writer) as write:
            aside.put_damaged(write, [row_id for row_id, _, _ in damaged], lost.reason, now_s)
            salvage.note(write, lost)

    @contextmanager
    def _queueing(self) -> Iterator[tuple[shedding.Write, Callable[[Row], None]]]:
        """A transaction, and what queues a row in it. Rows are counted before anybody can read them: whoever sent one
        must not find a depth of zero while it waits."""
        queued: list[int] = []

        def queue(row: Row) -> None:
            if _queue(write, row, self._ages.now_s()):
                queued.append(len(row.payload))
                self._count(1, len(row.payload))

        try:
            with plain_errors(self.path), self._commit_lock, transaction(self._writer) as write:
                yield write, queue
        except BaseException:
            self._count(-len(queued), -sum(queued))
            raise
        if queued:
            self.wake.set()

    def _count(self, rows: int, size: int) -> None:
        with self._count_lock:
            self._depth += rows
            self._bytes += size


def _queue(write: shedding.Write, row: Row, now_s: float) -> bool:
    """False when this event was queued or sent before."""
    done = write(
        "INSERT INTO outbox (event_id, kind, topic, queued_at_s, bytes, payload, checksum)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING",
        (row.event_id, row.kind, row.topic, now_s, len(row.payload), row.payload, checksum(row)),
    )
    return done.rowcount == 1
