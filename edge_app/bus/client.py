"""paho's client with a bound on what it reads: a packet that claims 256 MB ends the connection, and costs nothing."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_app.bus.settings import Level

KEEPALIVE = int(paho.MQTT_ERR_KEEPALIVE)  # the code for a broker that fell silent


class BoundedClient(paho.Client):
    """Asks for no packet above `most_bytes`."""

    most_bytes = 64 * 1024  # a message has at most 16 kB; the rest is room for its topic and properties
    oversize_bytes: int | None = None  # what a packet above the bound claimed

    def _sock_recv(self, bufsize: int) -> bytes:
        """paho asks for all that is missing of a packet at once, and keeps what it got until it has all."""
        if bufsize > self.most_bytes:
            self.oversize_bytes = bufsize
            raise ConnectionError(f"a packet of {bufsize} bytes; at most {self.most_bytes} are read")
        return super()._sock_recv(bufsize)

    def oversize(self) -> str | None:
        """Why the connection ended, where it was this."""
        if self.oversize_bytes is None:
            return None
        return f"the broker sent a packet of {self.oversize_bytes} bytes; at most {self.most_bytes} are read"


def bounded_client(level: Level, client_id: str = "", most_bytes: int = BoundedClient.most_bytes) -> BoundedClient:
    """A client that connects when it is told to, and not again by itself."""
    five = level == "5"
    client = BoundedClient(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if five else True,
        protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
    )
    client.most_bytes = most_bytes
    return client


def error_string(code: Any) -> str:
    """paho's words for what a call returned."""
    return str(paho.error_string(code))


def properties(packet: str, **values: Any) -> Any:
    """MQTT 5 properties of a packet, by their names in the standard without spaces."""
    found = Properties(getattr(PacketTypes, packet))  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(found, name, value)
    return found
