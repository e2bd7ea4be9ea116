"""Opening the database file: whose it is, which version, whether it is whole, and who may read it.

    new, empty, zeros              made
    ours, whole                    opened; an older version is brought up to this one
    ours, damaged                  moved aside, what can be read of it carried over; see `salvage.py`
    a newer version, not ours      refused and left alone: no restart mends that

Files are for their owner alone (0600, a new folder 0700), whatever the umask: they hold embeddings.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from edge_app.errors import StoreDamagedError, StoreError, StoreRefusedError
from edge_app.store import aside, salvage, tables

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 5000
IMPLAUSIBLE_VERSION = 100  # no release will ever be there; a changed header is
MARK = "a store of crosslane\n"  # in the lock file, once a database was opened here


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Every way in which a disk can fail, as one StoreError that says which file and why."""
    try:
        yield
    except sqlite3.ProgrammingError:  # a bug of ours, not of the disk
        raise
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, sqlite3.Error) and salvage.is_damage(error):
            raise StoreDamagedError(f"store {path}: {error}; the next start carries over what can be read") from error
        raise StoreError(f"store {path}: {error}; is the disk full, read-only or damaged?") from error


def open_store(path: Path, lineage: str | None, now_s: float) -> tuple[sqlite3.Connection, str]:
    """The connection that writes, and the id of this boot. Salvages a damaged file first.

    Raises `StoreRefusedError` for what is not ours or newer, sqlite3.Error and OSError when the disk fails.
    """
    if path.is_dir():
        raise StoreRefusedError(f"store {path}: this is a folder; configure `store.path` with the name of a file")
    marked = _is_marked(path)
    salvage.finish(path)
    try:
        if fault := salvage.header_fault(path, marked):
            raise sqlite3.DatabaseError(fault)
        return _open(path, lineage)
    except sqlite3.Error as error:
        if not salvage.is_damage(error):
            raise
        if not marked and not _is_ours(path):
            raise StoreRefusedError(
                f"store {path}: {error}; it is left as it is: move it away, or configure another `store.path`"
            ) from error
        log.error("store %s is damaged (%s): what can be read of it is carried over into a new one", path, error)
        salvage.replace(path, str(error), now_s, _make)
        return _open(path, lineage)


def _open(path: Path, lineage: str | None) -> tuple[sqlite3.Connection, str]:
    if not path.exists():
        make_private(path)
    connection = _plain_connection(path)
    try:
        version = check(connection, path)  # before anything is changed: it may not be ours
        make_private(path)
        _use_log(connection, path, "FULL")
        boot_id = _prepare(connection, version, secrets.token_hex(3) if lineage is None else lineage)
    except BaseException:
        with suppress(sqlite3.Error):
            connection.close()
        raise
    make_private(path)
    return connection, boot_id


def _make(path: Path) -> sqlite3.Connection:
    """A new store without a write-ahead log, to be filled and put into its place as one file."""
    make_private(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    with tables.transaction(connection) as write:
        tables.make(write, secrets.token_hex(3))
    return connection


def lock(path: Path) -> IO[str]:
    """Two applications on one store would send each other's messages and mix their states."""
    held = open(os.open(_lock_of(path), os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8", errors="replace")  # noqa: SIM115, kept open on purpose
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        held.close()
        raise StoreError(f"store {path}: another process is running on it; stop that one first") from error
    return held


def mark(held: IO[str]) -> None:
    """A store was opened here: from now on a file without a readable header is a damaged store, not a stranger's."""
    held.seek(0)
    if held.read(len(MARK)) != MARK:
        held.seek(0)
        held.write(MARK)
        held.flush()


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _is_marked(path: Path) -> bool:
    with suppress(OSError):
        return _lock_of(path).read_bytes() == MARK.encode()
    return False


def make_folder(folder: Path) -> None:
    """A folder that is made here is for its owner alone; one that was there stays as its owner wants it."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_private(path: Path) -> None:
    """The database, its logs and its lock, for their owner alone. SQLite gives the logs the rights of the database."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    open_to = []
    for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", ".lock"))):
        with suppress(FileNotFoundError):
            if (mode := stat.S_IMODE(one.stat().st_mode)) & 0o077:
                one.chmod(0o600)
                open_to.append(f"{one.name} {mode:03o}")
    if open_to:
        log.warning("store %s: others could read it (%s); now only its owner can", path, ", ".join(open_to))


def connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = _plain_connection(path)
    _use_log(connection, path, synchronous)
    return connection


def _plain_connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False)


def _use_log(connection: sqlite3.Connection, path: Path, synchronous: str) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(
            f"store {path}: this file system offers journal mode {mode!r}, needed is 'wal'; use a local disk"
        )
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA journal_size_limit = 16000000")


def check(connection: sqlite3.Connection, path: Path) -> int:
    """The version of our tables in the file, 0 when it has none.

    Raises `StoreRefusedError` when it is foreign or newer, sqlite3.DatabaseError when it is damaged.
    """
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not names and application_id in (0, tables.APPLICATION_ID):
        return 0
    complete = {"parts", "meta", "outbox"} <= names
    if application_id != tables.APPLICATION_ID and not complete:
        raise StoreRefusedError(
            f"store {path}: a database of another application; it is left as it is: configure another `store.path`"
        )
    if tables.VERSION < version < IMPLAUSIBLE_VERSION:
        raise StoreRefusedError(
            f"store {path}: its schema is version {version}, this release reads up to {tables.VERSION}; it is left as"
            " it is: run the newer release, or move the file aside to begin anew"
        )
    damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if damage != "ok":
        raise sqlite3.DatabaseError(" ".join(damage.split()))
    if application_id != tables.APPLICATION_ID or not 1 <= version <= tables.VERSION or not complete:
        raise sqlite3.DatabaseError("its header was changed, or a table is gone")
    return version


def _is_ours(path: Path) -> bool:
    """By the header alone, of a file that SQLite does not read. A file cut within its header is nobody's."""
    head = path.read_bytes()[:100] if path.stat().st_size < 100 else _head(path)
    if len(head) < 72:
        return salvage.MAGIC.startswith(head[:16]) or head.startswith(salvage.MAGIC)
    return not any(head) or (head.startswith(salvage.MAGIC) and head[68:72] == tables.APPLICATION_ID.to_bytes(4, "big"))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def _prepare(connection: sqlite3.Connection, version: int, lineage: str) -> str:
    """Make or upgrade the tables, count this boot. Returns the boot id."""
    with tables.transaction(connection) as write:
        if not version:
            tables.make(write, lineage)
        elif version < tables.VERSION:
            tables.upgrade(write)
        tables.join_asides(write)
        return tables.next_boot(write)


def check_store(path: Path) -> str:
    """What `edge-app check` says of the store, without starting a boot. Raises StoreError when a start would fail."""
    with plain_errors(path):
        if not path.exists():
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
                raise StoreError(f"store {path}: cannot be made, {folder} is not a folder that can be written")
            return f"{path}: new"
        fault = salvage.header_fault(path, was_ours=False)
        if fault:
            return f"{path}: damaged ({fault}); the next start carries over what can be read"
        with closing(_plain_connection(path)) as connection:
            if not check(connection, path):
                return f"{path}: empty"
            waiting = connection.execute("SELECT count(*) FROM outbox WHERE payload IS NOT NULL").fetchone()[0]
            put_aside = aside.count(connection.execute)
            return f"{path}: {waiting} unsent messages" + (f", {put_aside} put aside" if put_aside else "")
