"""One file, one transaction: what a crash leaves behind is consistent; a full outbox gives up by the written order."""

import multiprocessing
import random
import sqlite3
import sys
import threading
import time
from contextlib import closing

import pytest

from edge_app.contract.envelope import uuid7
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.errors import StoreError
from edge_app.store.opening import check_store
from edge_app.store.rows import Row, Shed
from edge_app.store.store import LEDGER_ROWS, Store, StoreSettings

LETTERHEAD = Letterhead("demo", "edge-1", "1")


def row(number, kind="match", size=100):
    return Row(uuid7(number, str(number).encode()), kind, f"t/{kind}", b"x" * size)


def gap(shed: Shed):
    return gap_row(LETTERHEAD, shed, 5.0)


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "deep" / "store.db")
    yield opened
    opened.close()


def test_parts_are_replaced_deleted_and_loaded(store):
    store.commit({"a": b"1", "b": b"2"})
    store.commit({"a": b"3", "b": None, "c": b""})
    assert store.load() == {"a": b"3", "c": b""}


def test_rows_come_out_in_order_once_and_are_gone_when_sent(store):
    store.commit({}, [row(1), row(2), row(3)])
    assert [one.id for one in store.pending(2)] == [1, 2]
    assert [one.id for one in store.pending(9, after_id=1)] == [2, 3]
    store.mark_sent([1, 3])
    assert [one.id for one in store.pending(9)] == [2]
    assert (store.depth(), store.depth_bytes()) == (1, 100)
    store.mark_sent([2, 2, 77])
    assert (store.depth(), store.depth_bytes(), store.oldest_unsent_s()) == (0, 0, None)


def test_a_row_that_can_be_read_is_counted(store):
    """A publisher that sends what it reads must not take the outbox for empty before the commit has returned."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    writer = threading.Thread(target=lambda: [store.commit({}, [row(number)]) for number in range(300)])
    try:
        writer.start()
        uncounted = 0
        while writer.is_alive():
            readable = len(store.pending(300))
            uncounted += store.depth() < readable
    finally:
        sys.setswitchinterval(interval_s)
        writer.join()
    assert (uncounted, store.depth()) == (0, 300)


def test_a_commit_that_fails_counts_nothing(store):
    store.commit({}, [row(1)])
    with pytest.raises(StoreError):
        store.commit({}, [row(2), row(3, kind=None)])  # no row without a kind
    assert (store.depth(), store.depth_bytes(), len(store.pending(9))) == (1, 100, 1)


def test_an_event_queued_or_sent_before_is_not_queued_again(store):
    store.commit({}, [row(1), row(1)])
    assert store.depth() == 1
    store.mark_sent([1])
    store.commit({"a": b"1"}, [row(1)])
    assert store.pending(9) == []
    assert store.load() == {"a": b"1"}


def test_a_failed_commit_leaves_nothing(store):
    broken = Row("x", "match", "t", None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        store.commit({"a": b"1"}, [row(1), broken])
    assert store.load() == {}
    assert store.pending(9) == []


def test_boots_are_counted_and_state_survives(tmp_path):
    ids = []
    for _ in range(3):
        store = Store(tmp_path / "s.db", lineage="ab")
        ids.append(store.boot_id)
        store.commit({"n": str(len(ids)).encode()}, [row(len(ids))])
        store.close()
    store = Store(tmp_path / "s.db")
    assert ids == ["ab.1", "ab.2", "ab.3"]
    assert store.boot_id == "ab.4"
    assert store.load() == {"n": b"3"}
    assert store.depth() == 3
    store.close()


def test_a_new_database_never_repeats_the_boots_of_a_lost_one(tmp_path):
    first, second = Store(tmp_path / "a.db"), Store(tmp_path / "b.db")
    assert first.boot_id != second.boot_id
    first.close()
    second.close()


def test_the_ledger_of_sent_events_is_bounded(store, monkeypatch):
    monkeypatch.setattr("edge_app.store.store.LEDGER_ROWS", 10)
    for first in range(0, 100, 20):
        store.commit({}, [row(first + i) for i in range(20)])
        store.mark_sent([one.id for one in store.pending(99)])
    with sqlite3.connect(store.path) as other:
        assert other.execute("SELECT count(*) FROM outbox").fetchone() == (10,)


def test_a_full_outbox_gives_up_the_least_valuable_first_and_says_so(store):
    limits = StoreSettings(outbox_max_bytes=100_000)
    kinds = ["revision", "match_provisional", "traveltime", "match", "flow"]
    store.commit({}, [row(i, kinds[i % 5], size=1000) for i in range(100)])
    assert store.shed(limits, gap) is None
    store.commit({}, [row(100, "revision", size=1000)])
    first = store.shed(limits, gap)
    assert first is not None
    assert first.counts == {"match_provisional": 11}
    gaps = [one for one in store.pending(999) if one.kind == "gap"]
    assert len(gaps) == 1
    assert b'"match_provisional":11' in gaps[0].payload
    store.commit({}, [row(i, "revision", size=1000) for i in range(200, 260)])
    second = store.shed(limits, gap)
    assert second is not None
    assert second.counts == {"match_provisional": 9, "match": 20, "revision": 11, "traveltime": 11, "flow": 10}
    assert store.depth_bytes() <= 100_000
    assert store.depth() == len(store.pending(9999))
    assert store.depth_bytes() == sum(len(one.payload) for one in store.pending(9999))


def test_the_oldest_facts_go_last_but_they_go(store):
    limits = StoreSettings(outbox_max_bytes=100_000)
    store.commit({}, [row(i, "revision", size=1000) for i in range(120)])
    shed = store.shed(limits, gap)
    assert shed is not None
    assert shed.counts == {"revision": 30}
    assert store.pending(1)[0].id == 31


def test_two_applications_on_one_store_are_refused(tmp_path):
    store = Store(tmp_path / "s.db")
    with pytest.raises(StoreError, match="another process"):
        Store(tmp_path / "s.db")
    store.close()
    Store(tmp_path / "s.db").close()


def test_a_check_starts_no_boot_and_disturbs_nobody(tmp_path):
    path = tmp_path / "deep" / "s.db"
    assert check_store(path).endswith("s.db: new")
    assert not path.parent.exists()
    store = Store(path, lineage="")
    store.commit({}, [row(1)])
    assert "1 unsent" in check_store(path)  # while it runs
    store.close()
    assert Store(path).boot_id == "2"
    with pytest.raises(StoreError, match="not a folder"):
        check_store(path / "below-a-file" / "s.db")
    (tmp_path / "damaged.db").write_bytes(b"not a database, but long enough to be looked at " * 30)
    with pytest.raises(StoreError, match="not a database"):
        check_store(tmp_path / "damaged.db")


def write_until_killed(path, ready):
    store = Store(path)
    number = int(store.load().get("number", b"0"))

    def drain():
        while True:
            store.mark_sent([one.id for one in store.pending(5)][:3])

    threading.Thread(target=drain, daemon=True).start()
    ready.send(True)
    while True:
        number += 1
        rows = [Row(uuid7(number, f"{number} {i}".encode()), "match", f"t/{number}/{i}", b"x") for i in range(3)]
        store.commit({"number": str(number).encode(), f"only/{number}": b"1", f"only/{number - 1}": None}, rows)


def test_killed_at_any_time_parts_and_outbox_agree(tmp_path):
    path, chance, reached = tmp_path / "s.db", random.Random(7), 0
    processes = multiprocessing.get_context("fork")
    for _ in range(15):
        here, there = processes.Pipe(duplex=False)
        writer = processes.Process(target=write_until_killed, args=(path, there))
        writer.start()
        assert here.poll(20)
        time.sleep(chance.uniform(0, 0.1))
        writer.kill()
        writer.join()
        store = Store(path)
        parts = store.load()
        number = int(parts.get("number", b"0"))
        assert number >= reached
        reached = number
        assert [key for key in parts if key.startswith("only/")] == ([f"only/{number}"] if number else [])
        with closing(sqlite3.connect(path)) as other:
            topics = [topic for (topic,) in other.execute("SELECT topic FROM outbox ORDER BY id")]
        expected = [f"t/{k}/{i}" for k in range(1, number + 1) for i in range(3)]
        assert topics == expected[len(expected) - len(topics) :]
        assert len(topics) >= min(len(expected), LEDGER_ROWS)
        assert store.depth() == len(store.pending(10**9))
        store.close()
    assert reached > 30
