"""The real saver on fake disks: a slow one holds nobody up, a failing one loses nothing but what it says."""

import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from edge_app.clock import Clock
from edge_app.contract.envelope import uuid7
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.errors import StoreError
from edge_app.store import saver as saver_module
from edge_app.store.rows import Row
from edge_app.store.saver import ROWS_AHEAD, Saver
from edge_app.store.store import Store, StoreSettings

LETTERHEAD = Letterhead("demo", "edge-1", "1")


def row(number, kind="match"):
    return Row(uuid7(number, str(number).encode()), kind, f"t/{number}", b"x" * 100)


def gap(shed):
    return gap_row(LETTERHEAD, shed, 5.0)


class Disk:
    """Takes what it is given after `pause_s`, or not at all while `broken`; keeps every transaction."""

    def __init__(self, pause_s=0.0, broken=None):
        self.pause_s, self.broken = pause_s, broken
        self.commits, self.sheds = [], 0
        self.hold = threading.Event()
        self.hold.set()

    def commit(self, parts, rows=()):
        time.sleep(self.pause_s)
        self.hold.wait()
        if self.broken:
            raise self.broken
        self.commits.append((dict(parts), list(rows)))

    def shed(self, limits, gap):
        self.sheds += 1

    @property
    def parts(self):
        """What a start would find."""
        found = {}
        for parts, _ in self.commits:
            found.update(parts)
        return {key: value for key, value in found.items() if value is not None}

    @property
    def topics(self):
        return [one.topic for _, rows in self.commits for one in rows]


@pytest.fixture
def make():
    made = []

    def saver_on(disk, **options):
        made.append(Saver(disk, StoreSettings(), gap, **options))
        made[-1].start()
        return made[-1]

    yield saver_on
    for one in made:
        one.close(0.1)


def until(condition, timeout_s=5.0):
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def test_a_slow_disk_holds_nobody_up_and_every_transaction_is_whole(make):
    disk = Disk(pause_s=0.05)
    saver = make(disk)
    began_s = time.perf_counter()
    for step in range(500):
        saver.save({"now": str(step).encode(), f"only/{step}": b"1", f"only/{step - 1}": None}, [row(step)])
    assert time.perf_counter() - began_s < 0.05 * 10, "500 commits of 50 ms each were waited for"
    assert saver.close(5.0)
    assert disk.topics == [f"t/{step}" for step in range(500)]
    assert len(disk.commits) < 100  # what waits is written together
    said = 0
    for (
        parts,
        rows,
    ) in disk.commits:  # at every commit the state is that of the last row, not of an earlier or later one
        said += len(rows)
        assert parts["now"] == str(said - 1).encode()
        assert [key for key, value in parts.items() if value] == [f"only/{said - 1}", "now"][::-1]


def test_a_failing_disk_is_a_problem_until_it_takes_everything_in_order(make, monkeypatch):
    monkeypatch.setattr(saver_module, "RETRY_S", 0.05)
    disk = Disk(broken=StoreError("disk full"))
    saver = make(disk)
    for step in range(10):
        saver.save({"now": str(step).encode(), "gone": None if step else b"1"}, [row(step)])
    until(lambda: saver.problem == "disk full")
    assert not saver.flush(0.2)
    disk.broken = None
    until(lambda: saver.problem is None)
    assert saver.flush(2.0)
    assert disk.parts == {"now": b"9"}
    assert disk.topics == [f"t/{step}" for step in range(10)]


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0, 1e9])
def test_the_wall_clock_does_not_say_when_to_try_again(make, monkeypatch, step_s):
    """A disk that failed once is tried after a moment, wherever the clock went meanwhile."""
    monkeypatch.setattr(saver_module, "RETRY_S", 0.05)
    wall = [1_790_000_000.0]
    disk = Disk(broken=StoreError("disk full"))
    saver = make(disk, clock=Clock(wall=lambda: wall[0]))
    saver.save({"a": b"1"}, [])
    until(lambda: saver.problem is not None)
    wall[0] += step_s
    disk.broken = None
    until(lambda: disk.parts == {"a": b"1"}, timeout_s=2.0)


def test_a_disk_that_hangs_is_named_and_does_not_hold_the_end_up(make, monkeypatch):
    monkeypatch.setattr(saver_module, "SLOW_S", 0.1)
    disk = Disk()
    disk.hold.clear()
    saver = make(disk)
    saver.save({"a": b"1"}, [row(1)])
    until(lambda: saver.problem is not None)
    assert "slow" in saver.problem
    began_s = time.monotonic()
    assert not saver.close(0.3)
    assert time.monotonic() - began_s < 1.0
    disk.hold.set()


def test_what_waits_in_memory_is_bounded_and_its_loss_is_counted_and_published(make, monkeypatch):
    monkeypatch.setattr(saver_module, "MEMORY_BYTES", 1000)
    monkeypatch.setattr(saver_module, "RETRY_S", 0.05)
    disk = Disk(broken=StoreError("disk full"))
    saver = make(disk, clock=Clock(wall=lambda: 100.0))
    for step in range(30):
        saver.save({"now": str(step).encode()}, [row(step, "match_provisional" if step % 2 else "match")])
    until(lambda: saver.problem is not None)
    disk.broken = None
    assert saver.flush(2.0)
    (_, rows) = disk.commits[0]
    assert [one.kind for one in rows] == ["match"] * 10 + ["gap"]
    assert [one.topic for one in rows[:-1]] == [f"t/{step}" for step in range(10, 30, 2)]
    assert b'"match_provisional":15' in rows[-1].payload
    assert b'"match":5' in rows[-1].payload
    saver.save({}, [row(99)])
    assert saver.flush(2.0)
    assert [one.kind for one in disk.commits[-1][1]] == ["match"]  # said once


def test_recordings_wait_for_the_disk_instead_of_losing_rows(make):
    disk, stop = Disk(pause_s=0.02), threading.Event()
    saver = make(disk)
    waiting = []
    for step in range(5 * ROWS_AHEAD):
        saver.save({"now": str(step).encode()}, [row(step)] * 3)
        saver.wait_for_room(stop)
        waiting.append(3 * (step + 1) - len(disk.topics))
    assert saver.close(10.0)
    assert max(waiting) < ROWS_AHEAD
    assert len(disk.topics) == 15 * ROWS_AHEAD


def test_who_waits_for_the_disk_can_be_stopped(make):
    disk, stop = Disk(broken=StoreError("disk full")), threading.Event()
    saver = make(disk)
    saver.save({}, [row(1)] * ROWS_AHEAD)
    threading.Timer(0.2, stop.set).start()
    began_s = time.monotonic()
    saver.wait_for_room(stop)
    assert 0.1 < time.monotonic() - began_s < 2.0


def test_a_bug_on_the_saver_s_thread_ends_the_pipeline_not_silently_the_saving(make):
    saver = make(Disk(broken=ZeroDivisionError("a bug")))
    saver.save({"a": b"1"}, [])
    with pytest.raises(ZeroDivisionError):
        saver.flush(2.0)
    with pytest.raises(ZeroDivisionError):
        saver.save({"a": b"2"}, [])
    assert not saver.close(0.1)


DISK_FULL = """
    import resource, sys
    from pathlib import Path
    from edge_app.errors import StoreError
    from edge_app.delivery.outgoing import Letterhead, gap_row
    from edge_app.store import saver as saver_module
    from edge_app.store.saver import Saver
    from edge_app.store.store import Store, StoreSettings
    saver_module.RETRY_S = 0.05
    store = Store(Path(sys.argv[1]))
    saver = Saver(store, StoreSettings(), lambda shed: gap_row(Letterhead("s", "n", "1"), shed, 1.0))
    saver.start()
    saver.save({"a": b"1"}, [])
    assert saver.flush(5)
    size = Path(sys.argv[1] + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50_000, resource.RLIM_INFINITY))
    try:
        store.commit({"big": b"x" * 200_000})
    except StoreError as error:
        assert "disk full" in str(error), error
    else:
        raise SystemExit("a full disk was not noticed")
    saver.save({"big": b"x" * 200_000}, [])
    saver.save({"b": b"2"}, [])
    assert not saver.flush(0.5)
    assert "disk full" in saver.problem
    assert store.load() == {"a": b"1"}
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert saver.close(5)
    assert saver.problem is None
    assert set(store.load()) == {"a", "b", "big"}
    store.close()
"""


def test_a_full_disk_stops_the_commit_not_the_pipeline(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(DISK_FULL), str(tmp_path / "s.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_database_that_another_process_holds_is_waited_for(tmp_path, make, monkeypatch):
    monkeypatch.setattr(saver_module, "RETRY_S", 0.05)
    store = Store(tmp_path / "s.db")
    store._writer.execute("PRAGMA busy_timeout = 10")
    saver = make(store)
    with sqlite3.connect(tmp_path / "s.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        saver.save({"a": b"1"}, [row(1)])
        until(lambda: "locked" in (saver.problem or ""))
        other.execute("ROLLBACK")
    assert saver.close(5.0)
    assert store.load() == {"a": b"1"}
    assert [one.kind for one in store.pending(9)] == ["match"]
    store.close()
