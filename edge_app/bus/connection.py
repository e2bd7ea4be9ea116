"""An accepted connection.

paho keeps unacknowledged messages in memory and would send them again by itself after a reconnect. The outbox does
that already, and survives a kill; so every connection gets a new paho client, and nothing is sent behind our back.
"""

from __future__ import annotations

import logging
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_app.bus.refusals import NOBODYS_FAULT, NOT_NOW, TAKEN_OVER, connect_advice
from edge_app.bus.settings import Level, MqttSettings, password, tls_context
from edge_app.errors import BrokerError, BrokerRefusedError

if TYPE_CHECKING:
    from edge_app.bus.client import BoundedClient

log = logging.getLogger(__name__)

ALL_INFLIGHT = 65_535  # what a broker that names no receive maximum accepts


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this connection dies."""

    topic: str
    payload: bytes


class TakenOverError(BrokerError):
    """The broker gave this client's id to another connection."""


class HungUpError(BrokerError):
    """The broker ended the connection, perhaps because of what it was sent. `reason` is its own, where it gave one."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"broker {where}: connection lost: {reason}")
        self.reason = reason


class _LevelRefusedError(BrokerError):
    """The broker does not speak this MQTT version, or hung up or fell silent on being asked to."""


class Connection:
    """Belongs to one thread, which calls `turn` all the time."""

    def __init__(self, settings: MqttSettings, level: Level, client_id: str, will: Will | None = None) -> None:
        """Raises BrokerError when nobody answers, BrokerRefusedError when the broker says no."""
        self.level, self.where, self.client_id = level, settings.where(), client_id
        self.receive_maximum = ALL_INFLIGHT
        self.packet_maximum: int | None = None
        """The largest packet that the broker takes, in bytes; None when it names none."""
        self._answer: Any = None  # reason code of the CONNACK
        self._limits: Any = None  # its properties
        self._ended: str | None = None
        self._acknowledged: list[tuple[int, str | None]] = []
        self._heard: list[tuple[str, bytes]] = []
        self._listens = False
        self._client = self._make_client(settings, client_id)
        if will:
            self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        try:
            self._connect(settings)
            self._await_answer(settings)
            self._judge_answer(settings)
        except BaseException:
            self.drop()
            raise

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, expiry_s: int | None = None) -> int:
        """Hand one message to the network; returns its number, which `acknowledged` names again (QoS 1)."""
        from edge_app.bus.client import properties

        extra = None
        if self.level == "5" and expiry_s is not None:
            extra = properties("PUBLISH", MessageExpiryInterval=expiry_s)
        return self._client.publish(topic, payload, qos, retain, extra).mid

    def excess(self, topic: str, payload: bytes, expiry_s: int | None = None) -> str | None:
        """Why the broker cannot take this message (QoS 1), where its CONNACK named a limit for packets."""
        if self.packet_maximum is None:  # always so with MQTT 3.1.1
            return None
        topic_length, number, properties = 2, 2, 1 if expiry_s is None else 6
        size = topic_length + len(topic.encode()) + number + properties + len(payload)
        size += 1 + max(-(-size.bit_length() // 7), 1)  # the fixed header
        return (
            None if size <= self.packet_maximum else f"above {self.packet_maximum} bytes, the largest packet it takes"
        )

    def subscribe(self, topic: str) -> int:
        """Ask to hear `topic`; returns a number, which `acknowledged` names again."""
        self._listens = True
        return self._client.subscribe(topic, qos=1)[1] or 0

    def turn(self, timeout_s: float) -> None:
        """Send and receive for at most `timeout_s`. Raises BrokerError when the connection has ended."""
        from edge_app.bus.client import KEEPALIVE, error_string

        code = self._client.loop(timeout_s)
        if not self._ended and not code:
            return
        if self._ended == TAKEN_OVER:
            raise TakenOverError(
                f"broker {self.where}: another client uses the id {self.client_id!r} as well;"
                " give each node an mqtt.client_id of its own"
            )
        why = self._client.oversize()
        if why is None:
            why = error_string(code) if self._ended in (None, "Unspecified error") else self._ended
            if why not in NOBODYS_FAULT and code != KEEPALIVE:
                raise HungUpError(self.where, why)
        raise BrokerError(f"broker {self.where}: connection lost: {why}")

    def acknowledged(self) -> list[tuple[int, str | None]]:
        """The numbers acknowledged since the last call, each with the broker's objection, or None when it took it."""
        found, self._acknowledged = self._acknowledged, []
        return found

    def heard(self) -> list[tuple[str, bytes]]:
        """(topic, payload) of what came on subscribed topics since the last call."""
        found, self._heard = self._heard, []
        return found

    def close(self) -> None:
        """Say goodbye: the broker then forgets the will."""
        self._client.disconnect()
        self._client.loop(0.1)

    def drop(self) -> None:
        """Hang up without a word, unless `close` was called before: the broker then publishes the will."""
        socket = self._client.socket()
        if socket is not None:
            socket.close()

    def _make_client(self, settings: MqttSettings, client_id: str) -> BoundedClient:
        from edge_app.bus.client import bounded_client  # paho is loaded at the first connection

        client = bounded_client(self.level, client_id)
        client.connect_timeout = settings.connect_timeout_s
        client.max_inflight_messages_set(settings.max_inflight + 100)  # the caller counts; room for held messages
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        if settings.username is not None:
            client.username_pw_set(settings.username, password(settings))
        if settings.tls:
            client.tls_set_context(tls_context(settings.tls))
            client.tls_insecure_set(not settings.tls.verify_hostname)  # the host name only, never the signature
        return client

    def _connect(self, settings: MqttSettings) -> None:
        from edge_app.bus.client import properties

        host, port = settings.where().rsplit(":", 1)
        try:
            if self.level == "5":
                ours = properties(
                    "CONNECT",
                    SessionExpiryInterval=settings.session_expiry_s,
                    MaximumPacketSize=self._client.most_bytes,
                )
                self._client.connect(host, int(port), settings.keepalive_s, clean_start=False, properties=ours)
            else:
                self._client.connect(host, int(port), settings.keepalive_s)
        except ssl.SSLError as error:
            raise BrokerError(f"broker {self.where}: TLS failed: {error}") from error
        except (OSError, ValueError) as error:
            raise BrokerError(f"broker {self.where}: cannot connect: {error}") from error

    def _await_answer(self, settings: MqttSettings) -> None:
        until_s = time.monotonic() + settings.connect_timeout_s
        while self._answer is None:
            code = self._client.loop(0.05)
            if self._answer is None and (code or self._ended):
                if oversize := self._client.oversize():
                    raise BrokerError(f"broker {self.where}: {oversize}")
                raise _LevelRefusedError(f"broker {self.where}: hung up without an answer to MQTT {self.level}")
            if time.monotonic() > until_s:
                raise _LevelRefusedError(f"broker {self.where}: no answer within {settings.connect_timeout_s:g} s")

    def _judge_answer(self, settings: MqttSettings) -> None:
        reason = self._answer.getName() if self._answer.is_failure else None
        if getattr(self._limits, "RetainAvailable", 1) == 0:
            reason = reason or "Retain not supported"
        if getattr(self._limits, "MaximumQoS", 2) == 0:
            reason = reason or "QoS not supported"
        if reason is None:
            return
        if reason == "Unsupported protocol version":
            raise _LevelRefusedError(f"broker {self.where}: does not speak MQTT {self.level}")
        if reason in NOT_NOW:
            raise BrokerError(f"broker {self.where}: not now: {reason}")
        raise BrokerRefusedError(
            f"broker {self.where}: refused client {self.client_id!r} as user {settings.username!r}: {reason};"
            f" {connect_advice(reason)}"
        )

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, limits: Any) -> None:
        self._answer, self._limits = reason, limits
        self.receive_maximum = getattr(limits, "ReceiveMaximum", ALL_INFLIGHT)
        self.packet_maximum = getattr(limits, "MaximumPacketSize", None)

    def _on_publish(self, _client: Any, _userdata: Any, number: int, reason: Any, _properties: Any) -> None:
        self._acknowledged.append((number, str(reason) if reason.is_failure else None))

    def _on_subscribe(self, _client: Any, _userdata: Any, number: int, reasons: Any, _properties: Any) -> None:
        self._acknowledged.append((number, next((str(one) for one in reasons if one.is_failure), None)))

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        if self._listens:
            self._heard.append((message.topic, bytes(message.payload)))

    def _on_disconnect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._ended = str(reason)


def connect(
    settings: MqttSettings, client_id: str, will: Will | None = None, preferred: Level | None = None
) -> Connection:
    """Connect with the configured MQTT version; with `auto` the preferred one first (what worked last time), or 5.

    Raises BrokerError or BrokerRefusedError; ConfigurationError for TLS files or passwords that are not there.
    """
    if settings.protocol != "auto":
        return Connection(settings, settings.protocol, client_id, will)
    first: Level = preferred or "5"
    second: Level = "3.1.1" if first == "5" else "5"
    try:
        return Connection(settings, first, client_id, will)
    except _LevelRefusedError as error:
        log.info("%s; trying MQTT %s", error, second)
        return Connection(settings, second, client_id, will)
