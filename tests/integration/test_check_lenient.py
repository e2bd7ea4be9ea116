"""`edge-app check --lenient`, as the installer asks: what is only away is told, what must be mended stays a problem."""

import pytest
from edge_commands import simulated

from edge_app.demo.broker import free_port
from edge_app.demo.play import MODELS

AWAY = {"host": "127.0.0.1", "port": 9}
DETECTS = {
    "detector": {"path": str(MODELS / "demo_detector.onnx"), "classes": ["car"]},
    "embedder": {"path": str(MODELS / "demo_embedder.onnx")},
    "ticks": {"mode": "live"},
    "links": [],
}


def cameras(**sources):
    return {**DETECTS, "cameras": [{"id": name, "source": source} for name, source in sources.items()]}


@pytest.fixture(scope="module")
def checked(group):
    live = cameras(gate=f"rtsp://127.0.0.1:{free_port()}/none")
    recorded = cameras(gate=str(group.folder / "none.mp4"))
    unset = simulated(group, "unset", mqtt={**AWAY, "username": "edge", "password_env": "NOT_SET_ANYWHERE"})
    group.start("strict", "check", "--config", simulated(group, "strict", mqtt=AWAY))
    group.start("broker", "check", "--lenient", "--config", simulated(group, "broker", mqtt=AWAY))
    group.start("camera", "check", "--lenient", "--config", simulated(group, "camera", **live))
    group.start("recording", "check", "--lenient", "--config", simulated(group, "recording", **recorded))
    group.start("variable", "check", "--lenient", "--config", unset)
    return group


def test_what_is_away_is_told(checked):
    assert checked["broker"].code == 0, checked["broker"].error
    assert "broker: AWAY, " in checked["broker"].out
    assert checked["camera"].code == 0, checked["camera"].error
    assert "camera gate: AWAY, " in checked["camera"].out


def test_what_does_not_come_back_by_itself_is_a_problem(checked):
    checked["recording"].assert_refused(66, "1 problem", "camera gate: ")
    checked["variable"].assert_refused(78, "NOT_SET_ANYWHERE is not set")
    checked["strict"].assert_refused(69, "1 problem", "broker: ")


def test_a_broker_that_refuses_is_a_problem(group, make_mosquitto, tmp_path):
    broker = make_mosquitto("allow_anonymous false\n")
    mqtt = {"host": broker.host, "port": broker.port, "username": "edge", "password_env": "EDGE_PASSWORD"}
    group.start("refused", "check", "--lenient", "--config", simulated(group, "refused", mqtt=mqtt), EDGE_PASSWORD="x")
    group["refused"].assert_refused(77, "1 problem", "refused client")
