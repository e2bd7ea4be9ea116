"""A damaged database: what can be read of it is carried over into a new one, the old one is kept beside it.

Unsent messages first, then the marks of those sent, then the parts of the state (each proves itself by its checksum,
or by its owner's reading). The new database is written completely, then the old one is moved to
`<name>.damaged-<time>` with its logs, then the new one takes its place; stopped anywhere between, the next start goes
on. The newest `KEPT` damaged ones stay. What was lost is noted in the new database and published from there.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_app.contract.whole import sync_folder
from edge_app.store import pages
from edge_app.store.rows import Shed
from edge_app.store.shedding import Write

log = logging.getLogger(__name__)

KEPT = 3
LOGS = ("-wal", "-shm")
MAGIC = b"SQLite format 3\0"
EVENT_ID_LENGTH = 36
LOSSES = "losses"  # in `meta`: what is not published yet
LONGEST_REASON = 280


@dataclass
class Found:
    """What could be read of a damaged database."""

    parts: dict[str, bytes] = field(default_factory=dict)
    messages: dict[int, tuple[Any, ...]] = field(default_factory=dict)  # id → the other columns, version 2
    losses: list[dict[str, Any]] = field(default_factory=list)  # of an earlier salvage, not published yet
    last_id: int = 0  # of the last message that was ever queued

    @property
    def missing(self) -> int:
        """Messages, sent or not, whose numbers lie between those found. The ledger of sent ones has no holes."""
        return max(self.last_id, *self.messages) - min(self.messages) + 1 - len(self.messages) if self.messages else 0


def is_damage(error: sqlite3.Error) -> bool:
    """The file itself is wrong; everything else (full, read-only, locked) is the disk's affair and may pass."""
    if not isinstance(error, sqlite3.OperationalError):
        return isinstance(error, sqlite3.DatabaseError)
    return any(words in str(error) for words in ("no such table", "no such column", "malformed", "decode to UTF-8"))


def header_fault(path: Path, was_ours: bool) -> str | None:
    """Why SQLite would take this file for a new or a read-only one although it is damaged; None when it is not."""
    if not path.exists():
        return None
    size = path.stat().st_size
    log_size = _beside(path, "-wal").stat().st_size if _beside(path, "-wal").exists() else 0
    if size == 0:
        return "the file is empty, its log is not" if log_size else "the file is empty" if was_ours else None
    with path.open("rb") as file:
        head = file.read(100)
    if len(head) < 100:
        return f"the file ends after {size} bytes" if MAGIC.startswith(head[:16]) or was_ours else None
    if not any(head):
        return "the file begins with zeros"
    # versions of the format, fractions of a page, schema format, encoding: SQLite reads a wrong one as "newer than me"
    sound = head[18] in (1, 2) and head[19] in (1, 2) and head[20:24] == b"\0\x40\x20\x20"
    sound = sound and head[44:48] <= b"\0\0\0\4" and head[56:60] <= b"\0\0\0\1"
    return "its header was changed" if head.startswith(MAGIC) and not sound else None


def replace(path: Path, reason: str, now_s: float, make: Callable[[Path], sqlite3.Connection]) -> None:
    """Put a new store with all that could be read in the place of a damaged one. `make` begins an empty one.

    Raises sqlite3.Error or OSError when the disk does not take it; then the damaged one is where it was.
    """
    found = read(path)
    unsent = sum(message[5] is not None for message in found.messages.values())
    log.warning(
        "store %s: found %d unsent messages and %d parts of the state; up to %d messages are lost",
        path, unsent, len(found.parts), found.missing,
    )  # fmt: skip
    counts = {"unreadable": found.missing} if found.missing else {}
    said = f"the store was damaged: {reason}"[: LONGEST_REASON - 60] + f"; {unsent} unsent messages were saved"
    losses = [*found.losses, asdict(Shed(counts, path.stat().st_mtime, now_s, said))]
    fresh = _beside(path, ".salvaging")
    for old in (fresh, _beside(path, ".salvaging-journal")):
        old.unlink(missing_ok=True)
    with closing(make(fresh)) as connection:
        connection.execute("BEGIN")
        for row_id, message in sorted(found.messages.items()):
            with suppress(sqlite3.IntegrityError):  # one event under two numbers
                connection.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (row_id, *message))
        connection.executemany("INSERT INTO parts VALUES (?, ?)", found.parts.items())
        connection.execute("INSERT INTO meta VALUES (?, ?)", (LOSSES, json.dumps(losses)))
        connection.execute("COMMIT")
    fresh.rename(_beside(path, ".salvaged"))
    sync_folder(path.parent)
    finish(path)


def finish(path: Path) -> None:
    """The last steps of `replace`, also where an earlier process was stopped between them."""
    fresh = _beside(path, ".salvaged")
    if not fresh.exists():
        return
    aside = _beside(path, time.strftime(".damaged-%Y%m%dT%H%M%SZ", time.gmtime(fresh.stat().st_mtime)))
    for end in ("", *LOGS):
        with suppress(FileNotFoundError):
            _beside(path, end).rename(_beside(aside, end))
            _beside(aside, end).chmod(0o600)
    fresh.rename(path)
    sync_folder(path.parent)
    log.warning("store %s: the damaged one is kept as %s", path, aside.name)
    damaged = sorted(one for one in path.parent.glob(f"{path.name}.damaged-*") if not one.name.endswith(LOGS))
    for old in damaged[:-KEPT]:
        for end in ("", *LOGS):
            _beside(old, end).unlink(missing_ok=True)


def take_losses(write: Write) -> list[Shed]:
    """What was lost and is not published yet; it is forgotten with this transaction."""
    losses = [Shed(**loss) for loss in _losses(write)]
    write("DELETE FROM meta WHERE key = ?", (LOSSES,))
    return losses


def note(write: Write, loss: Shed) -> None:
    """Remember a loss until it is published."""
    value = json.dumps([*_losses(write), asdict(loss)])
    write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (LOSSES, value))


def _losses(write: Write) -> list[dict[str, Any]]:
    found = write("SELECT value FROM meta WHERE key = ?", (LOSSES,)).fetchone()
    try:
        return [asdict(Shed(**loss)) for loss in json.loads(found[0])] if found else []
    except (ValueError, TypeError):
        return []


def read(path: Path) -> Found:
    """Every message and part that can be read, told by the columns of their rows."""
    found = Found()
    newest: dict[str, int] = {}
    for rowid, row in pages.rows(path):
        if len(row) in (7, 8) and _is_message(row):
            known = found.messages.get(rowid)
            if known is None or known[5] is not None:  # of two copies, the one that was sent holds
                found.messages[rowid] = (*row[1:4], float(row[4]), *row[5:7], row[7] if len(row) > 7 else None)
        elif len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], bytes):
            if rowid >= newest.get(row[0], 0):  # a part that is written again gets a larger number
                found.parts[row[0]], newest[row[0]] = row[1], rowid
        elif len(row) == 2 and row[0] == "outbox" and isinstance(row[1], int):
            found.last_id = row[1]
        elif len(row) == 2 and row[0] == LOSSES and isinstance(row[1], str):
            with suppress(ValueError):
                found.losses = json.loads(row[1])
    return found


def _is_message(row: tuple[Any, ...]) -> bool:
    """id (in the row's number), event_id, kind, topic, queued_at_s, bytes, payload, checksum."""
    texts = all(isinstance(text, str) for text in row[1:4])
    numbers = isinstance(row[4], int | float) and isinstance(row[5], int)
    payload = row[6] is None or isinstance(row[6], bytes)
    return row[0] is None and texts and len(row[1]) == EVENT_ID_LENGTH and numbers and payload


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)
