"""Outbox to subscriber through real brokers: nothing lost, nothing doubled after dedupe, whatever the broker does."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter

import pytest
from broker_node import SAMPLES, ids

from edge_app.bus import MqttSettings, check_broker
from edge_app.contract.messages import Birth, CameraState, Health, Match, NodeState
from edge_app.contract.topics import RULES
from edge_app.demo.broker import EmbeddedBroker


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
def test_every_fact_arrives_once_and_in_order(mosquitto, node, subscribe, protocol):
    subscriber, edge = subscribe(mosquitto.port), node(mosquitto.port, protocol)
    edge.publisher.start()
    assert edge.publisher.await_answer(10)
    edge.say(300)
    assert edge.publisher.flush(20)
    subscriber.wait(lambda seen: len(seen.of(Match)) >= 300)
    assert ids(subscriber) == edge.said
    assert not any(message.historical for message in subscriber.of(Match))
    assert all(message.published_at_s > 1_790_000_000 for message in subscriber.of(Match))
    spoken = "p2" if protocol == "3.1.1" else "p5"  # as Mosquitto writes it
    assert f"as crosslane-demo-edge-1 ({spoken}," in mosquitto.log()


def test_every_fact_arrives_through_the_embedded_broker(node, subscribe):
    with EmbeddedBroker() as broker:
        subscriber, edge = subscribe(broker.port, "3.1.1"), node(broker.port, "3.1.1")
        edge.publisher.start()
        edge.say(100)
        assert edge.publisher.flush(20)
        subscriber.wait(lambda seen: len(seen.of(Match)) >= 100)
        assert ids(subscriber) == edge.said
        subscriber.close()
        edge.publisher.close()


def test_auto_falls_back_to_3_1_1_where_5_is_not_spoken(node, subscribe):
    with EmbeddedBroker() as broker:
        subscriber, edge = subscribe(broker.port, "3.1.1"), node(broker.port, "auto", connect_timeout_s=1.0)
        edge.publisher.start()
        edge.say(3)
        assert edge.publisher.flush(20)
        subscriber.wait(lambda seen: len(seen.of(Match)) >= 3)
        subscriber.close()
        edge.publisher.close()


def test_all_kinds_arrive_where_and_how_the_contract_says(mosquitto, node, subscribe):
    subscriber, edge = subscribe(mosquitto.port), node(mosquitto.port)
    edge.publisher.start()
    assert edge.publisher.await_answer(10)
    for kind in RULES:
        message = SAMPLES[kind]
        if RULES[kind].retain:
            edge.publisher.hold(message)
        elif RULES[kind].qos == 0:
            edge.publisher.send(message)
        else:
            edge.store.commit({}, [edge.letterhead.row(message)])
    assert edge.publisher.flush(20)
    subscriber.wait(
        lambda seen: {message.message for message in seen.messages} >= {r.model.message for r in RULES.values()}
    )
    for message, expiry_s in zip(subscriber.messages, subscriber.expiries, strict=True):
        allowed = RULES["match_provisional" if getattr(message, "state", "") == "provisional" else message.message]
        assert (expiry_s is None) == (allowed.expiry_s is None)
        assert expiry_s is None or allowed.expiry_s - 2 <= expiry_s <= allowed.expiry_s
    assert all(len(payload) <= 16 * 1024 for _, payload, _ in subscriber.seen)


def test_a_late_subscriber_finds_birth_state_and_cameras(mosquitto, node, subscribe):
    edge = node(mosquitto.port)
    edge.publisher.hold(SAMPLES["birth"])
    edge.publisher.hold(SAMPLES["camera_state"])
    edge.publisher.start()
    edge.publisher.await_answer(10)
    edge.say(5)
    assert edge.publisher.flush(10)
    late = subscribe(mosquitto.port)
    late.wait(lambda seen: len(seen.seen) >= 3)
    assert all(retained for _, _, retained in late.seen)
    assert late.of(Match) == []
    assert late.of(NodeState)[0].state == "online"
    assert late.of(CameraState)[0].state == "stalled"
    assert len(late.of(Birth)) == 1
    edge.publisher.close()
    late.wait(lambda seen: seen.of(NodeState)[-1].state == "offline")
    assert late.of(NodeState)[-1].reason == "stopped"


def test_a_change_of_a_held_state_is_published(mosquitto, node, subscribe):
    subscriber, edge = subscribe(mosquitto.port), node(mosquitto.port)
    edge.publisher.start()
    edge.publisher.await_answer(10)
    edge.publisher.set_state("degraded", "camera north is offline")
    subscriber.wait(lambda seen: [message.state for message in seen.of(NodeState)][-1:] == ["degraded"])


def test_broker_stopped_while_publishing_loses_and_doubles_nothing(make_mosquitto, tmp_path, node, subscribe):
    kept = f"allow_anonymous true\npersistence true\npersistence_location {tmp_path}/\nmax_queued_messages 0\n"
    broker = make_mosquitto(kept)
    subscriber, edge = subscribe(broker.port, session="dashboard"), node(broker.port)
    edge.publisher.start()
    for away_s in (0.0, 0.2, 1.5):
        talker = threading.Thread(target=edge.say, args=(150,))
        talker.start()
        time.sleep(0.05)
        broker.stop()
        talker.join()
        edge.say(50)
        assert edge.store.depth() > 0
        time.sleep(away_s)
        broker.start()
    assert edge.publisher.flush(30)
    subscriber.wait(lambda seen: len(set(ids(seen))) >= len(edge.said))
    assert set(ids(subscriber)) == set(edge.said)
    assert len(edge.said) == 600
    late = {message.event_id for message in subscriber.of(Match) if message.historical}
    assert late  # what waited for the broker says so
    repeats = [count for count in Counter(ids(subscriber)).values() if count > 1]
    assert len(repeats) <= 3 * 20  # only what was in flight


def test_broker_killed_keeps_every_unacknowledged_row(mosquitto, node):
    edge = node(mosquitto.port)
    edge.publisher.start()
    edge.publisher.await_answer(10)
    edge.say(20)
    mosquitto.kill()
    edge.say(200)
    time.sleep(0.3)
    waiting = edge.store.depth()
    assert 200 <= waiting <= 220
    assert not edge.publisher.status.connected
    assert "connection lost" in edge.publisher.status.problem or "cannot connect" in edge.publisher.status.problem
    mosquitto.start()
    assert edge.publisher.flush(20)
    assert edge.store.depth() == 0


def test_a_backlog_is_paced_and_live_facts_are_not_historical(mosquitto, node, subscribe):
    subscriber, edge = subscribe(mosquitto.port), node(mosquitto.port, backlog_per_s=50.0)
    edge.say(50)
    time.sleep(1.2)
    edge.publisher.start()
    edge.publisher.await_answer(10)
    began_s = time.monotonic()
    edge.say(5)
    assert edge.publisher.flush(20)
    took_s = time.monotonic() - began_s
    subscriber.wait(lambda seen: len(seen.of(Match)) >= 55)
    assert took_s > 0.7, f"50 messages at 50/s in {took_s} s"
    assert [message.historical for message in subscriber.of(Match)] == [True] * 50 + [False] * 5
    assert ids(subscriber) == edge.said


def test_health_is_not_kept_for_later(node, mosquitto, subscribe):
    edge = node(mosquitto.port)
    edge.publisher.send(SAMPLES["health"])
    edge.publisher.start()
    edge.publisher.await_answer(10)
    subscriber = subscribe(mosquitto.port)
    edge.publisher.send(SAMPLES["health"])
    subscriber.wait(lambda seen: seen.of(Health))
    assert edge.publisher.counters["health_unsent"] == 1
    assert len(subscriber.of(Health)) == 1


def test_a_subscriber_that_is_no_publisher_takes_over_nothing(mosquitto, node):
    """check uses another client id, so it does not throw the running node out."""
    edge = node(mosquitto.port)
    edge.publisher.start()
    edge.publisher.await_answer(10)
    settings = MqttSettings(host="127.0.0.1", port=mosquitto.port)
    assert f"127.0.0.1:{mosquitto.port} answers" in check_broker(settings, "crosslane-demo-edge-1", "demo/check")
    edge.say(3)
    assert edge.publisher.flush(5)
    assert edge.publisher.status.connected


NODE_UNTIL_KILLED = """
    import sys, time
    from pathlib import Path
    from edge_app.bus import MqttSettings
    from edge_app.delivery.outgoing import Letterhead
    from edge_app.delivery.publish import Publisher
    from edge_app.store.store import Store
    store = Store(Path(sys.argv[1]))
    settings = MqttSettings(host="127.0.0.1", port=int(sys.argv[2]))
    publisher = Publisher(store, settings, Letterhead("demo", "edge-9", store.boot_id))
    publisher.start()
    time.sleep(60)
"""


def test_the_last_will_appears_when_the_process_is_killed(mosquitto, subscribe, tmp_path):
    subscriber = subscribe(mosquitto.port)
    command = [sys.executable, "-c", textwrap.dedent(NODE_UNTIL_KILLED), str(tmp_path / "n.db"), str(mosquitto.port)]
    process = subprocess.Popen(command)
    try:
        subscriber.wait(lambda seen: [message.state for message in seen.of(NodeState)] == ["online"])
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subscriber.wait(lambda seen: [message.state for message in seen.of(NodeState)] == ["online", "offline"])
    assert subscriber.of(NodeState)[-1].reason == "connection lost"
    late = subscribe(mosquitto.port)
    late.wait(lambda seen: seen.of(NodeState))
    assert late.of(NodeState)[0].state == "offline"
    assert len({message.event_id for message in subscriber.of(NodeState)}) == 2
