"""What the outbox takes in, and the account of what it had to give up."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One message on its way out. `kind` is a key of `contract.topics.RULES`."""

    event_id: str
    kind: str
    topic: str
    payload: bytes  # JSON, UTF-8; published_at is replaced when it is sent


@dataclass(frozen=True, slots=True)
class Shed:
    """What the outbox had to give up."""

    counts: dict[str, int]  # kind → messages
    first_queued_at_s: float
    last_queued_at_s: float
    reason: str


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
