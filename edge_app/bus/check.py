"""Asks the broker once, as `edge-app check` does: connect, publish below the node's own topics, hear it."""

from __future__ import annotations

import secrets
import time

from edge_app.bus.connection import Connection, connect
from edge_app.bus.refusals import publish_advice
from edge_app.bus.settings import MqttSettings, configuration_problems
from edge_app.contract.topics import PAYLOAD_LIMIT_BYTES, ROOT
from edge_app.errors import BrokerError, BrokerRefusedError, ConfigurationError

ECHO_S = 3.0
CHECK_PATH = "/event/check"
NO_REASONS = "MQTT 3.1.1, which says nothing of messages that are denied"


def check_topic(site: str, node: str) -> str:
    """Where the check speaks: beside the facts, so that the same line of an ACL allows or denies both. No message of
    the contract goes there, and readers ignore topics that they do not know."""
    return f"{ROOT}/{site}/{node}{CHECK_PATH}"


def check_broker(settings: MqttSettings, client_id: str, topic: str) -> str:
    """Connect once, as another client than the running node, publish on `topic` (QoS 1, not retained), hear it, leave.

    Returns what was found in one line. Raises as `connect` does, BrokerRefusedError when the broker does not take the
    message, BrokerError when it falls silent, and ConfigurationError with every `configuration_problems`.
    """
    if problems := configuration_problems(settings):
        raise ConfigurationError(problems)
    settings = settings.model_copy(update={"session_expiry_s": 0})  # leave nothing behind
    connection = connect(settings, client_id + "-check")
    try:
        found = [f"{connection.where} answers", _echo(connection, topic)]
    finally:
        connection.close()
    if connection.level == "3.1.1":
        found.insert(1, NO_REASONS)
    most = connection.packet_maximum
    if most is not None and most < PAYLOAD_LIMIT_BYTES + len(topic) + 20:
        found.append(
            f"it takes packets of at most {most} bytes: larger messages would be put aside, up to 16 kB is usual"
        )
    return "; ".join(found)


def _echo(connection: Connection, topic: str) -> str:
    """What came of one message to ourselves."""
    said = secrets.token_hex(8).encode()
    deaf = _await(connection, connection.subscribe(topic))
    objection = _await(connection, connection.publish(topic, b'{"check":"%s"}' % said, qos=1, retain=False))
    if objection:
        raise BrokerRefusedError(
            f"broker {connection.where}: does not take {topic}: {objection}; {publish_advice(objection)}"
        )
    until_s = time.monotonic() + ECHO_S
    while deaf is None and time.monotonic() < until_s:
        if any(said in payload for _, payload in connection.heard()):
            return f"published on {topic} and heard it"
        connection.turn(0.05)
    why = f"the subscription was denied: {deaf}" if deaf else f"heard nothing within {ECHO_S:g} s"
    if connection.level == "5":  # its PUBACK would have said that the message was denied
        return f"published on {topic}; {why}, which a node does not need"
    raise BrokerRefusedError(
        f"broker {connection.where}: published on {topic}, but {why}; {NO_REASONS}."
        f" Allow this client to write and read there, as deploy/broker/acl does"
    )


def _await(connection: Connection, number: int) -> str | None:
    """The broker's objection to what has this number, None when it took it."""
    until_s = time.monotonic() + ECHO_S
    while time.monotonic() < until_s:
        connection.turn(0.05)
        for one, objection in connection.acknowledged():
            if one == number:
                return objection
    raise BrokerError(f"broker {connection.where}: no acknowledgement within {ECHO_S:g} s")
