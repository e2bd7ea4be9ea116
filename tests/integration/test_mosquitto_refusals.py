"""A broker that says no: to a client, to a message, to whoever uses an id twice. The facts behind go out."""

import logging
import subprocess
import time
from collections import Counter

import pytest
from broker_node import SAMPLES, ids

from edge_app.bus import MqttSettings, check_broker, check_topic
from edge_app.contract.messages import Birth, Gap, NodeState
from edge_app.errors import BrokerRefusedError

OPEN = "allow_anonymous true\n"
TOPIC = check_topic("demo", "edge-1")
TREE = "crosslane/v1/demo/edge-1"


@pytest.fixture
def acl(tmp_path):
    """`acl(lines)` writes the broker's ACL and returns the lines of its configuration."""

    def write(*lines):
        path = tmp_path / "acl"
        path.write_text("".join(f"topic {line}\n" for line in lines))
        path.chmod(0o644)
        return f"{OPEN}acl_file {path}\n"

    return write


@pytest.fixture
def passwords(tmp_path, monkeypatch):
    """`passwords(right)` sets the password that the broker knows; the node's is `secret`."""
    monkeypatch.setenv("EDGE_PASSWORD", "secret")
    path = tmp_path / "passwords"

    def write(right):
        command = ["mosquitto_passwd", "-b", "-c", str(path), "edge-1", right]
        subprocess.run(command, check=True, capture_output=True)
        path.chmod(0o644)
        return f"allow_anonymous false\npassword_file {path}\n"

    return write


@pytest.mark.parametrize("protocol", ["5", "3.1.1", "auto"])
def test_a_wrong_password_is_a_clear_refusal_and_costs_nothing(make_mosquitto, node, passwords, protocol):
    broker = make_mosquitto(passwords("another"))
    login = {"username": "edge-1", "password_env": "EDGE_PASSWORD"}
    edge = node(broker.port, protocol, **login)
    edge.publisher.start()
    assert not edge.publisher.await_answer(10)
    assert edge.publisher.status.refused
    refusal = "refused client 'crosslane-demo-edge-1' as user 'edge-1': "
    assert refusal in edge.publisher.status.problem
    assert "mqtt.password_env" in edge.publisher.status.problem
    assert "secret" not in edge.publisher.status.problem
    edge.say(5)
    settings = MqttSettings(host="127.0.0.1", port=broker.port, protocol=protocol, **login)
    with pytest.raises(BrokerRefusedError, match="refused") as caught:
        check_broker(settings, "c", TOPIC)
    assert caught.value.exit_code == 77
    passwords("secret")  # corrected while it runs: it connects by itself
    broker.kill()
    broker.start()
    assert edge.publisher.flush(10)
    assert edge.publisher.status.problem is None


def test_refusals_are_tried_ever_less_often(make_mosquitto, node, passwords):
    broker = make_mosquitto(passwords("another"))
    edge = node(
        broker.port, "5", username="edge-1", password_env="EDGE_PASSWORD", refused_min_s=0.5, refused_max_s=60.0
    )
    edge.publisher.start()
    time.sleep(4)
    assert 2 <= edge.publisher.counters["connections_refused"] <= 4  # at 0, 0.5, 1.5 and 3.5 s, ± 20 %


@pytest.mark.parametrize(
    ("lines", "advice"), [("retain_available false", "retain_available true"), ("max_packet_size 20", "hung up")]
)
def test_the_advice_fits_the_reason(make_mosquitto, node, lines, advice):
    edge = node(make_mosquitto(f"{OPEN}{lines}\n").port, "5")
    edge.publisher.start()
    assert not edge.publisher.await_answer(10)
    assert advice in edge.publisher.status.problem
    assert "password" not in edge.publisher.status.problem


def test_what_the_acl_forbids_is_offered_again_and_stops_nothing_else(make_mosquitto, node, subscribe, acl):
    broker = make_mosquitto(acl(f"readwrite {TREE}/#", f"deny {TREE}/event/revision"))
    edge = node(broker.port, "5", offer_again_s=1.0)
    edge.publisher.start()
    edge.publisher.await_answer(10)
    edge.store.commit({}, [edge.letterhead.row(SAMPLES["revision"])])
    edge.say(30)
    edge.wait(lambda: edge.store.depth() == 1)
    assert [row.kind for row in edge.store.pending(9)] == ["revision"]
    problem = f"the broker does not take {TREE}/event/revision: Not authorized; allow the topic in the broker's ACL"
    assert edge.publisher.status == type(edge.publisher.status)(True, False, problem)
    acl(f"readwrite {TREE}/#")
    broker.kill()
    broker.start()
    assert edge.publisher.flush(10)
    edge.wait(lambda: edge.publisher.status.problem is None)


def test_what_the_acl_forbids_for_good_is_put_aside_and_said(make_mosquitto, node, subscribe, acl):
    broker = make_mosquitto(acl(f"readwrite {TREE}/#", "read crosslane/#", f"deny {TREE}/event/revision"))
    subscriber, edge = subscribe(broker.port), node(broker.port, "5")
    edge.store.commit({}, [edge.letterhead.row(SAMPLES["revision"])])
    edge.say(5)
    edge.publisher.start()
    subscriber.wait(lambda seen: seen.of(Gap))
    (gap,) = subscriber.of(Gap)
    assert gap.counts == {"revision": 1}
    assert "Not authorized" in gap.reason
    assert edge.publisher.flush(5)
    assert ids(subscriber) == edge.said
    assert edge.publisher.counters["put_aside"] == 1


def test_a_broker_that_takes_no_fact_at_all_costs_none(make_mosquitto, node, subscribe, acl):
    """That is not the fault of the rows: they wait for whoever mends the ACL, and the node says so."""
    broker = make_mosquitto(acl(f"readwrite {TREE}/state"))
    edge = node(broker.port, "5", offer_again_s=0.05, offers=2)
    edge.say(20)
    edge.publisher.start()
    time.sleep(2)
    assert edge.store.depth() == 20
    assert "event/match: Not authorized" in edge.publisher.status.problem
    acl(f"readwrite {TREE}/#", "read crosslane/#")
    broker.kill()
    broker.start()
    subscriber = subscribe(broker.port)
    subscriber.wait(lambda seen: len(set(ids(seen))) == 20)


@pytest.mark.parametrize(
    ("limit", "protocol", "why"),
    [
        ("max_packet_size 4000", "5", "above 4000 bytes"),  # said in its CONNACK
        ("max_packet_size 4000", "3.1.1", "the connection ends when it is sent"),
        ("message_size_limit 4000", "5", "the connection ends when it is sent"),  # a PUBACK that the standard forbids
    ],
)
def test_a_row_that_the_broker_will_not_take_blocks_nothing(make_mosquitto, node, subscribe, limit, protocol, why):
    broker = make_mosquitto(f"{OPEN}{limit}\n")
    subscriber, edge = subscribe(broker.port), node(broker.port, protocol)
    edge.say(30)
    edge.say_large(6000)
    edge.say(30)
    edge.publisher.start()
    subscriber.wait(lambda seen: len(set(ids(seen))) == 60 and seen.of(Gap))
    assert Counter(ids(subscriber)).most_common(1)[0][1] <= 3
    (gap,) = subscriber.of(Gap)
    assert gap.counts == {"match": 1}
    assert why in gap.reason
    assert edge.publisher.flush(5)
    assert edge.publisher.status.problem == f"the broker does not take {TREE}/event/match: {gap.reason[25:]}"
    subscriber.wait(lambda seen: seen.of(NodeState)[-1].state == "online")


def test_facts_go_before_a_retained_message_that_ends_the_connection(make_mosquitto, node, subscribe):
    broker = make_mosquitto(f"{OPEN}max_packet_size 4000\n")
    subscriber, edge = subscribe(broker.port), node(broker.port, "3.1.1")
    edge.publisher.hold(SAMPLES["birth"].model_copy(update={"class_names": ("x" * 250,) * 20}))
    edge.say(50)
    edge.publisher.start()
    subscriber.wait(lambda seen: len(set(ids(seen))) == 50 and seen.of(NodeState))
    edge.wait(lambda: f"{TREE}/birth" in (edge.publisher.status.problem or ""))
    edge.say(50)  # and it goes on, also while the birth is tried again
    subscriber.wait(lambda seen: len(set(ids(seen))) == 100)
    assert subscriber.of(Birth) == []


def test_nonsense_in_the_outbox_blocks_nothing(mosquitto, node, subscribe):
    subscriber, edge = subscribe(mosquitto.port), node(mosquitto.port)
    edge.say_large(10, topic="event/#")  # no broker takes a wildcard; paho does not even send it
    edge.say_large(11, kind="of another release")
    edge.say(5)
    edge.publisher.start()
    subscriber.wait(lambda seen: len(ids(seen)) == 5 and sum(sum(gap.counts.values()) for gap in seen.of(Gap)) == 2)
    assert edge.publisher.flush(5)


def test_what_is_put_aside_stays_put_over_a_restart(make_mosquitto, node, subscribe):
    from edge_app.store.opening import check_store

    broker = make_mosquitto(f"{OPEN}max_packet_size 4000\n")
    edge = node(broker.port, "5")
    edge.say_large(6000)
    edge.publisher.start()
    edge.wait(lambda: edge.publisher.counters["put_aside"] == 1)
    assert edge.publisher.flush(5)
    edge.say_large(6000)  # the same event again
    assert edge.store.depth() == 0
    path = edge.store.path
    edge.close()
    assert check_store(path).endswith("0 unsent messages, 1 put aside")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_two_nodes_with_one_id_say_so_and_do_not_fight(mosquitto, node, caplog, protocol):
    caplog.set_level(logging.INFO)
    nodes = [node(mosquitto.port, protocol, reconnect_max_s=4.0, refused_max_s=60.0) for _ in range(2)]
    for one in nodes:
        one.publisher.start()
    nodes[0].wait(lambda: any("another client" in (one.publisher.status.problem or "") for one in nodes))
    begun = mosquitto.log().count("New client connected")
    time.sleep(4)
    assert mosquitto.log().count("New client connected") - begun <= 4  # it was 39 in 8 s
    for one in nodes:
        one.say(10)
    for one in nodes:
        one.wait(lambda one=one: one.store.depth() == 0, 30)
    lines = [record.getMessage() for record in caplog.records if "another client" in record.getMessage()]
    assert 1 <= len(lines) <= 4
    assert "crosslane-demo-edge-1" in lines[0]
    assert sum(one.publisher.counters["put_aside"] for one in nodes) == 0


@pytest.mark.parametrize("protocol", ["5", "3.1.1", "auto"])
def test_check_publishes_and_hears_itself(mosquitto, protocol):
    found = check_broker(MqttSettings(host="127.0.0.1", port=mosquitto.port, protocol=protocol), "c", TOPIC)
    assert found.startswith(f"127.0.0.1:{mosquitto.port} answers")
    assert f"published on {TOPIC} and heard it" in found
    assert ("says nothing of messages that are denied" in found) == (protocol == "3.1.1")


@pytest.mark.parametrize(
    ("protocol", "said"),
    [("5", "does not take .*/event/check: Not authorized; allow the topic"), ("3.1.1", "heard nothing within 3 s")],
)
def test_check_finds_what_the_acl_denies(make_mosquitto, acl, protocol, said):
    broker = make_mosquitto(acl("read crosslane/#", f"write {TREE}/state"))
    with pytest.raises(BrokerRefusedError, match=said) as caught:
        check_broker(MqttSettings(host="127.0.0.1", port=broker.port, protocol=protocol), "c", TOPIC)
    assert caught.value.exit_code == 77


def test_check_needs_no_right_to_hear_where_the_broker_gives_reasons(make_mosquitto, acl):
    broker = make_mosquitto(acl(f"write {TREE}/#"))
    found = check_broker(MqttSettings(host="127.0.0.1", port=broker.port), "c", TOPIC)
    assert f"published on {TOPIC}; heard nothing within 3 s, which a node does not need" in found


def test_check_warns_of_a_broker_that_takes_only_small_packets(make_mosquitto):
    broker = make_mosquitto(f"{OPEN}max_packet_size 4000\n")
    found = check_broker(MqttSettings(host="127.0.0.1", port=broker.port), "c", TOPIC)
    assert "it takes packets of at most 4000 bytes" in found
