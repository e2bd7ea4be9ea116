"""What a broker answers, byte by byte, and what we make of it: which are refusals, which pass, and the advice."""

import contextlib
import socket
import threading
import time

import pytest

from edge_app.bus import HungUpError, MqttSettings, TakenOverError, connect
from edge_app.errors import BrokerError, BrokerRefusedError


class Scripted:
    """Takes clients (MQTT 5) and answers each packet with the next of `answers`; then it is silent, or hangs up."""

    def __init__(self, *answers, hang_up=False):
        self._answers, self._hang_up = answers, hang_up
        self._server = socket.create_server(("127.0.0.1", 0))
        self.settings = MqttSettings(host="127.0.0.1", port=self._server.getsockname()[1], protocol="5")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        client, _ = self._server.accept()
        with contextlib.suppress(OSError):
            for answer in self._answers:
                client.recv(4096)
                client.sendall(answer)
            if self._hang_up:
                client.close()
            else:
                time.sleep(10)


def connack(reason=0, properties=b""):
    return bytes([0x20, 3 + len(properties), 0, reason, len(properties)]) + properties


def turn(connection, seconds=5.0):
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        connection.turn(0.02)


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (connack(0x86), "mqtt.password_env"),
        (connack(0x87), "the broker's ACL"),
        (connack(0x85), "mqtt.client_id"),
        (connack(0x9A), "retain_available true"),
        (connack(0x9B), "max_qos 1"),
        (connack(0x95), "max_packet_size 20000"),
        (connack(0x9D), "mqtt.host"),
        (connack(0x83), "broker's log"),
        (connack(0, b"\x25\x00"), "retain_available true"),  # accepted, but keeps nothing
        (connack(0, b"\x24\x00"), "max_qos 1"),  # accepted, but acknowledges nothing
    ],
)
def test_a_refusal_says_what_to_do_about_this_reason(answer, advice):
    with pytest.raises(BrokerRefusedError) as caught:
        connect(Scripted(answer).settings, "edge-1")
    assert advice in str(caught.value)
    assert ("password" in str(caught.value)) == (answer[3] in (0x86, 0x87))


@pytest.mark.parametrize("reason", [0x88, 0x89, 0x97, 0x9F])
def test_what_time_mends_is_no_refusal(reason):
    with pytest.raises(BrokerError, match="not now") as caught:
        connect(Scripted(connack(reason)).settings, "edge-1")
    assert not isinstance(caught.value, BrokerRefusedError)


def test_a_session_taken_over_is_named():
    connection = connect(Scripted(connack() + b"\xe0\x02\x8e\x00").settings, "edge-1")
    with pytest.raises(TakenOverError, match="another client uses the id 'edge-1'"):
        turn(connection)


@pytest.mark.parametrize("reason", [0x8B, 0x8D, 0x98])
def test_an_end_that_no_message_caused_blames_none(reason):
    connection = connect(Scripted(connack() + bytes([0xE0, 2, reason, 0])).settings, "edge-1")
    with pytest.raises(BrokerError) as caught:
        turn(connection)
    assert not isinstance(caught.value, HungUpError)


@pytest.mark.parametrize(
    ("end", "why"),
    [(b"\xe0\x02\x95\x00", "Packet too large"), (b"\xe0\x02\x87\x00", "Not authorized"), (b"", "connection was lost")],
)
def test_an_end_after_a_message_may_be_its_fault(end, why):
    connection = connect(Scripted(connack(), end, hang_up=True).settings, "edge-1")
    connection.publish("a/b", b"{}", 1, False)
    with pytest.raises(HungUpError, match=why):
        turn(connection)


@pytest.mark.parametrize(
    ("reason", "objection"), [(0, None), (0x10, None), (0x87, "Not authorized"), (0x97, "Quota exceeded")]
)
def test_a_puback_says_whether_the_message_was_taken(reason, objection):
    connection = connect(Scripted(connack(), bytes([0x40, 4, 0, 1, reason, 0])).settings, "edge-1")
    number = connection.publish("a/b", b"{}", 1, False)
    found = []
    while not found:
        connection.turn(0.02)
        found = connection.acknowledged()
    assert found == [(number, objection)]


def test_the_largest_packet_is_judged_to_the_byte():
    """Against what is really sent: topic, number, properties and header count."""
    received = []

    class Listening(Scripted):
        def _serve(self):
            client, _ = self._server.accept()
            client.recv(4096)
            client.sendall(connack(0, b"\x27" + (300).to_bytes(4, "big")))
            client.settimeout(0.5)
            with contextlib.suppress(OSError):
                while True:
                    received.append(client.recv(4096))

    connection = connect(Listening().settings, "edge-1")
    for expiry_s in (None, 60):
        size = next(n for n in range(400) if connection.excess("a/b", b"x" * n, expiry_s))
        received.clear()
        connection.publish("a/b", b"x" * (size - 1), 1, False, expiry_s)
        with contextlib.suppress(BrokerError):
            turn(connection, 0.2)
        assert len(b"".join(received)) == 300
