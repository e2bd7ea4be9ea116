"""One MQTT connection, from CONNECT until it ends; the only room that imports paho."""

from edge_app.bus.check import CHECK_PATH, check_broker, check_topic
from edge_app.bus.connection import Connection, HungUpError, TakenOverError, Will, connect
from edge_app.bus.refusals import publish_advice
from edge_app.bus.settings import Level, MqttSettings, TlsSettings, configuration_problems

__all__ = [
    "CHECK_PATH",
    "Connection",
    "HungUpError",
    "Level",
    "MqttSettings",
    "TakenOverError",
    "TlsSettings",
    "Will",
    "check_broker",
    "check_topic",
    "configuration_problems",
    "connect",
    "publish_advice",
]
