"""Drains the outbox to MQTT, in order. A row is sent only when the broker's PUBACK says so.

One thread does everything: it connects, says what holds (state, birth, cameras, model), sends what the outbox holds,
and waits. When the connection ends, everything unacknowledged is sent again on the next one; a subscriber drops
repeats by event_id. No more than `max_inflight` messages are ever in memory beside the retained ones. Nothing that a
broker does ends it: what time may mend is tried again (`patience`), what is not taken stops nothing else (`blame`).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from edge_app.bus import (
    Connection,
    HungUpError,
    Level,
    MqttSettings,
    TakenOverError,
    Will,
    configuration_problems,
    connect,
)
from edge_app.contract.messages import NodeStateName
from edge_app.contract.topics import Message, encode, kind_of, topic_of
from edge_app.delivery.damped import Damped
from edge_app.delivery.outgoing import Letterhead
from edge_app.delivery.patience import End, Patience
from edge_app.delivery.session import GOODBYE_S, POLL_S, Session
from edge_app.errors import BrokerError, BrokerRefusedError, ConfigurationError, StoreError
from edge_app.store.store import Store

log = logging.getLogger(__name__)

STORE_PAUSE_S = 0.5
NO_REASONS = "; it has no reasons: what its ACL denies is lost in silence, which `edge-app check` would find"


@dataclass(frozen=True, slots=True)
class Status:
    """How the connection stands. `problem` is one line for a log, a person or a health page."""

    connected: bool = False
    refused: bool = False
    problem: str | None = None


class Publisher:
    """`start`, then let it run; `close` at the end. All methods may be called from any thread."""

    def __init__(
        self, store: Store, settings: MqttSettings, letterhead: Letterhead, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` stamps what is published; what waited how long, the store knows."""
        self.letterhead = letterhead  # replace it when the model changes
        self.status = Status()
        self._settings = settings
        self._client_id = settings.client_id or f"crosslane-{letterhead.site}-{letterhead.node}"
        where = settings.where()
        self._rival = (
            f"broker {where}: hangs up at once; another client seems to use the id {self._client_id!r} as well"
        )
        self._level: Level | None = None
        self._session = Session(store, settings, lambda: self.letterhead, clock)
        self._patience = Patience(settings, random.uniform)
        self._lines = Damped(log.log)
        self._connected_s = 0.0  # monotonic
        self._answered, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self.set_state("online")

    @property
    def counters(self) -> Counter[str]:
        """Since the start: messages published, unsent and put aside, connections refused and taken over."""
        return self._session.counters

    def start(self) -> None:
        """Raises ConfigurationError for what no broker can mend: TLS files or a password that are not there."""
        if problems := configuration_problems(self._settings):
            raise ConfigurationError(problems)
        self._thread.start()

    def await_answer(self, timeout_s: float) -> bool:
        """Wait for the first answer of the broker. False when it refused or nobody answered: `status` says which, and
        a node starts and tries again."""
        self._answered.wait(timeout_s)
        return self.status.connected

    def hold(self, message: Message) -> None:
        """Publish a retained message now, and again whenever a connection begins."""
        with self.letterhead.guard(kind_of(message)):
            encode(message)  # what is too large for a message must not be tried for ever
            self._session.retained.hold(message, self.letterhead.site)

    def set_state(self, state: NodeStateName, reason: str | None = None) -> None:
        """The node's own state, shown until the next change or until the connection dies."""
        self.hold(self._session.state(state, reason))

    def send(self, message: Message) -> None:
        """Publish a message that is worth nothing later (health); dropped and counted when there is no connection."""
        passing = self._session.passing
        if not self.status.connected or len(passing) == passing.maxlen:
            self.counters[f"{message.message}_unsent"] += 1
        else:
            with self.letterhead.guard(kind_of(message)):
                encode(message)
                passing.append(message)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued so far is acknowledged. False when the time was not enough."""
        until_s = time.monotonic() + timeout_s
        while not self._session.idle():
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
        while not self._stop.is_set():
            self._connected_s = float("inf")  # not yet
            end = self._one_end()
            self._answered.set()
            now_s = time.monotonic()
            pause_s = self._patience.pause_s(end, max(now_s - self._connected_s, 0.0), now_s)
            if end == "idle" and self._patience.rival(now_s):
                self._report(Status(False, False, self._rival))
            self._stop.wait(pause_s)
        self._lines.look(time.monotonic(), end=True)

    def _one_end(self) -> End:
        """One connection, and how it ended."""
        try:
            self._one_connection()
        except BrokerRefusedError as error:
            self.counters["connections_refused"] += 1
            self._report(Status(False, True, str(error)))
            return "refused"
        except TakenOverError as error:
            self.counters["connections_taken_over"] += 1
            self._rival = str(error)
            self._report(Status(False, False, self._rival))
            return "taken over"
        except HungUpError as error:
            self._report(Status(False, False, str(error)))
            return "lost" if self._session.backlog.inflight else "idle"
        except (BrokerError, StoreError, ConfigurationError) as error:
            self._report(Status(False, False, str(error)))
        except Exception as error:  # a bug must not end publishing for good
            log.exception("publisher: unexpected error, connecting anew")
            self._report(Status(False, False, f"unexpected {type(error).__name__}: {error}"))
        return "lost"

    def _report(self, status: Status) -> None:
        if status.problem and (status.problem != self.status.problem or not status.connected):
            self._lines.say(logging.WARNING, status.problem, time.monotonic())
        self.status = status

    def _trouble(self, now_s: float) -> str | None:
        """What is wrong although there is a connection."""
        return self._rival if self._patience.rival(now_s) else self._session.blame.problem(now_s)

    def _one_connection(self) -> None:
        """From CONNECT until the connection ends (BrokerError) or the publisher is closed."""
        self._session.connecting()
        connection = connect(self._settings, self._client_id, self._will(), self._level)
        self._level, self._connected_s = connection.level, time.monotonic()
        self._session.connected(self._connected_s)
        self._report(Status(connected=True, problem=self._trouble(self._connected_s)))
        self._answered.set()
        self._say_connected(connection)
        try:
            while not self._stop.is_set():
                connection.turn(POLL_S if self._exchange(connection) == 0 else 0.0)
            self._session.goodbye(connection)
            self._report(Status())
        except HungUpError as error:
            self._session.settle(connection)  # what arrived together with the end counts
            self._session.blame.ended(self._session.backlog.inflight.values(), error.reason, time.monotonic())
            raise
        finally:
            connection.drop()
            self._session.settle(connection)

    def _say_connected(self, connection: Connection) -> None:
        line = f"broker {connection.where}: connected with MQTT {connection.level} as {self._client_id}"
        level, more = (logging.INFO, "") if connection.level == "5" else (logging.WARNING, NO_REASONS)
        self._lines.say(level, line + more, self._connected_s)

    def _exchange(self, connection: Connection) -> int:
        """Mark what was acknowledged, send what is next; a disk that fails does not cost the connection."""
        try:
            self._session.settle(connection)
            said = self._session.say(connection)
        except StoreError as error:
            self._report(Status(True, False, str(error)))
            connection.turn(STORE_PAUSE_S)
            return 0
        trouble = self._trouble(time.monotonic())
        if trouble != self.status.problem:
            self._report(Status(connected=True, problem=trouble))
        return said

    def _will(self) -> Will:
        message = self._session.state("offline", "connection lost")
        return Will(topic_of(message, self.letterhead.site), encode(message))
