"""kill -9 at random moments, while the broker is killed too: the facts are those of a run that nobody disturbed.

The long form, with 200 kills, is `tests/benchmarks/endurance.py`.
"""

import random

import pytest
from heard import assert_same, confirmed, receive_all
from kills import Node, endure, persistent, run_to_the_end
from live_holes import live_holes

from edge_app.demo.broker import EmbeddedBroker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KILLS_EACH, SECONDS = 5, 50.0


def test_killed_with_a_broker_that_is_killed(tmp_path, make_mosquitto, subscribe):
    broker = make_mosquitto(persistent(tmp_path))
    found = endure(tmp_path, broker, subscribe(broker.port, session="the-witness"), KILLS_EACH, SECONDS)
    print(found)
    ends = found["ends"]
    assert ends["starting"] + ends["running"] + ends["stopping"] >= 2 * KILLS_EACH - 4
    assert min(ends["running"], ends["stopping"] + ends["stopped"], ends["starting"]) >= 1
    assert ends.get("broker kill", 0) + ends.get("broker stop", 0) >= 2
    assert found["facts"] > 20, "too little happened to prove anything"
    assert found["aggregates"] > 10


@pytest.mark.long
def test_killed_with_the_embedded_broker(tmp_path, subscribe):
    with EmbeddedBroker() as broker:
        mqtt = {"host": broker.host, "port": broker.port, "protocol": "3.1.1", "reconnect_max_s": 0.5}
        subscriber = subscribe(broker.port, "3.1.1")
        unbroken, killed = (Node(tmp_path, name, 8, mqtt, seconds=40.0) for name in ("unbroken", "killed"))
        ends = killed.be_killed(4, random.Random(5))
        assert ends["over"] + ends["stopped"] <= 1
        run_to_the_end([unbroken, killed])
        mail, expected = receive_all(subscriber, killed), receive_all(subscriber, unbroken)
        assert confirmed(expected)
        assert_same(mail, expected)


@pytest.mark.long
def test_a_live_node_that_is_killed_tells_every_hole(tmp_path, make_mosquitto, subscribe):
    broker = make_mosquitto(persistent(tmp_path))
    found = live_holes(tmp_path, broker, subscribe(broker.port, session="the-witness"), kills=3)
    print(found)
    assert found["intervals_not_said"] == 0
    assert found["said_as_holes"] >= 1
    assert found["said_whole"] >= 1
