"""What the outbox takes in, and the account of what it had to give up."""

from __future__ import annotations

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
