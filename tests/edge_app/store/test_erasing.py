"""What is erased from a store is gone from its files, and its account stays right."""

from pathlib import Path

from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.store.rows import Row
from edge_app.store.store import Store

SECRET = b'{"who": "somebody"}'


def test_erased_rows_leave_the_files_and_the_counts(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    letterhead = Letterhead("town", "edge-1", store.boot_id)
    rows = [Row(f"event-{n}", "match", "topic", SECRET if n % 2 else b'{"n": 0}') for n in range(10)]
    store.commit({"kept": b"1", "gone": SECRET}, rows)
    store.mark_sent([2])
    store.put_aside([4], "no broker takes it", lambda shed: gap_row(letterhead, shed, 1.0))
    erased = store.erase(
        {"gone": None}, lambda _, payload: payload == SECRET, lambda shed: gap_row(letterhead, shed, 1.0)
    )
    assert erased == {"match": 3, "set aside": 1}
    assert [row.payload for row in store.pending(20)][:5] == [b'{"n": 0}'] * 5
    assert store.depth() == len(store.pending(20)) == 7, "five matches, and two accounts"
    assert store.depth_bytes() == sum(len(row.payload) for row in store.pending(20))
    assert store.part("kept") == b"1"
    assert store.part("gone") is None
    store.commit({}, rows)
    assert store.depth() == 7, "what was erased is not queued again"
    assert not any(SECRET in path.read_bytes() for path in tmp_path.iterdir()), "while it is open, too"
    store.close()


def test_nothing_unwanted_says_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    assert store.erase({}, lambda *_: True, lambda shed: gap_row(Letterhead("s", "n", "1"), shed, 1.0)) == {}
    assert store.depth() == 0
    store.close()
