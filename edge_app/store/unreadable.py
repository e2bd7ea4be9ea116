"""What the disk changed or nobody can read: kept apart for whoever wants to look, and the account of what was lost."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from typing import Any

from edge_app.store.rows import Row, Shed
from edge_app.store.salvage import LOSSES
from edge_app.store.shedding import Write

ROWS, BYTES = 1000, 16_000_000  # at most; the oldest give way


def keep(write: Write, now_s: float, reason: str, which: str, key: str | int) -> None:
    """Copy the key and value that `which` finds; the oldest give way above ROWS and BYTES."""
    for name, value in write(which, (key,)).fetchall():
        write("INSERT INTO unreadable (at_s, key, reason, value) VALUES (?, ?, ?, ?)", (now_s, name, reason, value))
    write("DELETE FROM unreadable WHERE id <= (SELECT max(id) FROM unreadable) - ?", (ROWS,))
    write(
        "DELETE FROM unreadable WHERE id NOT IN (SELECT id FROM"
        " (SELECT id, sum(length(value)) OVER (ORDER BY id DESC) AS held FROM unreadable) WHERE held <= ?)",
        (BYTES,),
    )


def losses(write: Write) -> list[dict[str, Any]]:
    found = write("SELECT value FROM meta WHERE key = ?", (LOSSES,)).fetchone()
    try:
        return [asdict(Shed(**loss)) for loss in json.loads(found[0])] if found else []
    except (ValueError, TypeError):
        return []


def note(write: Write, loss: Shed) -> None:
    """Remember a loss until it is published."""
    value = json.dumps([*losses(write), asdict(loss)])
    write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (LOSSES, value))


def checksum(row: Row) -> int:
    return zlib.crc32(row.payload, zlib.crc32(f"{row.event_id} {row.kind} {row.topic}".encode()))


def is_whole(row: Row, stored: int | None) -> bool:
    """Is this what was queued? A row of version 1 has no checksum; it is at least a message."""
    if not isinstance(row.payload, bytes) or not all(isinstance(text, str) for text in (row.event_id, row.topic)):
        return False
    if stored is not None:
        return stored == checksum(row)
    try:
        return isinstance(json.loads(row.payload), dict)
    except ValueError:
        return False
