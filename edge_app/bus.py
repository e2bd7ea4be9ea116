"""One MQTT connection, from CONNECT until it ends; the only importer of paho.

paho keeps unacknowledged messages in memory and would send them again by itself after a reconnect. The outbox does
that already, and survives a kill; so every connection gets a new paho client, and nothing is sent behind our back.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edge_app.errors import BrokerError, BrokerRefusedError, ConfigurationError
from edge_app.settings import FilePath, Settings

if TYPE_CHECKING:
    import paho.mqtt.client as paho

log = logging.getLogger(__name__)

Level = Literal["5", "3.1.1"]
DEFAULT_PORT, DEFAULT_TLS_PORT = 1883, 8883
NOT_NOW = ("Server unavailable", "Server busy", "Quota exceeded", "Connection rate exceeded")  # worth another try
ALL_INFLIGHT = 65_535  # what a broker that names no receive maximum accepts


class TlsSettings(Settings):
    ca: FilePath | None = None
    """Certificates (PEM) that may sign the broker's; the system's when absent."""
    certificate: FilePath | None = None
    """This node's certificate (PEM), where the broker asks for one."""
    key: FilePath | None = None
    """The private key (PEM) of that certificate."""
    verify_hostname: bool = True
    """False accepts a broker certificate issued for another host name. Its signature is always checked."""


class MqttSettings(Settings):
    host: str = "localhost"
    """Address of the broker."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Port of the broker; 1883, or 8883 with TLS, when absent."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """MQTT version; auto tries 5 and falls back to 3.1.1."""
    username: str | None = None
    """Name to log in with; none when absent."""
    password_env: str | None = None
    """Name of the environment variable that holds the password. The password itself never stands in a file."""
    client_id: str | None = Field(default=None, min_length=1, max_length=128)
    """Must differ for each client of a broker; `crosslane-{site}-{node}` when absent."""
    keepalive_s: int = Field(default=30, ge=5, le=3600)
    """A connection that is silent for 1.5 times as long counts as lost."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """How long to wait for the broker's answer."""
    session_expiry_s: int = Field(default=3600, ge=0)
    """How long the broker keeps the session of a lost connection (MQTT 5)."""
    reconnect_min_s: float = Field(default=0.5, gt=0)
    """Pause after the first failed connection; it doubles with each further one."""
    reconnect_max_s: float = Field(default=30.0, gt=0)
    """Longest pause between two attempts."""
    max_inflight: int = Field(default=20, ge=1, le=1000)
    """Messages sent and not yet acknowledged, at most."""
    backlog_per_s: float = Field(default=100.0, gt=0)
    """Pace at which a backlog is sent after an interruption."""
    historical_after_s: float = Field(default=10.0, gt=0)
    """Messages that waited longer than this are marked historical and paced."""
    tls: TlsSettings | None = None
    """Encrypt, and check the broker's certificate. There is no way back to plain text when this fails."""

    def where(self) -> str:
        return f"{self.host}:{self.port or (DEFAULT_TLS_PORT if self.tls else DEFAULT_PORT)}"


def password(settings: MqttSettings) -> str | None:
    """Raises ConfigurationError when the named environment variable is not set."""
    if settings.password_env is None:
        return None
    value = os.environ.get(settings.password_env)
    if value is None:
        raise ConfigurationError([f"mqtt.password_env: environment variable {settings.password_env} is not set"])
    return value


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer with a verified broker. Raises ConfigurationError for files that are missing or not PEM."""
    files = {"ca": settings.ca, "certificate": settings.certificate, "key": settings.key}
    problems = [f"mqtt.tls.{name}: no file {path}" for name, path in files.items() if path and not path.is_file()]
    if settings.key and not settings.certificate:
        problems.append("mqtt.tls.key: a key without mqtt.tls.certificate; give both or neither")
    if problems:
        raise ConfigurationError(problems)
    try:
        context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError([f"mqtt.tls: {error}; ca, certificate and key must be PEM files"]) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = settings.verify_hostname
    return context


def configuration_problems(settings: MqttSettings) -> list[str]:
    """What can be wrong without asking the broker, one line each."""
    problems: list[str] = []
    for look in (lambda: password(settings), lambda: settings.tls and tls_context(settings.tls)):
        try:
            look()
        except ConfigurationError as error:
            problems += error.problems
    return problems


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this connection dies."""

    topic: str
    payload: bytes


class _LevelRefusedError(BrokerError):
    """The broker does not speak this MQTT version, or hung up or fell silent on being asked to."""


class Connection:
    """An accepted connection. Belongs to one thread, which calls `turn` all the time."""

    def __init__(self, settings: MqttSettings, level: Level, client_id: str, will: Will | None = None) -> None:
        """Raises BrokerError when nobody answers, BrokerRefusedError when the broker says no."""
        self.level, self.where = level, settings.where()
        self.receive_maximum = ALL_INFLIGHT
        self._answer: Any = None  # reason code of the CONNACK
        self._ended: str | None = None
        self._acknowledged: list[tuple[int, str | None]] = []
        self._client = self._make_client(settings, client_id)
        if will:
            self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        try:
            self._connect(settings)
            self._await_answer(settings, client_id)
        except BaseException:
            self.drop()
            raise

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, expiry_s: int | None = None) -> int:
        """Hand one message to the network; returns its number, which `acknowledged` names again (QoS 1)."""
        properties = None
        if self.level == "5" and expiry_s is not None:
            properties = _properties("PUBLISH", MessageExpiryInterval=expiry_s)
        return self._client.publish(topic, payload, qos, retain, properties).mid

    def turn(self, timeout_s: float) -> None:
        """Send and receive for at most `timeout_s`. Raises BrokerError when the connection has ended."""
        code = self._client.loop(timeout_s)
        if self._ended or code:
            why = _paho().error_string(code) if self._ended in (None, "Unspecified error") else self._ended
            raise BrokerError(f"broker {self.where}: connection lost: {why}")

    def acknowledged(self) -> list[tuple[int, str | None]]:
        """The numbers acknowledged since the last call, each with the broker's objection, or None when it took it."""
        found, self._acknowledged = self._acknowledged, []
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

    def _make_client(self, settings: MqttSettings, client_id: str) -> paho.Client:
        five = self.level == "5"
        client: paho.Client = _paho().Client(
            _paho().CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if five else True,
            protocol=_paho().MQTTv5 if five else _paho().MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = settings.connect_timeout_s
        client.max_inflight_messages_set(settings.max_inflight + 100)  # the caller counts; room for held messages
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        if settings.username is not None:
            client.username_pw_set(settings.username, password(settings))
        if settings.tls:
            client.tls_set_context(tls_context(settings.tls))
            client.tls_insecure_set(not settings.tls.verify_hostname)  # the host name only, never the signature
        return client

    def _connect(self, settings: MqttSettings) -> None:
        host, port = settings.where().rsplit(":", 1)
        try:
            if self.level == "5":
                expiry = _properties("CONNECT", SessionExpiryInterval=settings.session_expiry_s)
                self._client.connect(host, int(port), settings.keepalive_s, clean_start=False, properties=expiry)
            else:
                self._client.connect(host, int(port), settings.keepalive_s)
        except ssl.SSLError as error:
            raise BrokerError(f"broker {self.where}: TLS failed: {error}") from error
        except (OSError, ValueError) as error:
            raise BrokerError(f"broker {self.where}: cannot connect: {error}") from error

    def _await_answer(self, settings: MqttSettings, client_id: str) -> None:
        until_s = time.monotonic() + settings.connect_timeout_s
        while self._answer is None:
            code = self._client.loop(0.05)
            if self._answer is None and (code or self._ended):
                raise _LevelRefusedError(f"broker {self.where}: hung up without an answer to MQTT {self.level}")
            if time.monotonic() > until_s:
                raise _LevelRefusedError(f"broker {self.where}: no answer within {settings.connect_timeout_s:g} s")
        if not self._answer.is_failure:
            return
        if self._answer.getName() == "Unsupported protocol version":
            raise _LevelRefusedError(f"broker {self.where}: does not speak MQTT {self.level}")
        if self._answer.getName() in (
            "Server unavailable",
            "Server busy",
            "Quota exceeded",
            "Connection rate exceeded",
        ):
            raise BrokerError(f"broker {self.where}: not now: {self._answer}")
        raise BrokerRefusedError(
            f"broker {self.where}: refused client {client_id!r} as user {settings.username!r}: {self._answer};"
            " check mqtt.username, the password in mqtt.password_env, and the broker's ACL"
        )

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, properties: Any) -> None:
        self._answer = reason
        self.receive_maximum = getattr(properties, "ReceiveMaximum", ALL_INFLIGHT)

    def _on_publish(self, _client: Any, _userdata: Any, number: int, reason: Any, _properties: Any) -> None:
        self._acknowledged.append((number, str(reason) if reason.is_failure else None))

    def _on_disconnect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._ended = str(reason)


def _paho() -> Any:
    """Loaded at the first connection, so that reading a configuration stays fast."""
    import paho.mqtt.client

    return paho.mqtt.client


def _properties(packet: str, **values: int) -> Any:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(getattr(PacketTypes, packet))  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


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


def check_broker(settings: MqttSettings, client_id: str) -> str:
    """Connect once, as another client than the running node, and leave; what was found in one line. Raises as `connect`
    does, and with every `configuration_problems`."""
    if problems := configuration_problems(settings):
        raise ConfigurationError(problems)
    connect(settings, client_id + "-check").close()
    return f"{settings.where()} answers"
