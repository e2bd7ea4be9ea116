"""A store as a kill leaves it, and all that can be asked of one that was opened again."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from edge_app.contract.envelope import uuid7
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.store.parts import sealed
from edge_app.store.rows import Row, Shed
from edge_app.store.store import Store

MESSAGES, SENT, PARTS = 120, 20, 60
ENDS = ("", "-wal", "-shm")


def row(number: int, size: int = 700) -> Row:
    payload = b'{"number": %d, "rest": "%s"}' % (number, b"x" * (size if number % 10 else 6000))
    return Row(uuid7(number, str(number).encode()), "match", f"t/{number}", payload)


def gap(shed: Shed) -> Row:
    return gap_row(Letterhead("demo", "edge-1", "1"), shed, 5.0)


def fill(path: Path) -> None:
    """A store as a kill leaves it: a part in the file, the rest in its log."""
    store = Store(path)
    store.commit({f"part/{i}": sealed("test/1", os.urandom(900)) for i in range(PARTS)})
    store.commit({}, [row(number) for number in range(MESSAGES // 2)])
    store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.commit({}, [row(number) for number in range(MESSAGES // 2, MESSAGES)])
    store.mark_sent(range(1, SENT + 1))
    copy(path, path.with_name("copy.db"))
    store.close()
    for end in ENDS:
        path.with_name(path.name + end).unlink(missing_ok=True)
    copy(path.with_name("copy.db"), path)


def copy(source: Path, to: Path) -> None:
    for end in ENDS:
        if source.with_name(source.name + end).exists():
            shutil.copy(source.with_name(source.name + end), to.with_name(to.name + end))


def opened(path: Path) -> tuple[set[str], int, list[Shed]]:
    """Topics of the unsent messages, number of parts, losses; and the store goes on working."""
    store = Store(path)
    topics = {one.topic for one in store.pending(10_000) if one.kind == "match"}
    parts = len([key for key in store.load() if key.startswith("part/")])
    losses = store.say_losses(gap)
    assert store.say_losses(gap) == []
    assert len([one for one in store.pending(10_000) if one.kind == "gap"]) == len(losses)
    store.commit({"after": b"1"}, [row(10_000)])
    assert store.depth() == len(store.pending(10_000)) == len(topics) + len(losses) + 1
    assert store.depth_bytes() == sum(len(one.payload) for one in store.pending(10_000))
    assert store.load()["after"] == b"1"
    store.close()
    return topics, parts, losses


def unsent(first: int = SENT, last: int = MESSAGES) -> set[str]:
    return {f"t/{number}" for number in range(first, last)}


def folded(path: Path) -> Path:
    """The log folded into the file."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path
