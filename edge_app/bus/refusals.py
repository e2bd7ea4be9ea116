"""What a broker's reason means for the person who has to mend it. Reasons are MQTT 5's; 3.1.1's are translated."""

from __future__ import annotations

NOT_NOW = ("Server unavailable", "Server busy", "Server shutting down", "Quota exceeded", "Connection rate exceeded")
TAKEN_OVER = "Session taken over"
# Reasons to end a connection that no message gave.
NOBODYS_FAULT = (
    *NOT_NOW, TAKEN_OVER, "Normal disconnection", "Keep alive timeout", "Administrative action", "Maximum connect time",
    "Use another server", "Server moved",
)  # fmt: skip

_LOGIN = "check mqtt.username, the password in mqtt.password_env, the certificate in mqtt.tls, and the broker's ACL"
_MOVED = "set mqtt.host to the server that its operator names"

_CONNECT = {
    "Bad user name or password": _LOGIN,
    "Not authorized": _LOGIN,
    "Banned": _LOGIN,
    "Bad authentication method": _LOGIN,
    "Client identifier not valid": "set mqtt.client_id to one that the broker accepts",
    "Retain not supported": "states are retained messages: allow them at the broker (Mosquitto: retain_available true)",
    "QoS not supported": "messages need QoS 1: allow that at the broker (Mosquitto: max_qos 1)",
    "Packet too large": "raise the broker's limit to at least 20000 bytes (Mosquitto: max_packet_size 20000)",
    "Topic name invalid": "the last will goes to crosslane/v1/{site}/{node}/state: allow that topic at the broker",
    "Payload format invalid": "the last will is JSON: look into the broker's log why it is not accepted",
    "Use another server": _MOVED,
    "Server moved": _MOVED,
}

_PUBLISH = {
    "Not authorized": "allow the topic in the broker's ACL",
    "Quota exceeded": "raise the broker's quota for this client",
    "Packet too large": "raise the broker's limit for a message (Mosquitto: max_packet_size)",
    "Topic name invalid": "allow the topic at the broker",
    "Payload format invalid": "a plugin of the broker judges payloads: look into the broker's log",
}


def connect_advice(reason: str) -> str:
    """What to do about a refused CONNECT."""
    return _CONNECT.get(reason, "look into the broker's log; mqtt.protocol: 3.1.1 may work")


def publish_advice(reason: str) -> str:
    """What to do about a message that was not taken."""
    return _PUBLISH.get(reason, "look into the broker's log")
