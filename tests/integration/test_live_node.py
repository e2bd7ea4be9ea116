"""A whole node at a live camera: a slow disk costs it no frames, and a pipeline that hangs is told and can be ended."""

import os
import signal
import sys
import textwrap
import threading
import time

import forked
import pytest
import yaml

from edge_app import app
from edge_app.config import parse
from edge_app.demo.play import Play, raw_config
from edge_app.store.store import Store

pytestmark = pytest.mark.slow


class SlowStore(Store):
    """A disk that takes half a second for every commit."""

    commits = 0

    def commit(self, parts, rows=()):
        time.sleep(0.5)
        SlowStore.commits += 1
        super().commit(parts, rows)


def live(folder, seconds, **changes):
    """A simulated site whose cameras do not wait for anybody."""
    raw = raw_config(Play(seconds=seconds), folder / "live.db", None)
    raw["ticks"] = {"mode": "live", "speed": 1.0}
    return raw | changes


def play(raw, folder):
    """(frames processed, frames dropped) of the whole site."""
    with app.Node(parse(raw, folder / "live.yaml")) as node:
        frames = sum(len(step.frames) for step in node.steps(threading.Event()))
        dropped = sum(status.dropped for status in node.cameras.states().values())
    return frames, dropped


def test_a_slow_disk_costs_no_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "Store", SlowStore)
    frames, dropped = play(live(tmp_path, 12.0), tmp_path)
    assert frames + dropped == 4 * 10 * 12
    assert SlowStore.commits > 10
    assert dropped < 0.05 * frames, f"{dropped} of {frames + dropped} frames were dropped"


HANGING = """
    import sys, threading
    from edge_app import app
    from edge_app.simulation.detections import SimulatedDetector
    detect, calls = SimulatedDetector.detect, []

    def detect_and_hang(self, frames):
        calls.append(1)
        if len(calls) > 20:
            threading.Event().wait()  # for ever
        return detect(self, frames)

    SimulatedDetector.detect = detect_and_hang
    from edge_app.__main__ import main
    sys.argv = ["edge-app", "run", "--config", sys.argv[1]]
    main()
"""


def test_a_pipeline_that_hangs_is_told_within_seconds_and_ended_within_ten(tmp_path):
    path, log = tmp_path / "live.yaml", tmp_path / "log"
    path.write_text(yaml.safe_dump(live(tmp_path, 300.0)))
    with log.open("wb") as file:
        command = [sys.executable, "-c", textwrap.dedent(HANGING), str(path)]
        process = forked.Popen(command, stdout=file, stderr=file, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        until_s = time.monotonic() + 60
        while "node: degraded (the pipeline has not moved for more than 10 s" not in log.read_text():
            assert time.monotonic() < until_s, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        assert "camera gate: stalled (the pipeline has not moved" in log.read_text()
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 70
        assert time.monotonic() - began_s < 10.5
    finally:
        process.kill()
        process.wait()
    assert "in detect_and_hang" in log.read_text()  # where it hung is written down
