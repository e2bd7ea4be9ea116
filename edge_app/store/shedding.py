"""What the outbox gives up when it is full or its messages are too old, and in which order."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from edge_app.store.rows import Shed

Write = Callable[..., sqlite3.Cursor]  # `execute` of a connection inside a transaction

# What goes first when the outbox is full; kinds not named here go last, oldest first. A confirmed match is named
# because it is still counted in the travel times and trips of its interval. Health is never queued.
SHEDDING_ORDER = ("match_provisional", "match")


@dataclass(frozen=True, slots=True)
class Victim:
    id: int
    kind: str
    queued_at_s: float  # in the store's own time
    bytes: int


def total_bytes(victims: list[Victim]) -> int:
    return sum(victim.bytes for victim in victims)


def too_old(write: Write, before_s: float) -> list[Victim]:
    """Everything queued before an instant."""
    rows = write(
        "SELECT id, kind, queued_at_s, bytes FROM outbox WHERE payload IS NOT NULL AND queued_at_s < ?", (before_s,)
    )
    return [Victim(*row) for row in rows]


def least_valuable(write: Write, excess_bytes: int, taken: list[Victim]) -> list[Victim]:
    """Rows not yet taken that are worth at least `excess_bytes`, in the order of shedding."""
    ranks = " ".join(f"WHEN '{kind}' THEN {rank}" for rank, kind in enumerate(SHEDDING_ORDER))
    rows = write(
        "SELECT id, kind, queued_at_s, bytes FROM outbox WHERE payload IS NOT NULL AND kind != 'gap'"
        f" ORDER BY CASE kind {ranks} ELSE {len(SHEDDING_ORDER)} END, id"
    )
    known = {victim.id for victim in taken}
    victims: list[Victim] = []
    for row in rows:
        if excess_bytes <= 0:
            break
        if row[0] not in known:
            victims.append(Victim(*row))
            excess_bytes -= victims[-1].bytes
    return victims


def account(victims: list[Victim], reason: str, wall_ahead_s: float) -> Shed:
    """How many of each kind, and from when to when in wall time, which is so far ahead of the store's."""
    times_s = [victim.queued_at_s + wall_ahead_s for victim in victims]
    return Shed(dict(Counter(victim.kind for victim in victims)), min(times_s), max(times_s), reason)
