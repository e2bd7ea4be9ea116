"""Whatever becomes of the file, the next start opens a store, with every unsent message that can still be read."""

import os
import random
import resource
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from filled_store import MESSAGES, PARTS, SENT, copy, folded, opened, unsent

from edge_app.errors import StoreDamagedError
from edge_app.store import salvage
from edge_app.store.store import Store


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
