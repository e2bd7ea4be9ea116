"""What `edge-app run` tells systemd, over a socket as systemd's: READY, pings from the pipeline's steps, STOPPING."""

import os
import signal
import socket
import sys
import time

import forked
import pytest
import yaml

from edge_app.demo.broker import free_port
from edge_app.demo.play import MODELS, Play, raw_config
from edge_app.health.watchdog import Watchdog, status_line
from edge_app.sources.status import CameraStatus

pytest.importorskip("cysystemd", reason="needs cysystemd (extra `edge`, Linux)")
HANGS = """
import time
import edge_app.pipeline as pipeline
step, steps = pipeline.Association.step, []
def hang(self, *arguments):
    steps.append(1)
    if len(steps) > 20:
        time.sleep(600)
    return step(self, *arguments)
pipeline.Association.step = hang
from edge_app.__main__ import main
main()
"""


class Manager:
    """The service manager's end of the socket, and the service."""

    def __init__(self, folder):
        self.folder, self.said = folder, []  # (seconds since the start, line)
        self._path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._path)
        self.service = None

    def start(self, raw, code="from edge_app.__main__ import main; main()", watchdog_s=2.0):
        path = self.folder / "site.yaml"
        path.write_text(yaml.safe_dump(raw))
        env = os.environ | {"NOTIFY_SOCKET": self._path, "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        command = [sys.executable, "-c", code, "run", "--config", str(path)]
        self._error = (self.folder / "error").open("w")
        self.service = forked.Popen(command, env=env, stderr=self._error)
        self._began_s = time.monotonic()

    @property
    def error(self):
        return (self.folder / "error").read_text()

    def listen(self, seconds, until=None):
        """What is said within so many seconds, or until a line begins so."""
        heard, end_s = [], time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            try:
                text = self._socket.recv(4096).decode()
            except TimeoutError:
                break
            heard += [(time.monotonic() - self._began_s, line) for line in text.splitlines()]
            if until is not None and any(line.startswith(until) for _, line in heard):
                break
        self.said += heard
        return [line for _, line in heard]

    def close(self):
        if self.service is not None:
            self.service.kill()
            self.service.wait()
            self._error.close()
        self._socket.close()


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path)
    yield made
    made.close()


def simulated(folder, **changes):
    return raw_config(Play(seconds=600.0, speed=1.0), folder / "state" / "node.db", None) | changes


def test_ready_when_it_runs_then_pings_then_stopping(manager, tmp_path):
    manager.start(simulated(tmp_path))
    begun = manager.listen(60, until="READY=1")
    assert begun[0].startswith("STATUS=opening models"), begun
    assert "READY=1" in begun, manager.error
    assert "WATCHDOG=1" not in begun
    running = manager.listen(4)
    assert running.count("WATCHDOG=1") >= 4, running  # every half second, where two would do
    status = [line for line in running if line.startswith("STATUS=")]
    assert status[-1].startswith("STATUS=4 of 4 cameras deliver; step "), status
    steps = [int(line.rsplit(" ", 1)[1]) for line in status]
    assert steps == sorted(set(steps))
    manager.service.send_signal(signal.SIGTERM)
    assert "STOPPING=1" in manager.listen(30, until="STOPPING=1")
    assert manager.service.wait(30) == 0
    assert "WATCHDOG=1" not in manager.listen(0.5)


def test_a_pipeline_that_hangs_pings_no_more_and_shows_where(manager, tmp_path):
    manager.start(simulated(tmp_path), HANGS)
    assert "READY=1" in manager.listen(60, until="READY=1"), manager.error
    manager.listen(4)  # 20 steps of a tenth of a second
    assert manager.listen(4) == []
    assert manager.service.poll() is None
    manager.service.send_signal(signal.SIGABRT)  # as systemd does after WatchdogSec
    manager.service.wait(30)
    assert "in hang" in manager.error, "the journal does not show where it hung"


def test_cameras_that_are_all_away_do_not_silence_it(manager, tmp_path):
    away = f"rtsp://127.0.0.1:{free_port()}/none"
    raw = simulated(tmp_path, ticks={"mode": "live"}, links=[], cameras=[{"id": "gate", "source": away}])
    raw["detector"] = {"path": str(MODELS / "demo_detector.onnx"), "classes": ["car"]}
    raw["embedder"] = {"path": str(MODELS / "demo_embedder.onnx")}
    manager.start(raw)
    assert "READY=1" in manager.listen(60, until="READY=1"), manager.error
    running = manager.listen(4)
    assert running.count("WATCHDOG=1") >= 3, running
    assert any(line.startswith("STATUS=0 of 1 cameras deliver; gate: offline") for line in running), running


def test_a_node_without_a_service_manager_says_nothing():
    Watchdog({}).step(lambda: pytest.fail("nobody asked"))


def test_the_status_is_one_line_with_what_is_wrong():
    def camera(state):
        return CameraStatus("x", state, 1, 0, 0, 0, 10.0, None, None)

    cameras = {"a": camera("ok"), "b": camera("stalled"), "c": camera("ended"), "d": camera("offline")}
    line = status_line(cameras, "broker away:\n" + 400 * "x")
    assert line.startswith("2 of 4 cameras deliver; b: stalled; d: offline; broker away: xxx")
    assert len(line) == 300
