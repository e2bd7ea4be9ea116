"""What nobody can read is put aside, bounded and said."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from filled_store import PARTS, gap, opened, unsent

from edge_app.store.store import Store


def test_a_changed_message_is_set_aside_and_its_loss_is_said(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE outbox SET payload = replace(payload, 'number', 'numbeR') WHERE topic = 't/30'")
        database.execute("UPDATE outbox SET kind = 'mash' WHERE topic = 't/31'")
        database.execute("UPDATE outbox SET topic = 't/99999' WHERE topic = 't/32'")
        database.execute("UPDATE outbox SET payload = 'text' WHERE topic = 't/33'")
    topics, parts, losses = opened(path)
    assert (topics, parts) == (unsent() - {"t/30", "t/31", "t/32", "t/33"}, PARTS)
    assert [loss.counts for loss in losses] == [{"match": 3, "mash": 1}]
    with closing(sqlite3.connect(path)) as database:
        kept = database.execute("SELECT key, reason FROM aside").fetchall()
    assert [key for key, _ in kept] == ["t/30", "t/31", "t/99999", "t/33"]


def test_parts_set_aside_are_kept_bounded_and_said(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.commit({f"group/of/{i}": os.urandom(1000) for i in range(1500)} | {"other": b"1"})
    store.set_aside({f"group/of/{i}": "it is of no use" for i in range(1500)}, gap)
    assert store.load() == {"other": b"1"}
    (said,) = store.pending(9)
    assert (said.kind, b'"group/of":1500' in said.payload, b"no use" in said.payload) == ("gap", True, True)
    assert store._writer.execute("SELECT count(*) FROM aside").fetchone() == (1000,)
    store.commit({f"big/{i}": bytes(3_000_000) for i in range(8)})
    store.set_aside({f"big/{i}": "it is large" for i in range(8)}, gap)
    assert store._writer.execute("SELECT count(*), sum(length(value)) FROM aside").fetchone() == (5, 15_000_000)
    store.close()
