"""Association state and outbox in one SQLite file, so that a fact and the state that produced it are written together.

Write-ahead log, `synchronous=FULL` where facts are written: after a power cut the file opens at the last commit. Marks
of what was sent may be lost with the power; the row is then sent again, and subscribers drop the repeat by event_id.

Any thread may call any method. Committing (pipeline) and draining (publisher) have a connection and a lock each, so
neither waits for the other longer than one short write.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import Field

from edge_app.errors import StoreError
from edge_app.settings import Settings
from edge_app.store import aside, shedding
from edge_app.store.rows import Row, Shed
from edge_app.store.schema import ASIDE, SCHEMA

APPLICATION_ID = 0x43524F53  # "CROS", in the file's header
SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 5000
LEDGER_ROWS = 10_000  # so many sent event ids are remembered, lest an event decided twice is sent twice


class StoreSettings(Settings):
    path: Path = Path("state/crosslane.db")
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
    queued_at_s: float
    payload: bytes


class Store:
    """Opened once per process: every open counts one boot. Every method raises StoreError when the file fails."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time, lineage: str | None = None) -> None:
        """`lineage` begins the boot ids of a new database; random by default, so that ids are never used again."""
        self.path = path
        self.wake = threading.Event()  # set after every commit that queued something
        self._clock = clock
        self._commit_lock, self._drain_lock, self._count_lock = threading.Lock(), threading.Lock(), threading.Lock()
        with _plain_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._only_process = _lock(path)
            try:
                self._writer = _connect(path, "FULL")
                self.boot_id = _prepare(self._writer, secrets.token_hex(3) if lineage is None else lineage)
                self._drainer = _connect(path, "NORMAL")
                depth, size = self._writer.execute(
                    "SELECT count(*), coalesce(sum(bytes), 0) FROM outbox WHERE payload IS NOT NULL"
                ).fetchone()
                self._depth, self._bytes = int(depth), int(size)
            except BaseException:
                self._only_process.close()
                raise

    def load(self) -> dict[str, bytes]:
        """Every part, as last committed."""
        with _plain_errors(self.path), self._commit_lock:
            return dict(self._writer.execute("SELECT key, value FROM parts"))

    def commit(self, parts: Mapping[str, bytes | None], rows: Sequence[Row] = ()) -> None:
        """Write parts (None deletes) and queue messages, all or nothing. Messages queued or sent before are skipped."""
        if not parts and not rows:
            return
        now_s, added, added_bytes = self._clock(), 0, 0
        with _plain_errors(self.path), self._commit_lock, _transaction(self._writer) as write:
            for key, value in parts.items():
                if value is None:
                    write("DELETE FROM parts WHERE key = ?", (key,))
                else:
                    write("INSERT OR REPLACE INTO parts VALUES (?, ?)", (key, value))
            for row in rows:
                if _queue(write, row, now_s):
                    added, added_bytes = added + 1, added_bytes + len(row.payload)
        self._count(added, added_bytes)
        if added:
            self.wake.set()

    def pending(self, limit: int, after_id: int = 0) -> list[Pending]:
        """The oldest unsent rows with a larger id, in the order they were queued."""
        with _plain_errors(self.path), self._drain_lock:
            found = self._drainer.execute(
                "SELECT id, kind, topic, queued_at_s, payload FROM outbox"
                " WHERE payload IS NOT NULL AND id > ? ORDER BY id LIMIT ?",
                (after_id, limit),
            )
            return [Pending(*row) for row in found]

    def mark_sent(self, ids: Iterable[int]) -> None:
        """Call it with rows whose PUBACK arrived, and with no others."""
        count, size = 0, 0
        with _plain_errors(self.path), self._drain_lock, _transaction(self._drainer) as write:
            for row_id in ids:
                sent = write("SELECT bytes FROM outbox WHERE id = ? AND payload IS NOT NULL", (row_id,)).fetchone()
                if sent:
                    write("UPDATE outbox SET payload = NULL WHERE id = ?", (row_id,))
                    count, size = count + 1, size + sent[0]
            write("DELETE FROM outbox WHERE payload IS NULL AND id <= (SELECT max(id) FROM outbox) - ?", (LEDGER_ROWS,))
        self._count(-count, -size)

    def put_aside(self, ids: Iterable[int], reason: str, gap: Callable[[Shed], Row]) -> Shed | None:
        """Take rows that the broker does not take out of the outbox; `gap` is queued as their account."""
        with _plain_errors(self.path), self._commit_lock, _transaction(self._writer) as write:
            shed, size = aside.put(write, ids, reason)
            if shed is None:
                return None
            row = gap(shed)
            _queue(write, row, self._clock())
        self._count(1 - sum(shed.counts.values()), len(row.payload) - size)
        self.wake.set()
        return shed

    def newest_id(self) -> int:
        """Of the row queued last; 0 when there was none."""
        with _plain_errors(self.path), self._drain_lock:
            return int(self._drainer.execute("SELECT coalesce(max(id), 0) FROM outbox").fetchone()[0])

    def depth(self) -> int:
        """Messages not yet acknowledged."""
        return self._depth

    def depth_bytes(self) -> int:
        return self._bytes

    def oldest_unsent_s(self) -> float | None:
        """Age of the oldest unacknowledged message; None when there is none."""
        with _plain_errors(self.path), self._drain_lock:
            first = self._drainer.execute(
                "SELECT queued_at_s FROM outbox WHERE payload IS NOT NULL ORDER BY id LIMIT 1"
            ).fetchone()
        return None if first is None else max(self._clock() - first[0], 0.0)

    def shed(self, limits: StoreSettings, gap: Callable[[Shed], Row]) -> Shed | None:
        """Keep the outbox within its bounds. What is given up is counted in a message queued in the same transaction.

        Cheap when there is nothing to do; call it after every commit.
        """
        oldest_s = self.oldest_unsent_s() if self._depth else None
        too_old = oldest_s is not None and oldest_s > limits.outbox_max_age_s
        if self._bytes <= limits.outbox_max_bytes and not too_old:
            return None
        now_s = self._clock()
        with _plain_errors(self.path), self._commit_lock, _transaction(self._writer) as write:
            victims = shedding.too_old(write, now_s - limits.outbox_max_age_s)
            excess_bytes = self._bytes - shedding.total_bytes(victims) - limits.outbox_max_bytes
            if excess_bytes > 0:
                victims += shedding.least_valuable(write, excess_bytes + limits.outbox_max_bytes // 10, victims)
            if not victims:
                return None
            shed = shedding.account(victims, "too old" if too_old else f"above {limits.outbox_max_bytes} bytes")
            for victim in victims:
                write("DELETE FROM outbox WHERE id = ?", (victim.id,))
            row = gap(shed)
            _queue(write, row, now_s)
        self._count(1 - len(victims), len(row.payload) - shedding.total_bytes(victims))
        return shed

    def close(self) -> None:
        """The last call. A process that dies without it loses nothing."""
        with _plain_errors(self.path), self._commit_lock, self._drain_lock:
            self._drainer.close()
            self._writer.close()
            self._only_process.close()

    def _count(self, rows: int, size: int) -> None:
        with self._count_lock:
            self._depth += rows
            self._bytes += size


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Every way in which a disk can fail, as one StoreError that says which file and why."""
    try:
        yield
    except sqlite3.ProgrammingError:  # a bug of ours, not of the disk
        raise
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"store {path}: {error}; is the disk full, read-only or damaged?") from error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[shedding.Write]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.execute
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise


def _lock(path: Path) -> IO[str]:
    """Two applications on one store would send each other's messages and mix their states."""
    lock = open(path.with_name(path.name + ".lock"), "w", encoding="utf-8")  # noqa: SIM115, kept open on purpose
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise StoreError(f"store {path}: another process is running on it; stop that one first") from error
    return lock


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(
            f"store {path}: this file system offers journal mode {mode!r}, needed is 'wal'; use a local disk"
        )
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA journal_size_limit = 16000000")
    return connection


def _check(connection: sqlite3.Connection) -> bool:
    """True when the file has our tables, False when it is new; StoreError when it is foreign, newer or damaged."""
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return False
    if application_id != APPLICATION_ID:
        raise StoreError("the store's file is a database of another application; configure another path")
    if version != SCHEMA_VERSION:
        raise StoreError(f"the store's schema is version {version}, this release reads {SCHEMA_VERSION}; move it aside")
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise StoreError(f"the store's file is damaged ({damage}); move it aside to start with an empty one")
    return True


def _prepare(connection: sqlite3.Connection, lineage: str) -> str:
    """Check the file, make the tables of a new one, count this boot. Returns the boot id."""
    known = _check(connection)
    with _transaction(connection) as write:
        if not known:
            for statement in filter(str.strip, SCHEMA.split(";\n")):
                write(statement)
            write(f"PRAGMA application_id = {APPLICATION_ID}")
            write(f"PRAGMA user_version = {SCHEMA_VERSION}")
            write("INSERT INTO meta VALUES ('lineage', ?), ('boot', '0')", (lineage,))
        write(ASIDE)
        write("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'boot'")
        meta = dict(write("SELECT key, value FROM meta"))
    return f"{meta['lineage']}.{meta['boot']}" if meta["lineage"] else str(meta["boot"])


def _queue(write: shedding.Write, row: Row, now_s: float) -> bool:
    """False when this event was queued or sent before."""
    done = write(
        "INSERT INTO outbox (event_id, kind, topic, queued_at_s, bytes, payload) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (event_id) DO NOTHING",
        (row.event_id, row.kind, row.topic, now_s, len(row.payload), row.payload),
    )
    return done.rowcount == 1


def check_store(path: Path) -> str:
    """What `edge-app check` says of the store, without starting a boot. Raises StoreError when a start would fail."""
    with _plain_errors(path):
        if not path.exists():
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
                raise StoreError(f"store {path}: cannot be made, {folder} is not a folder that can be written")
            return f"{path}: new"
        with closing(_connect(path, "NORMAL")) as connection:
            if not _check(connection):
                return f"{path}: empty"
            waiting = connection.execute("SELECT count(*) FROM outbox WHERE payload IS NOT NULL").fetchone()[0]
            put_aside = aside.count(connection.execute)
            return f"{path}: {waiting} unsent messages" + (f", {put_aside} put aside" if put_aside else "")
