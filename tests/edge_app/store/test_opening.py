"""Which files are opened as a store: ours, of older releases too, and for their owner alone."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from filled_store import row

from edge_app.errors import StoreError, StoreRefusedError
from edge_app.store import tables
from edge_app.store.opening import check_store
from edge_app.store.store import Store


def test_what_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"not a database, but long enough to be looked at " * 30)
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as other:
        other.execute("CREATE TABLE t (x)")
    (tmp_path / "folder.db").mkdir()
    Store(tmp_path / "newer.db").close()
    with closing(sqlite3.connect(tmp_path / "newer.db")) as other:
        other.execute("PRAGMA user_version = 9")
    refused = {"notes.txt": "not a database", "foreign.db": "another application", "folder.db": "a folder",
               "newer.db": "version 9"}  # fmt: skip
    for name, why in refused.items():
        before = (tmp_path / name).read_bytes() if (tmp_path / name).is_file() else b""
        for _ in range(2):
            with pytest.raises(StoreRefusedError, match=why):
                Store(tmp_path / name)
        assert not before or (tmp_path / name).read_bytes() == before
    assert StoreRefusedError.exit_code == 78
    assert not list(tmp_path.glob("*.damaged-*"))
    with pytest.raises(StoreError, match=r"store /proc"):
        Store(Path("/proc/nowhere/s.db"))


def test_a_changed_count_of_boots_begins_a_new_lineage(tmp_path: Path) -> None:
    """Boot ids name tracks and identities: none is ever given out twice."""
    path, seen = tmp_path / "s.db", set()
    for change in (None, "boot = 'x'", "boot = '1'", "lineage = 'zz'", None):
        if change:
            key, _, value = change.partition(" = ")
            with closing(sqlite3.connect(path)) as database, database:
                database.execute(f"UPDATE meta SET value = {value} WHERE key = ?", (key,))
        for _ in range(2):
            store = Store(path)
            assert store.boot_id not in seen
            seen.add(store.boot_id)
            store.close()


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_the_store_is_for_its_owner_alone(tmp_path: Path, umask: int, caplog: pytest.LogCaptureFixture) -> None:
    before = os.umask(umask)
    try:
        path = tmp_path / "state" / "s.db"
        store = Store(path)
        store.commit({"a": b"1"})
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
        assert modes == {"s.db": 0o600, "s.db-wal": 0o600, "s.db-shm": 0o600, "s.db.lock": 0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        store.close()
        assert not caplog.records
        path.chmod(0o644)
        Store(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "others could read it (s.db 644" in caplog.text
    finally:
        os.umask(before)


def test_a_store_of_version_1_is_opened_and_its_messages_are_sent(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as database, database:
        for statement in tables.STATEMENTS:
            if statement != tables.ASIDE:
                database.execute(statement.replace("checksum INTEGER", "").replace("payload BLOB,", "payload BLOB"))
        database.execute(f"PRAGMA application_id = {tables.APPLICATION_ID}")
        database.execute("PRAGMA user_version = 1")
        database.execute("INSERT INTO meta VALUES ('lineage', 'abc'), ('boot', '4')")
        for number in range(3):
            one = row(number)
            values = (number + 1, one.event_id, one.kind, one.topic, 5.0, len(one.payload), one.payload)
            database.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        database.execute("UPDATE outbox SET payload = '{cut' WHERE id = 2")
    store = Store(path)
    assert store.boot_id == "abc.5"
    assert [one.topic for one in store.pending(9)] == ["t/0", "t/2"]
    store.close()


BOTH = """
DROP TABLE aside;
CREATE TABLE unreadable (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL NOT NULL, key TEXT NOT NULL, reason TEXT NOT NULL, value BLOB
);
CREATE TABLE aside (
    id INTEGER PRIMARY KEY, event_id TEXT NOT NULL, kind TEXT NOT NULL, topic TEXT NOT NULL,
    queued_at_s REAL NOT NULL, payload BLOB NOT NULL, reason TEXT NOT NULL
);
INSERT INTO unreadable VALUES (7, 1790000000.0, 'tracks/north', 'bits flipped', x'00ff');
INSERT INTO aside VALUES (3, 'e-3', 'match', 't/3', 5.0, x'7b7d', 'too large'),
    (9, 'e-9', 'gap', 't/9', 6.0, x'7b7d', 'no');
"""


def test_a_store_with_two_tables_of_what_is_put_aside_has_one(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(BOTH)
    for _ in range(2):
        Store(path).close()
        with closing(sqlite3.connect(path)) as database:
            kept = database.execute("SELECT key, reason, value FROM aside ORDER BY id").fetchall()
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            (youngest_s,) = database.execute("SELECT max(at_s) FROM aside").fetchone()
        assert kept == [("t/3", "too large", b"{}"), ("t/9", "no", b"{}"), ("tracks/north", "bits flipped", b"\0\xff")]
        assert names == {"parts", "meta", "outbox", "aside", "sqlite_sequence"}
        assert isinstance(youngest_s, float)
    assert check_store(path).endswith("3 put aside")
