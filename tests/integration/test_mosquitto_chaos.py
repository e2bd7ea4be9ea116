"""Connections that break anywhere, a broker that never answers, a node killed again and again: every fact arrives."""

import contextlib
import multiprocessing
import random
import socket
import threading
import time

from edge_app.bus import MqttSettings
from edge_app.contract.envelope import uuid7
from edge_app.contract.messages import Match
from edge_app.contract.samples import golden_samples
from edge_app.delivery.outgoing import Letterhead
from edge_app.delivery.publish import Publisher
from edge_app.store.store import Store

EAGER = {"host": "127.0.0.1", "reconnect_min_s": 0.02, "reconnect_max_s": 0.05, "backlog_per_s": 10_000.0}


def fact(letterhead, number):
    event_id = uuid7(1_700_000_000 + number, str(number).encode())
    message = golden_samples()["match"].model_copy(update={"event_id": event_id, "seq": number})
    return letterhead.row(message)


class CuttingProxy:
    """Stands before a broker and cuts every connection after a random number of bytes in either direction."""

    def __init__(self, port, chance):
        self._target, self._chance = port, chance
        self.cuts = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            broker = socket.create_connection(("127.0.0.1", self._target))
            for source, sink, most in ((client, broker, 40_000), (broker, client, 300)):
                budget = self._chance.randrange(1, most)
                threading.Thread(target=self._pump, args=(source, sink, budget), daemon=True).start()

    def _pump(self, source, sink, budget):
        while budget > 0:
            try:
                data = source.recv(min(budget, 4096))
                sink.sendall(data)
            except OSError:
                break
            budget -= len(data)
            if not data:
                break
        self.cuts += 1
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self):
        self._server.close()


def test_a_connection_cut_after_any_byte_loses_nothing(mosquitto, subscribe, tmp_path):
    subscriber, proxy = subscribe(mosquitto.port), CuttingProxy(mosquitto.port, random.Random(5))
    store = Store(tmp_path / "s.db")
    letterhead = Letterhead("demo", "edge-1", store.boot_id)
    publisher = Publisher(store, MqttSettings(port=proxy.port, protocol="5", **EAGER), letterhead)
    publisher.start()
    rows = [fact(letterhead, number) for number in range(300)]
    for row in rows:
        store.commit({}, [row])
    assert publisher.flush(60)
    subscriber.wait(lambda seen: len({m.event_id for m in seen.of(Match)}) >= 300)
    publisher.close()
    store.close()
    proxy.close()
    assert {message.event_id for message in subscriber.of(Match)} == {row.event_id for row in rows}
    assert proxy.cuts >= 20
    assert publisher.counters["put_aside"] == 0  # a bad cable is no fact's fault


class SlowProxy(CuttingProxy):
    """Cuts nothing, and hands the broker's answers on half a second late."""

    def _pump(self, source, sink, budget):
        to_client = budget < 300
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                time.sleep(0.5 if to_client else 0.0)
                sink.sendall(data)


def test_a_broker_that_acknowledges_late_loses_and_doubles_nothing(mosquitto, subscribe, tmp_path):
    subscriber, proxy = subscribe(mosquitto.port), SlowProxy(mosquitto.port, random.Random(5))
    store = Store(tmp_path / "s.db")
    letterhead = Letterhead("demo", "edge-1", store.boot_id)
    publisher = Publisher(store, MqttSettings(port=proxy.port, protocol="5", **EAGER), letterhead)
    publisher.start()
    rows = [fact(letterhead, number) for number in range(100)]
    store.commit({}, rows)
    assert publisher.flush(60)
    publisher.close()
    store.close()
    proxy.close()
    assert [message.event_id for message in subscriber.of(Match)] == [row.event_id for row in rows]
    assert publisher.counters["put_aside"] == 0


class SilentBroker:
    """Accepts a client (MQTT 3.1.1), reads everything, and acknowledges nothing."""

    def __init__(self):
        self.received = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        try:
            client, _ = self._server.accept()
            client.recv(4096)
            client.sendall(b"\x20\x02\x00\x00")
            while data := client.recv(65536):
                self.received += len(data)
        except OSError:
            return

    def close(self):
        self._server.close()


def test_no_more_than_the_window_is_in_flight(tmp_path):
    broker, store = SilentBroker(), Store(tmp_path / "s.db")
    letterhead = Letterhead("demo", "edge-1", "1")
    settings = MqttSettings(port=broker.port, protocol="3.1.1", max_inflight=7, **EAGER)
    publisher = Publisher(store, settings, letterhead)
    rows = [fact(letterhead, number) for number in range(500)]
    store.commit({}, rows)
    publisher.start()
    assert publisher.await_answer(5)
    time.sleep(0.5)
    assert store.depth() == 500
    assert len(publisher._session.backlog.inflight) == 7
    assert broker.received < 9 * (len(rows[0].payload) + 200)
    began_s = time.monotonic()
    publisher.close()
    assert time.monotonic() - began_s < 5
    assert store.depth() == 500
    store.close()
    broker.close()


def publish_until_killed(path, port, ready):
    store = Store(path)
    letterhead = Letterhead("demo", "edge-1", store.boot_id)
    Publisher(store, MqttSettings(port=port, protocol="5", **EAGER), letterhead).start()
    number = int(store.load().get("number", b"0"))
    ready.send(True)
    while True:
        store.commit({"number": str(number + 1).encode()}, [fact(letterhead, number)])
        number += 1
        time.sleep(0.001)


def test_a_node_killed_again_and_again_says_every_fact(mosquitto, subscribe, tmp_path):
    subscriber, chance, path = subscribe(mosquitto.port), random.Random(11), tmp_path / "s.db"
    processes = multiprocessing.get_context("spawn" if threading.active_count() > 50 else "fork")
    for _ in range(25):
        here, there = processes.Pipe(duplex=False)
        node = processes.Process(target=publish_until_killed, args=(path, mosquitto.port, there))
        node.start()
        assert here.poll(20)
        time.sleep(chance.uniform(0.02, 0.15))
        node.kill()
        node.join()
    store = Store(path)
    letterhead = Letterhead("demo", "edge-1", store.boot_id)
    publisher = Publisher(store, MqttSettings(port=mosquitto.port, protocol="5", **EAGER), letterhead)
    publisher.start()
    assert publisher.flush(20)
    said = int(store.load()["number"])
    expected = {fact(letterhead, number).event_id for number in range(said)}
    subscriber.wait(lambda seen: len({m.event_id for m in seen.of(Match)}) >= said)
    publisher.close()
    store.close()
    assert said > 25
    assert {message.event_id for message in subscriber.of(Match)} == expected
