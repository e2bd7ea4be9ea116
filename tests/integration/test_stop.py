"""SIGTERM ends `edge-app run` within ten seconds, whatever it is doing and however busy the machine is."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing, contextmanager, suppress

import forked
import pytest
import yaml

from edge_app.demo.broker import free_port
from edge_app.demo.play import Play, raw_config
from edge_app.pipeline import PROGRESS

LIMIT_S = 10.0  # the unit's TimeoutStopSec is twice as long

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DISK_THAT_HANGS = """
    import sys, threading
    from edge_app.store.store import Store
    commit, commits = Store.commit, []

    def commit_and_hang(self, *arguments):
        commits.append(1)
        commit(self, *arguments)
        if len(commits) > 2:
            with self._commit_lock:
                print("the disk hangs", file=sys.stderr, flush=True)
                threading.Event().wait()

    Store.commit = commit_and_hang
    from edge_app.__main__ import main
    main()
"""
COMMAND = "from edge_app.__main__ import main; main()"


@pytest.fixture
def silence():
    """Address of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"host": "127.0.0.1", "port": server.getsockname()[1]}


@pytest.fixture
def start(tmp_path):
    """`start(raw, code)` runs the command on a configuration; everything is ended with the test."""
    made = []

    def run(raw, code=COMMAND):
        path = tmp_path / "site.yaml"
        path.write_text(yaml.safe_dump(raw))
        command = [sys.executable, "-c", textwrap.dedent(code), "run", "--config", str(path)]
        with (tmp_path / "log").open("wb") as log:
            made.append(forked.Popen(command, stdout=log, stderr=log))
        return made[-1]

    yield run
    for process in made:
        process.kill()
        process.wait()


@contextmanager
def busy():
    """Two more processes per core than there are."""
    command = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(command) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def until(condition, timeout_s=120.0):
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s, "it never came so far"
        time.sleep(0.1)


def steps_are_made(store):
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=1)) as database,
    ):
        return database.execute("SELECT 1 FROM parts WHERE key = ?", (PROGRESS,)).fetchone() is not None
    return False


def stop(process):
    """(seconds, exit code) from SIGTERM to the end."""
    began_s = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(60)
    return time.monotonic() - began_s, code


@pytest.mark.long
def test_a_drawn_town_on_a_busy_machine_with_a_broker_that_never_answers(tmp_path, start, silence):
    process = start(raw_config(Play(seconds=600, fidelity="frames"), tmp_path / "s.db", silence))
    until(lambda: steps_are_made(tmp_path / "s.db"))
    with busy():
        time.sleep(3.0)
        seconds, code = stop(process)
    assert (seconds < LIMIT_S, code) == (True, 0), f"{seconds:.1f} s, {(tmp_path / 'log').read_text()}"


@pytest.mark.parametrize("after_s", [0.0, 1.0, 3.0])
def test_while_it_starts(tmp_path, start, silence, after_s):
    """Before its handlers stand, SIGTERM has its usual meaning; then it breaks off whatever is being opened."""
    process = start(raw_config(Play(seconds=600, fidelity="frames"), tmp_path / "s.db", silence))
    time.sleep(after_s)
    seconds, code = stop(process)
    assert seconds < LIMIT_S
    assert code in (0, -signal.SIGTERM)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_while_the_disk_hangs(tmp_path, start, silence):
    process = start(raw_config(Play(seconds=600), tmp_path / "s.db", silence), DISK_THAT_HANGS)
    until(lambda: "the disk hangs" in (tmp_path / "log").read_text())
    time.sleep(1.0)
    seconds, code = stop(process)
    assert (seconds < LIMIT_S, code) == (True, 0), f"{seconds:.1f} s, {(tmp_path / 'log').read_text()}"
    assert "stopping without the last steps on the disk" in (tmp_path / "log").read_text()


@pytest.mark.long
def test_while_it_waits_for_a_broker_to_take_the_rest(tmp_path, start):
    raw = raw_config(Play(seconds=60, speed=None), tmp_path / "s.db", {"host": "127.0.0.1", "port": free_port()})
    process = start(raw)
    until(lambda: (tmp_path / "log").read_text().count("the recording has ended") == 4)
    seconds, code = stop(process)
    assert (seconds < LIMIT_S, code) == (True, 0), f"{seconds:.1f} s, {(tmp_path / 'log').read_text()}"
