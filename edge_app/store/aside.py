"""What nobody can read and no broker takes: out of the way, kept with the reason for a person to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_app.store.rows import Shed
from edge_app.store.shedding import Victim, Write, account

ROWS, BYTES = 1000, 16_000_000  # at most; the oldest give way


def put_parts(write: Write, reasons: Mapping[str, str], at_s: float) -> None:
    """Parts of the state: key → why nobody can read it. `at_s`: wall time."""
    for key, reason in reasons.items():
        write(
            "INSERT INTO aside (at_s, key, reason, value) SELECT ?, key, ?, value FROM parts WHERE key = ?",
            (at_s, reason, key),
        )
        write("DELETE FROM parts WHERE key = ?", (key,))
    _give_way(write)


def put_damaged(write: Write, ids: Iterable[int], reason: str, at_s: float) -> None:
    """Messages that the disk changed; the outbox forgets them."""
    for row_id in ids:
        _copy_message(write, row_id, reason, at_s)
        write("DELETE FROM outbox WHERE id = ?", (row_id,))
    _give_way(write)


def put_refused(write: Write, ids: Iterable[int], reason: str, at_s: float, ahead_s: float) -> tuple[Shed | None, int]:
    """Messages that no broker takes: the account of those still unsent, None when none was, and their bytes. They stay
    in the ledger of what was sent, so that nobody queues them again. `ahead_s`: wall time minus the store's own."""
    victims: list[Victim] = []
    for row_id in ids:
        found = write(
            "SELECT id, kind, queued_at_s, bytes FROM outbox WHERE id = ? AND payload IS NOT NULL", (row_id,)
        ).fetchone()
        if found:
            victims.append(Victim(*found))
            _copy_message(write, row_id, reason, at_s)
            write("UPDATE outbox SET payload = NULL WHERE id = ?", (row_id,))
    _give_way(write)
    return (account(victims, reason, ahead_s), sum(victim.bytes for victim in victims)) if victims else (None, 0)


def count(read: Write) -> int:
    """How many; 0 in a file of a release that put nothing aside."""
    if not read("SELECT count(*) FROM sqlite_master WHERE name = 'aside'").fetchone()[0]:
        return 0
    return int(read("SELECT count(*) FROM aside").fetchone()[0])


def _copy_message(write: Write, row_id: int, reason: str, at_s: float) -> None:
    write(
        "INSERT INTO aside (at_s, key, reason, value) SELECT ?, topic, ?, payload FROM outbox WHERE id = ?",
        (at_s, reason, row_id),
    )


def _give_way(write: Write) -> None:
    write("DELETE FROM aside WHERE id <= (SELECT max(id) FROM aside) - ?", (ROWS,))
    write(
        "DELETE FROM aside WHERE id NOT IN (SELECT id FROM"
        " (SELECT id, sum(length(value)) OVER (ORDER BY id DESC) AS held FROM aside) WHERE held <= ?)",
        (BYTES,),
    )
