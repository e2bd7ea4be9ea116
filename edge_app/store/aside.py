"""Rows that no broker takes: out of the way of the others, kept with the reason for a person to look at."""

from __future__ import annotations

from collections.abc import Iterable

from edge_app.store.rows import Shed
from edge_app.store.shedding import Victim, Write, account

KEPT_ROWS = 1000  # the newest; at most 16 MB


def put(write: Write, ids: Iterable[int], reason: str, ahead_s: float) -> tuple[Shed | None, int]:
    """The account of the rows that were still unsent, None when none was, and their bytes. They stay in the ledger of
    what was sent, so that nobody queues them again. `ahead_s`: wall time minus the store's own."""
    victims: list[Victim] = []
    for row_id in ids:
        found = write(
            "SELECT id, kind, queued_at_s, bytes FROM outbox WHERE id = ? AND payload IS NOT NULL", (row_id,)
        ).fetchone()
        if found:
            victims.append(Victim(*found))
            write(
                "INSERT OR REPLACE INTO aside SELECT id, event_id, kind, topic, queued_at_s, payload, ? FROM outbox"
                " WHERE id = ?",
                (reason, row_id),
            )
            write("UPDATE outbox SET payload = NULL WHERE id = ?", (row_id,))
    write("DELETE FROM aside WHERE id NOT IN (SELECT id FROM aside ORDER BY id DESC LIMIT ?)", (KEPT_ROWS,))
    return (account(victims, reason, ahead_s), sum(victim.bytes for victim in victims)) if victims else (None, 0)


def count(read: Write) -> int:
    """How many; 0 in a file of a release that put nothing aside."""
    if not read("SELECT count(*) FROM sqlite_master WHERE name = 'aside'").fetchone()[0]:
        return 0
    return int(read("SELECT count(*) FROM aside").fetchone()[0])
