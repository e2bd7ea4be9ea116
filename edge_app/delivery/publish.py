"""Drains the outbox to MQTT, in order. A row is sent only when the broker's PUBACK says so.

One thread does everything: it connects, says what holds (state, birth, cameras, model), sends what the outbox holds,
and waits. When the connection ends, everything unacknowledged is sent again on the next one; a subscriber drops
repeats by event_id. No more than `max_inflight` messages are ever in memory beside the retained ones.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from edge_app.bus import Connection, Level, MqttSettings, Will, connect
from edge_app.contract.envelope import uuid7
from edge_app.contract.messages import NodeState, NodeStateName
from edge_app.contract.topics import RULES, Message, encode, kind_of, stamp, topic_of
from edge_app.delivery.backlog import Backlog
from edge_app.delivery.outgoing import Letterhead
from edge_app.errors import BrokerError, BrokerRefusedError, ConfigurationError, StoreError
from edge_app.store.store import Store

log = logging.getLogger(__name__)

POLL_S = 0.02  # longest time from a commit to its sending on a quiet connection
GRACE_S = 1.0  # what was queued so shortly before a connection is not a backlog
GOODBYE_S = 2.0
STORE_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Status:
    """How the connection stands. `problem` is one line for a log, a person or a health page."""

    connected: bool = False
    refused: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """A retained message: said again on every connect, renewed (a new event) where its meaning is "now"."""

    message: Message
    renewed: bool


class Publisher:
    """`start`, then let it run; `close` at the end. All methods may be called from any thread."""

    def __init__(
        self, store: Store, settings: MqttSettings, letterhead: Letterhead, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` stamps what is published; what waited how long, the store knows."""
        self.letterhead = letterhead  # replace it when the model changes
        self.status = Status()
        self.counters: Counter[str] = Counter()
        self._store, self._settings, self._clock = store, settings, clock
        self._client_id = settings.client_id or f"crosslane-{letterhead.site}-{letterhead.node}"
        self._level: Level | None = None
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}  # by topic
        self._unsaid: set[str] = set()  # topics of held messages that this connection has not been given
        self._passing: deque[Message] = deque(maxlen=32)
        self._backlog = Backlog(store)
        self._connected_at_s = 0.0
        self._next_historical_s = 0.0
        self._answered, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self.set_state("online")

    def start(self) -> None:
        self._thread.start()

    def raise_if_refused(self, timeout_s: float) -> bool:
        """Wait for the broker's first answer. False when nobody answered: a node starts without its broker.

        Raises BrokerRefusedError when the broker said no.
        """
        self._answered.wait(timeout_s)
        if self.status.refused:
            raise BrokerRefusedError(self.status.problem)
        return self.status.connected

    def hold(self, message: Message) -> None:
        """Publish a retained message now, and again whenever a connection begins."""
        renewed = message.message in ("state", "birth")  # after a last will, the old event_id would be dropped
        with self.letterhead.guard(kind_of(message)), self._lock:
            encode(message)  # what is too large for a message must not be tried for ever
            topic = topic_of(message, self.letterhead.site)
            self._held[topic] = _Held(message, renewed)
            self._unsaid.add(topic)

    def set_state(self, state: NodeStateName, reason: str | None = None) -> None:
        """The node's own state, shown until the next change or until the connection dies."""
        self.hold(NodeState(**self.letterhead.once(self._clock()), state=state, reason=reason))

    def send(self, message: Message) -> None:
        """Publish a message that is worth nothing later (health); dropped and counted when there is no connection."""
        if not self.status.connected or len(self._passing) == self._passing.maxlen:
            self.counters[f"{message.message}_unsent"] += 1
        else:
            with self.letterhead.guard(kind_of(message)):
                encode(message)
                self._passing.append(message)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued so far is acknowledged. False when the time was not enough."""
        until_s = time.monotonic() + timeout_s
        while self._store.depth() or self._passing or self._unsaid or self._backlog.inflight:
            if time.monotonic() > until_s:
                return False
            time.sleep(0.01)
        return True

    def close(self) -> None:
        """Say `offline`, say goodbye, end the thread. Unsent rows stay in the outbox for the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * self._settings.connect_timeout_s + 2 * GOODBYE_S)

    def _run(self) -> None:
        pause_s = self._settings.reconnect_min_s
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                self._one_connection()
            except (BrokerError, StoreError, ConfigurationError) as error:
                self._report(Status(False, isinstance(error, BrokerRefusedError), str(error)))
            except Exception as error:  # a bug must not end publishing for good
                log.exception("publisher: unexpected error, connecting anew")
                self._report(Status(False, False, f"unexpected {type(error).__name__}: {error}"))
            self._answered.set()
            if time.monotonic() - began_s > self._settings.reconnect_max_s:
                pause_s = self._settings.reconnect_min_s
            self._stop.wait(pause_s * random.uniform(0.8, 1.2))  # nodes do not return all at once
            pause_s = min(2 * pause_s, self._settings.reconnect_max_s)

    def _report(self, status: Status) -> None:
        if status.problem and status.problem != self.status.problem:
            log.warning("%s", status.problem)
        self.status = status

    def _one_connection(self) -> None:
        """From CONNECT until the connection ends (BrokerError) or the publisher is closed."""
        connection = connect(self._settings, self._client_id, self._will(), self._level)
        self._level = connection.level
        self._connected_at_s = self._store.time_s()
        self._backlog.rewind()
        with self._lock:
            self._unsaid = set(self._held)
        self._report(Status(connected=True))
        self._answered.set()
        log.info("broker %s: connected with MQTT %s as %s", connection.where, connection.level, self._client_id)
        try:
            while not self._stop.is_set():
                connection.turn(POLL_S if self._exchange(connection) == 0 else 0.0)
            self._goodbye(connection)
        finally:
            connection.drop()
            self._backlog.settle(connection.acknowledged())  # what arrived together with the end counts

    def _exchange(self, connection: Connection) -> int:
        """Mark what was acknowledged, send what is next; a disk that fails does not cost the connection."""
        try:
            self._backlog.settle(connection.acknowledged())
            said = self._say_held(connection) + self._say_passing(connection) + self._drain(connection)
        except StoreError as error:
            self._report(Status(True, False, str(error)))
            connection.turn(STORE_PAUSE_S)
            return 0
        if self.status.problem:
            self._report(Status(connected=True))
        return said

    def _will(self) -> Will:
        message = self._state("offline", "connection lost")
        return Will(topic_of(message, self.letterhead.site), encode(message))

    def _state(self, state: NodeStateName, reason: str) -> NodeState:
        return NodeState(**self.letterhead.once(self._clock()), state=state, reason=reason)

    def _publish(self, connection: Connection, kind: str, topic: str, payload: bytes) -> int:
        rule = RULES[kind]
        self.counters["published"] += 1
        return connection.publish(topic, payload, rule.qos, rule.retain, rule.expiry_s)

    def _window_open(self, connection: Connection) -> bool:
        return len(self._backlog.inflight) < min(self._settings.max_inflight, connection.receive_maximum)

    def _say_held(self, connection: Connection) -> int:
        said = 0
        while self._unsaid and self._window_open(connection):
            with self._lock:
                topic = min(self._unsaid, key=_state_last)
                self._unsaid.remove(topic)
                held = self._held[topic]
            now_s = self._clock()
            new: dict[str, object] = {}
            if held.renewed:
                new = {"event_id": uuid7(now_s, os.urandom(16)), "observed_at_s": now_s}
                new["seq"] = next(self.letterhead.numbers)
            payload = stamp(encode(held.message.model_copy(update=new)), now_s, historical=False)
            number = self._publish(connection, kind_of(held.message), topic, payload)
            self._backlog.sent_retained(number)
            said += 1
        return said

    def _say_passing(self, connection: Connection) -> int:
        said = 0
        while self._passing:
            message = self._passing.popleft()
            payload = stamp(encode(message), self._clock(), historical=False)
            self._publish(connection, kind_of(message), topic_of(message, self.letterhead.site), payload)
            said += 1
        return said

    def _drain(self, connection: Connection) -> int:
        """Send rows until the window is full, the outbox is empty, or the pace of a backlog asks to wait."""
        said = 0
        while self._window_open(connection):
            row = self._backlog.peek()
            if row is None:
                break
            historical = (
                row.queued_at_s < self._connected_at_s - GRACE_S
                or row.queued_at_s < self._store.time_s() - self._settings.historical_after_s
            )
            if historical and not self._may_send_historical():
                break
            number = self._publish(connection, row.kind, row.topic, stamp(row.payload, self._clock(), historical))
            self._backlog.sent(number)
            said += 1
        return said

    def _may_send_historical(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._next_historical_s:
            return False
        interval_s = 1 / self._settings.backlog_per_s
        # a pause of the loop does not slow the pace, an idle hour does not allow a burst
        self._next_historical_s = max(self._next_historical_s + interval_s, now_s - POLL_S)
        return True

    def _goodbye(self, connection: Connection) -> None:
        message = self._state("offline", "stopped")
        payload = encode(message)
        number = self._publish(connection, "state", topic_of(message, self.letterhead.site), payload)
        until_s = time.monotonic() + GOODBYE_S
        waiting = True
        while (waiting or self._backlog.inflight) and time.monotonic() < until_s:
            connection.turn(POLL_S)
            acknowledged = connection.acknowledged()
            waiting = waiting and number not in {one for one, _ in acknowledged}
            self._backlog.settle(acknowledged)
        connection.close()
        self._report(Status())


def _state_last(topic: str) -> bool:
    """A node is `online` only once it has said what it is."""
    return topic.endswith("/state") and topic.count("/") == 4
