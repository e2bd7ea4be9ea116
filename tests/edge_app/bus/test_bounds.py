"""What a broker, or whoever pretends to be one, can cost us: a packet that claims 256 MB costs nothing."""

import contextlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from edge_app.bus import MqttSettings, connect
from edge_app.bus.client import BoundedClient
from edge_app.errors import BrokerError
from edge_app.health.health import memory_rss_bytes

ACCEPTED = {"5": b"\x20\x03\x00\x00\x00", "3.1.1": b"\x20\x02\x00\x00"}
CLAIMS_256_MB = b"\x30\xff\xff\xff\x7f"  # a PUBLISH
SENT_BYTES = 60_000_000


class Pretender:
    """Takes one client, answers its CONNECT with `answer`, and goes on sending as long as it is let."""

    def __init__(self, answer):
        self.connect, self.sent = b"", 0
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            client, _ = self._server.accept()
            self.connect = client.recv(4096)
            client.sendall(self._answer)
            while self.sent < SENT_BYTES:
                self.sent += client.send(b"x" * 65536)


@pytest.mark.parametrize("level", ["5", "3.1.1"])
@pytest.mark.parametrize("with_answer", [True, False])
def test_a_packet_that_claims_256_mb_ends_the_connection(level, with_answer):
    broker = Pretender((ACCEPTED[level] if with_answer else b"") + CLAIMS_256_MB)
    before_bytes = memory_rss_bytes()
    with pytest.raises(BrokerError, match=r"a packet of 268435455 bytes; at most 65536 are read"):  # noqa: PT012
        connection = connect(MqttSettings(host="127.0.0.1", port=broker.port, protocol=level), "edge-1")
        until_s = time.monotonic() + 10
        while time.monotonic() < until_s:
            connection.turn(0.05)
    assert broker.sent < SENT_BYTES
    assert memory_rss_bytes() - before_bytes < 10_000_000


def test_a_broker_that_speaks_5_is_told():
    broker = Pretender(ACCEPTED["5"])
    connect(MqttSettings(host="127.0.0.1", port=broker.port, protocol="5"), "edge-1").drop()
    assert b"\x27" + BoundedClient.most_bytes.to_bytes(4, "big") in broker.connect  # property 0x27, maximum packet size


def test_the_watcher_is_bounded_as_well():
    broker = Pretender(ACCEPTED["3.1.1"] + CLAIMS_256_MB)
    command = [sys.executable, "-m", "edge_app.demo.watch", f"127.0.0.1:{broker.port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 69
    assert done.stderr.strip().endswith("a packet of 268435455 bytes; at most 1000000 are read")
    assert broker.sent < SENT_BYTES
