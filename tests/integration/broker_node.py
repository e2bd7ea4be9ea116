"""A node as a broker sees it: a store, a publisher, and facts to say."""

import json
import time

from edge_app.bus import MqttSettings
from edge_app.contract.envelope import uuid7
from edge_app.contract.messages import Match
from edge_app.contract.samples import golden_samples
from edge_app.delivery.outgoing import Letterhead
from edge_app.delivery.publish import Publisher
from edge_app.store.rows import Row
from edge_app.store.store import Store

SAMPLES = golden_samples()


def ids(subscriber, model=Match):
    return [message.event_id for message in subscriber.of(model)]


class Node:
    """A store, a publisher, and facts to say."""

    def __init__(self, folder, port, protocol="auto", **settings):
        self.store = Store(folder / "store.db")
        self.letterhead = Letterhead("demo", "edge-1", self.store.boot_id)
        options = {"reconnect_min_s": 0.2, "reconnect_max_s": 0.5, "backlog_per_s": 5000.0, "refused_min_s": 0.3}
        options |= {"refused_max_s": 1.0, "offer_again_s": 0.2} | settings
        mqtt = MqttSettings(host="127.0.0.1", port=port, protocol=protocol, **options)
        self.publisher = Publisher(self.store, mqtt, self.letterhead)
        self.said: list[str] = []

    def say(self, count, kind="match"):
        for _ in range(count):
            number = len(self.said)
            event_id = uuid7(1_700_000_000 + number, str(number).encode())
            message = SAMPLES[kind].model_copy(update={"event_id": event_id, "seq": next(self.letterhead.numbers)})
            self.store.commit({"number": str(number).encode()}, [self.letterhead.row(message)])
            self.said.append(event_id)

    def say_large(self, size, topic="event/match", kind="match"):
        """A row that grew: more bytes than some brokers take."""
        event_id = uuid7(1_600_000_000, str(size).encode())
        payload = json.dumps({"event_id": event_id, "padding": "x" * size}).encode()
        self.store.commit({}, [Row(event_id, kind, f"crosslane/v1/demo/edge-1/{topic}", payload)])

    def wait(self, condition, timeout_s=15.0):
        until_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until_s, (self.publisher.status, self.store.pending(3))
            time.sleep(0.01)

    def close(self):
        self.publisher.close()
        self.store.close()
