"""Whatever becomes of the file, the next start opens a store, with every unsent message that can still be read."""

import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from edge_app.contract.envelope import uuid7
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.errors import StoreDamagedError, StoreError, StoreRefusedError
from edge_app.store import salvage, tables
from edge_app.store.opening import check_store
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


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "s.db"
    fill(path)
    return path


@pytest.fixture
def path(filled: Path, tmp_path: Path) -> Path:
    """A copy without the lock file: nothing but the database says whose it is."""
    copy(filled, tmp_path / "s.db")
    return tmp_path / "s.db"


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


def test_a_whole_store_loses_nothing(path: Path) -> None:
    assert opened(path) == (unsent(), PARTS, [])
    assert not list(path.parent.glob("*.damaged-*"))


@pytest.mark.parametrize("filling", [b"\xff", b"\0", None], ids=["ones", "zeros", "noise"])
def test_any_page_may_be_damaged(path: Path, filling: bytes | None) -> None:
    """Every page in turn: one page never costs more than the rows that lay on it."""
    content = folded(path).read_bytes()
    chance = random.Random(5)
    salvaged, free = 0, 0
    for number in range(1, len(content) // 4096):
        for stale in path.parent.glob("s.db*"):
            stale.unlink()
        page = chance.randbytes(4096) if filling is None else filling * 4096
        path.write_bytes(content[: number * 4096] + page + content[(number + 1) * 4096 :])
        topics, parts, losses = opened(path)
        assert topics <= unsent()
        assert len(topics) >= MESSAGES - SENT - 8, number
        assert parts >= PARTS - 8, number
        if losses and "messages were damaged" in losses[0].reason:  # the page was in the middle of one message
            assert len(topics) == MESSAGES - SENT - 1
        elif losses:
            (aside,) = path.parent.glob("*.damaged-*")
            assert aside.read_bytes()[number * 4096 :][:4096] == page
            assert losses[0].reason.startswith("the store was damaged: ")
            salvaged += 1
        else:
            assert (topics, parts) == (unsent(), PARTS)
            free += 1
    assert salvaged > 10 * free


def test_the_first_page_may_be_damaged_behind_its_header(path: Path) -> None:
    content = bytearray(folded(path).read_bytes())
    content[100:4096] = os.urandom(3996)
    path.write_bytes(content)
    topics, parts, losses = opened(path)
    assert (topics, parts, len(losses)) == (unsent(), PARTS, 1)


def test_any_byte_of_the_header_may_be_changed(path: Path, tmp_path: Path) -> None:
    """A store that was opened here before is known by its lock file, whatever its header says."""
    content = folded(path).read_bytes()
    for place in range(100):
        for change in (0xFF, 0x01):
            for stale in path.parent.glob("s.db*"):
                stale.unlink()
            Store(path).close()
            path.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
            if (place, change) == (63, 0x01):  # version 3: there will be such a release, and it is not to be touched
                continue
            topics, parts, _ = opened(path)
            assert (topics, parts) == (unsent(), PARTS), place


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.01, 0.3, 0.6, 0.97])
def test_a_file_cut_short(path: Path, share: float) -> None:
    size = folded(path).stat().st_size
    os.truncate(path, int(size * share))
    if share == 0:
        Store(path.with_name("other.db")).close()
        shutil.copy(path.with_name("other.db.lock"), path.with_name("s.db.lock"))
    topics, _, losses = opened(path)
    assert topics <= unsent()
    assert len(losses) == 1
    assert len(topics) > (50 if share > 0.9 else -1)


def test_a_log_cut_or_filled_with_noise_costs_its_tail(path: Path, filled: Path) -> None:
    for size in (0, 10, 32, 5000, 30_000, 100_000):
        copy(filled, path)
        os.truncate(path.with_name("s.db-wal"), min(size, path.with_name("s.db-wal").stat().st_size))
        topics, parts, _ = opened(path)
        assert topics >= unsent(SENT, MESSAGES // 2)
        assert parts == PARTS
    copy(filled, path)
    path.with_name("s.db-wal").write_bytes(os.urandom(70_000))
    assert opened(path)[0] == unsent(0, MESSAGES // 2)
    copy(filled, path)
    path.with_name("s.db-shm").write_bytes(os.urandom(32_768))
    assert opened(path)[0] == unsent()


def test_an_empty_file_beside_a_log_is_a_loss_and_the_log_is_read(path: Path) -> None:
    os.truncate(path, 0)
    topics, _, losses = opened(path)
    assert topics >= unsent(MESSAGES // 2)
    assert len(losses) == 1


def test_a_file_of_zeros_is_nobodys(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))
    path.with_name("s.db-wal").unlink()
    assert opened(path)[0] == set()


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


def test_stopped_in_the_middle_of_a_salvage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each of its renames in turn; the next start finishes it and nothing is lost twice."""
    content = bytearray(folded(path).read_bytes())
    content[2 * 4096 : 3 * 4096] = b"\xff" * 4096
    path.with_name("s.db-wal").write_bytes(b"")
    rename, expected = Path.rename, None
    for stop in range(6):
        for stale in path.parent.glob("s.db*"):
            stale.unlink()
        path.write_bytes(content)
        left = [stop]

        def rename_or_stop(one: Path, to: Path, left: list[int] = left) -> Path:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return rename(one, to)

        monkeypatch.setattr(Path, "rename", rename_or_stop)
        with suppress(KeyboardInterrupt):
            Store(path).close()
        monkeypatch.setattr(Path, "rename", rename)
        found = opened(path)[0]
        assert expected in (None, found)
        expected = found
        assert not path.with_name("s.db.salvaged").exists()


FULL = """
import resource, sys
from pathlib import Path
from edge_app.errors import StoreError
from edge_app.store.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    Store(Path(sys.argv[1]))
except StoreError as error:
    raise SystemExit(error.exit_code)
"""


def test_a_full_disk_is_the_disks_fault_and_costs_nothing(path: Path) -> None:
    content = bytearray(folded(path).read_bytes())
    content[5 * 4096 : 6 * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 74, done.stderr
    assert path.read_bytes() == content
    assert len(opened(path)[0]) > 80
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_only_the_newest_damaged_files_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(100))
    strftime = salvage.time.strftime
    monkeypatch.setattr(salvage.time, "strftime", lambda form, _: strftime(form, salvage.time.gmtime(next(times))))
    for _ in range(salvage.KEPT + 3):
        content = bytearray(folded(path).read_bytes())
        content[4096 : 2 * 4096] = os.urandom(4096)
        path.write_bytes(content)
        Store(path).close()
    assert len(list(path.parent.glob("s.db.damaged-*"))) == salvage.KEPT


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


def test_damage_that_shows_while_it_runs_is_told_from_a_full_disk(path: Path) -> None:
    store = Store(path)
    store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    store._writer.execute("PRAGMA shrink_memory")  # what it has read before, it does not read again
    with pytest.raises(StoreDamagedError, match="next start"):
        store.load()
    store._only_process.close()


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
