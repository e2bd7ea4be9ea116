"""What is said on one connection after the other: what holds, what passes, and what the outbox holds.

The order: retained messages, the node's state last; then health; then rows, as many at once as the window allows. After
connections that ended with messages in flight, rows go first, and whatever is suspected goes alone.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from edge_app.bus import Connection, MqttSettings
from edge_app.contract.errors import MessageError
from edge_app.contract.messages import NodeState, NodeStateName
from edge_app.contract.topics import RULES, Message, encode, kind_of, stamp, topic_of
from edge_app.delivery.backlog import Backlog
from edge_app.delivery.blame import Blame, Item
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.delivery.patience import Pace
from edge_app.delivery.retained import Retained, renewed
from edge_app.store.rows import Row, Shed
from edge_app.store.store import Pending, Store

POLL_S = 0.02  # longest time from a commit to its sending on a quiet connection
GOODBYE_S = 2.0
ROWS_FIRST_S = 5.0  # so long retained messages wait for rows after connections that ended with messages in flight


class Session:
    """Used by the publisher's thread alone, apart from `retained`, `passing`, `idle` and `state`."""

    def __init__(
        self,
        store: Store,
        settings: MqttSettings,
        letterhead: Callable[[], Letterhead],
        clock: Callable[[], float],
    ) -> None:
        self.retained = Retained()
        self.passing: deque[Message] = deque(maxlen=32)
        self.blame = Blame(settings.offers, settings.offer_again_s)
        self.backlog = Backlog(store, self.blame)
        self.counters: Counter[str] = Counter()
        self._store, self._settings, self._letterhead, self._clock = store, settings, letterhead, clock
        self._pace = Pace(settings.backlog_per_s, POLL_S)
        self._began_s = 0.0  # of this connection, in the store's time
        self._rows_first_until_s = 0.0  # monotonic

    def idle(self) -> bool:
        """Everything that can be said now was said and acknowledged."""
        waiting = self._store.depth() or self.passing or self.backlog.inflight
        return not waiting and not self.retained.waiting(self._offered)

    def connecting(self) -> None:
        """What was queued before this moment is a backlog."""
        self._began_s = self._store.time_s()

    def connected(self, now_s: float) -> None:
        """Begin anew: everything unacknowledged, and all that holds."""
        self._rows_first_until_s = now_s + (ROWS_FIRST_S if self.blame.hurried() else 0.0)
        self.backlog.rewind()
        self.retained.say_all_again()

    def settle(self, connection: Connection) -> None:
        """Take note of what was acknowledged. Raises StoreError; it is tried again with the next call."""
        for item in self.backlog.settle(connection.acknowledged(), time.monotonic()):
            if not item.row:
                self.retained.say_again(item.topic)

    def say(self, connection: Connection) -> int:
        """Send what is next; returns how many messages. Raises StoreError."""
        now_s = time.monotonic()
        self.counters["put_aside"] += self.backlog.put_aside(self._gap, now_s)
        if now_s < self._rows_first_until_s and self.backlog.peek(now_s) is not None:
            return self._drain(connection)
        return self._say_retained(connection) + self._say_passing(connection) + self._drain(connection)

    def state(self, state: NodeStateName, reason: str | None = None) -> NodeState:
        return NodeState(**self._letterhead().once(self._clock()), state=state, reason=reason)

    def goodbye(self, connection: Connection) -> None:
        """Say `offline` and wait a little for what is in flight."""
        message = self.state("offline", "stopped")
        number = self._publish(connection, "state", topic_of(message, self._letterhead().site), encode(message))
        until_s = time.monotonic() + GOODBYE_S
        waiting = True
        while (waiting or self.backlog.inflight) and time.monotonic() < until_s:
            connection.turn(POLL_S)
            acknowledged = connection.acknowledged()
            waiting = waiting and number not in {one for one, _ in acknowledged}
            self.backlog.settle(acknowledged, time.monotonic())
        connection.close()

    def _gap(self, shed: Shed) -> Row:
        return gap_row(self._letterhead(), shed, self._clock())

    def _publish(self, connection: Connection, kind: str, topic: str, payload: bytes) -> int:
        rule = RULES[kind]
        self.counters["published"] += 1
        return connection.publish(topic, payload, rule.qos, rule.retain, rule.expiry_s)

    def _window_open(self, connection: Connection, now_s: float) -> bool:
        window = 1 if self.blame.alone(now_s) else min(self._settings.max_inflight, connection.receive_maximum)
        return len(self.backlog.inflight) < window

    def _offered(self, topic: str) -> bool:
        return self.blame.waits_until_s(Item(0, topic), time.monotonic()) is None

    def _say_retained(self, connection: Connection) -> int:
        said = 0
        while self._window_open(connection, now_s := time.monotonic()):
            found = self.retained.take(self._offered)
            if found is None:
                break
            topic, message = found
            kind, wall_s = kind_of(message), self._clock()
            try:
                payload = stamp(encode(renewed(message, self._letterhead(), wall_s)), wall_s, historical=False)
                objection = connection.excess(topic, payload, RULES[kind].expiry_s)
            except MessageError as error:
                objection = str(error)
            if objection:
                self.blame.refused(Item(0, topic), objection, now_s)
                self.retained.say_again(topic)
            else:
                self.backlog.sent_retained(self._publish(connection, kind, topic, payload), topic)
                said += 1
        return said

    def _say_passing(self, connection: Connection) -> int:
        said = 0
        while self.passing:
            message = self.passing.popleft()
            topic, kind = topic_of(message, self._letterhead().site), kind_of(message)
            try:
                payload = stamp(encode(message), self._clock(), historical=False)
                objection = connection.excess(topic, payload, RULES[kind].expiry_s)
            except MessageError as error:
                objection = str(error)
            if objection:
                self.blame.refused(Item(0, topic), objection, time.monotonic())
                self.counters[f"{kind}_unsent"] += 1
            else:
                self._publish(connection, kind, topic, payload)
                said += 1
        return said

    def _drain(self, connection: Connection) -> int:
        """Send rows until the window is full, the outbox is empty, or the pace of a backlog asks to wait."""
        said = 0
        while self._window_open(connection, now_s := time.monotonic()):
            row = self.backlog.peek(now_s)
            if row is None:
                break
            historical = row.queued_at_s < max(self._began_s, self._store.time_s() - self._settings.historical_after_s)
            if historical and not self._pace.may(now_s):
                break
            if objection := self._send(connection, row, historical):
                self.backlog.pass_over(objection, now_s)
            said += 1
        return said

    def _send(self, connection: Connection, row: Pending, historical: bool) -> str | None:
        """Why this row cannot be sent, if so."""
        try:
            payload = stamp(row.payload, self._clock(), historical)
            if excess := connection.excess(row.topic, payload, RULES[row.kind].expiry_s):
                return excess
            self.backlog.sent(self._publish(connection, row.kind, row.topic, payload))
        except (KeyError, TypeError, ValueError) as error:  # a topic with wildcards, a payload that is no object, …
            return f"not a message: {type(error).__name__}: {error}"
        return None
