"""What somebody wants forgotten leaves the file: rows, and then the pages that they stood on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from edge_app.store.shedding import Write


def messages(write: Write, unwanted: Callable[[str, bytes], bool]) -> tuple[Counter[str], Counter[str], int]:
    """Counts by kind of what was erased, of the unsent ones among it, and their bytes. Unsent ones stay in the ledger,
    so that nobody queues them again. All that is set aside goes: nobody can tell of whom it speaks."""
    erased, unsent, size = Counter[str](), Counter[str](), 0
    rows = write("SELECT id, kind, bytes, payload FROM outbox WHERE payload IS NOT NULL").fetchall()
    for row_id, kind, length, payload in rows:
        if unwanted(kind, payload):
            write("UPDATE outbox SET payload = NULL WHERE id = ?", (row_id,))
            unsent[kind] += 1
            size += length
    erased["set aside"] += write("DELETE FROM aside").rowcount
    return +(erased + unsent), unsent, size


def shrink(write: Write) -> None:
    """Write the file anew without what was deleted, and empty its log."""
    write("VACUUM")
    write("PRAGMA wal_checkpoint(TRUNCATE)")
