"""The real heartbeat on fakes behind its protocols: what is told of cameras and node, and when."""

import logging
import time
from dataclasses import replace

import pytest

from edge_app.delivery.outgoing import Letterhead
from edge_app.health.health import Health, HealthSettings
from edge_app.health.heartbeat import LONGEST_REASON, Heartbeat
from edge_app.health.pace import Pace
from edge_app.sources.status import CameraStatus
from edge_app.store.store import Store

FINE = CameraStatus("north", "ok", 10, 0, 0, 0, 10.0, 1.0, None)


class Broker:
    """Remembers what it was told."""

    def __init__(self):
        self.letterhead = Letterhead("demo", "edge-1", "1")
        self.held, self.states, self.sent, self.counters = [], [], [], {}

    def hold(self, message):
        self.held.append((message.camera, message.state, message.reason))

    def set_state(self, state, reason=None):
        self.states.append((state, reason))

    def send(self, message):
        self.sent.append(message)


class Clock:
    now_s = 500.0

    def __call__(self):
        return self.now_s


class World:
    def __init__(self, folder, publisher=True, interval_s=3600.0):
        self.clock, self.broker = Clock(), Broker()
        self.health = Health(["north"], folder, Pace(monotonic=self.clock), self.clock)
        self.status, self.problem = FINE, None
        self.store = Store(folder / "s.db")
        self.heartbeat = Heartbeat(
            HealthSettings(interval_s=interval_s),
            self.health,
            self.broker if publisher else None,
            self.store,
            cameras=lambda: {"north": self.status},
            problem=lambda: self.problem,
        )

    def look(self, times=1):
        for _ in range(times):
            self.heartbeat._look()  # what its thread does every half second
            self.clock.now_s += 0.5


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()


def test_a_reason_that_only_counts_on_is_no_news(world):
    for second in range(1200):
        world.status = replace(FINE, state="offline", last_error=f"camera north: no answer for {second}.4 s")
        world.look()
    assert world.broker.held == [("north", "offline", "camera north: no answer for 0.4 s")]
    assert world.broker.states == [("degraded", "camera north: offline")]


def test_a_pipeline_that_hangs_degrades_the_node_and_no_camera_is_ok(world):
    world.look()
    world.health.processed(["north"])
    world.look(40)
    stuck = "the pipeline has not moved for more than 10 s"
    assert world.broker.held == [("north", "ok", None), ("north", "stalled", stuck)]
    assert world.broker.states == [("degraded", f"{stuck}; camera north: stalled")]
    world.health.heartbeat(world.broker.letterhead, world.store, 1.0)
    world.status = replace(FINE, frames=5000)  # decoding goes on
    message = world.health.heartbeat(world.broker.letterhead, world.store, 1.0)
    assert (message.cameras[0].fps, message.cameras[0].frames, message.cameras[0].state) == (0, 1, "stalled")
    world.health.processed(["north"])
    world.look(2)
    assert world.broker.states[-1] == ("online", None)
    assert world.broker.held[-1] == ("north", "ok", None)


def test_what_is_decoded_is_not_what_is_processed(world):
    """A camera that delivers 25 frames a second to a pipeline that takes one."""
    world.look()
    for second in range(30):
        world.status = replace(FINE, frames=25 * second, dropped=24 * second)
        world.health.processed(["north"])
        world.look(2)
    assert [state for state, _ in world.broker.states] == ["degraded"]
    assert "50% of the frames are dropped" in world.broker.states[0][1]
    message = world.health.heartbeat(world.broker.letterhead, world.store, 1.0)
    assert (message.cameras[0].frames, message.cameras[0].frames_dropped) == (30, 24 * 29)


def test_flaps_are_held_back_and_counted(world):
    for number in range(100):
        world.status = FINE if number % 2 else replace(FINE, state="stalled", last_error="frozen")
        world.look()
    assert len(world.broker.held) < 10
    assert world.health.counters["camera_state_changes"] == 99


def test_the_longest_reason_of_a_camera_that_comes_and_goes_fits_its_message(world):
    for number in range(8):
        world.status = FINE if number % 2 else replace(FINE, state="offline", last_error="x" * 400)
        world.look()
    assert world.broker.held[-1][2].startswith("comes and goes: xxx")
    assert len(world.broker.held[-1][2]) == LONGEST_REASON


def test_the_last_word_on_a_recording_is_that_it_has_ended(world):
    world.look()
    world.heartbeat.start()
    world.status = replace(FINE, state="stalled", last_error="frozen")
    until_s = time.monotonic() + 5
    while world.broker.held[-1][1] != "stalled" and time.monotonic() < until_s:
        time.sleep(0.01)
    world.status = replace(FINE, state="ended")
    world.heartbeat.close()
    assert [state for _, state, _ in world.broker.held] == ["ok", "stalled", "offline"]
    assert world.broker.held[-1][2] == "the recording has ended"


def test_several_ills_are_one_state(world):
    world.problem = "the disk is full"
    world.status = replace(FINE, state="stalled", last_error="frozen")
    world.look(5)
    assert world.broker.states == [("degraded", "the disk is full; camera north: stalled")]
    world.problem, world.status = None, replace(FINE, state="ended")
    world.look(5)
    assert world.broker.states[1:] == [("online", None)]
    assert world.broker.held[-1] == ("north", "offline", "the recording has ended")


def test_heartbeats_do_not_come_in_a_burst_after_a_pause(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("edge_app.health.heartbeat.time.monotonic", lambda: now[0])
    world = World(tmp_path, interval_s=30.0)
    for second in (0, 1, 29, 31, 3600, 3600.5, 3601, 3629.5, 3631):
        now[0] = 1000.0 + second
        world.look()
    assert len(world.broker.sent) == 4  # at 0, 31, 3600 and 3631
    world.store.close()


def test_without_a_broker_the_log_says_it(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    world = World(tmp_path, publisher=False)
    world.status = replace(FINE, state="offline", last_error="refused")
    world.heartbeat.start()
    until_s = time.monotonic() + 5
    while "node: degraded" not in caplog.text and time.monotonic() < until_s:
        time.sleep(0.01)
    world.heartbeat.close()
    assert "camera north: offline (refused)" in caplog.text
    assert "node: degraded (camera north: offline)" in caplog.text
    world.store.close()
