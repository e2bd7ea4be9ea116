"""Brokers that refuse a client, a message, or everything; and one that attacks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from edge_app.bus import MqttSettings, check_broker, check_topic, connect
from edge_app.contract.messages import Gap, Match
from edge_app.demo.play import Play, raw_config
from edge_app.errors import BrokerError
from edge_app.health.health import memory_rss_bytes
from tests.benchmarks.fault_case import Case
from tests.conftest import Mosquitto, Subscriber
from tests.integration.broker_node import SAMPLES, Node, ids

OPEN = "allow_anonymous true\n"
TREE = "crosslane/v1/demo/edge-1"


@contextmanager
def _broker(folder: Path, lines: str = OPEN) -> Iterator[Mosquitto]:
    broker = Mosquitto(folder, lines).start()
    try:
        yield broker
    finally:
        broker.kill()


def _wait(condition: Callable[[], object], timeout_s: float = 20.0) -> bool:
    until_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.02)
    return True


def _large_row(protocol: str) -> Callable[[Path], tuple[str, bool]]:
    def run(folder: Path) -> tuple[str, bool]:
        with _broker(folder, f"{OPEN}max_packet_size 4000\n") as broker:
            subscriber, node = Subscriber(broker.port), Node(folder / "node", broker.port, protocol)
            node.say_large(6000)
            node.say(300)
            began_s = time.monotonic()
            node.publisher.start()
            out = _wait(lambda: len(set(ids(subscriber))) == 300)
            took_s = time.monotonic() - began_s
            said = _wait(lambda: subscriber.of(Gap))
            reason = subscriber.of(Gap)[0].reason if said else "no gap"
            node.close()
            subscriber.close()
        return f"{len(set(ids(subscriber)))} of 300 behind it out after {took_s:.1f} s; gap: {reason}", out and said

    return run


def _large_birth(folder: Path) -> tuple[str, bool]:
    with _broker(folder, f"{OPEN}max_packet_size 4000\n") as broker:
        subscriber, node = Subscriber(broker.port), Node(folder / "node", broker.port, "3.1.1")
        node.publisher.hold(SAMPLES["birth"].model_copy(update={"class_names": ("x" * 250,) * 20}))
        node.say(100)
        node.publisher.start()
        out = _wait(lambda: len(set(ids(subscriber))) == 100)
        connections = broker.log().count("as crosslane-demo-edge-1")
        named = _wait(lambda: "birth" in (node.publisher.status.problem or ""))
        problem = node.publisher.status.problem
        node.close()
        subscriber.close()
    return f"{len(set(ids(subscriber)))} of 100 facts out by connection {connections}; {problem}", out and named


def _refused_start(folder: Path) -> tuple[str, bool]:
    with _broker(folder, "allow_anonymous false\n") as broker:
        mqtt = {"host": broker.host, "port": broker.port, "username": "edge", "password_env": "EDGE_PASSWORD"}
        site = folder / "site.yaml"
        site.write_text(yaml.safe_dump(raw_config(Play(seconds=5.0), folder / "store.db", mqtt)))
        codes = {}
        for command in ("run", "check"):
            words = [sys.executable, "-m", "edge_app", command, "--config", str(site)]
            environment = os.environ | {"EDGE_PASSWORD": "wrong"}
            done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120, check=False)
            codes[command] = done.returncode
    return f"run plays its site to the end and leaves with {codes['run']}, check with {codes['check']}", codes == {
        "run": 0, "check": 77,
    }  # fmt: skip


def _denied(folder: Path) -> tuple[str, bool]:
    acl = folder / "acl"
    acl.write_text(f"topic read crosslane/#\ntopic readwrite {TREE}/state\n")
    acl.chmod(0o644)
    with _broker(folder, f"{OPEN}acl_file {acl}\n") as broker:
        node = Node(folder / "node", broker.port, "5")
        node.say(100)
        node.publisher.start()
        named = _wait(lambda: node.publisher.status.problem)
        time.sleep(1)
        said = f"{node.publisher.status.problem}; {node.store.depth()} of 100 facts wait"
        kept = node.store.depth() == 100
        found = {}
        for level in ("5", "3.1.1"):
            settings = MqttSettings(host=broker.host, port=broker.port, protocol=level)
            try:
                found[level] = check_broker(settings, "c", check_topic("demo", "edge-1"))
            except BrokerError as error:
                found[level] = f"check leaves with {error.exit_code}"
        node.close()
    return f"{said}; {found}", named and kept and all("77" in one for one in found.values())


def _two_with_one_id(folder: Path) -> tuple[str, bool]:
    with _broker(folder) as broker:
        slow = {"reconnect_min_s": 0.5, "reconnect_max_s": 30.0, "refused_max_s": 600.0}
        nodes = [Node(folder / name, broker.port, "auto", **slow) for name in ("a", "b")]
        for node in nodes:
            node.publisher.start()

        def problem() -> str:
            return next((p for p in (node.publisher.status.problem for node in nodes) if p and "another" in p), "")

        said = _wait(problem)
        before = broker.log().count("as crosslane-demo-edge-1")
        time.sleep(8)
        count, told = broker.log().count("as crosslane-demo-edge-1") - before, problem()
        for node in nodes:
            node.close()
    return f"{told}; {count} more connections in the 8 s after that", said and count <= 3


def _huge_packet(folder: Path) -> tuple[str, bool]:
    grown, ends = [], []
    for level, answer in (("5", b"\x20\x03\x00\x00\x00"), ("3.1.1", b"\x20\x02\x00\x00")):
        server = socket.create_server(("127.0.0.1", 0))

        def flood(server: socket.socket = server, answer: bytes = answer) -> None:
            with suppress(OSError):
                client, _ = server.accept()
                client.recv(4096)
                client.sendall(answer + b"\x30\xff\xff\xff\x7f")
                for _ in range(3000):
                    client.sendall(b"x" * 65536)

        threading.Thread(target=flood, daemon=True).start()
        before = memory_rss_bytes() or 0
        try:
            settings = MqttSettings(host="127.0.0.1", port=server.getsockname()[1], protocol=level)
            connection = connect(settings, "edge-1")
            until_s = time.monotonic() + 5
            while time.monotonic() < until_s:
                connection.turn(0.05)
        except BrokerError as error:
            ends.append(str(error))
        grown.append(((memory_rss_bytes() or 0) - before) / 1e6)
        server.close()
    return f"costs {max(grown):.1f} MB: {ends[-1] if ends else 'no end'}", len(ends) == 2 and max(grown) < 10


def _mixed(folder: Path) -> tuple[str, bool]:
    acl = folder / "acl"
    acl.write_text(f"topic read crosslane/#\ntopic readwrite {TREE}/#\ntopic deny {TREE}/event/revision\n")
    acl.chmod(0o644)
    with _broker(folder, f"{OPEN}acl_file {acl}\n") as broker:
        subscriber, node = Subscriber(broker.port), Node(folder / "node", broker.port, "5")
        node.store.commit({}, [node.letterhead.row(SAMPLES["revision"])])
        node.say(100)
        node.publisher.start()
        said = _wait(lambda: subscriber.of(Gap) and len(subscriber.of(Match)) == 100)
        gap = subscriber.of(Gap)[0] if said else None
        node.close()
        subscriber.close()
    return f"{len(subscriber.of(Match))} of 100 matches out; gap: {gap.counts if gap else None}", said


CASES = [
    Case("B4", "A row larger than the broker takes (MQTT 5)", "blocked all rows behind it, for ever", _large_row("5")),
    Case("B4", "A row on which the broker hangs up", "blocked all rows behind it, for ever", _large_row("3.1.1")),
    Case("B4", "A retained message on which the broker hangs up", "0 facts in 28 connections", _large_birth),
    Case("B5", "The broker refuses at the start", "ended the node for good with 77, not restarted", _refused_start),
    Case("C7", "An ACL denies all facts", "node online, problem none; on 3.1.1 10 of 300 rows lost in 6 s", _denied),
    Case("C7", "An ACL denies one kind", "offered every 30 s for ever, no word but a line in the log", _mixed),
    Case("C7", "Two nodes with one client id", "39 takeovers in 8 s, only 'connection lost'", _two_with_one_id),
    Case("E16", "A packet that claims 256 MB", "cost 195 MB", _huge_packet),
]
