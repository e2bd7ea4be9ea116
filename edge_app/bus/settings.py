"""How to reach a broker: address, login, TLS, pace; and what can be wrong with that without asking anybody."""

from __future__ import annotations

import os
import ssl
from typing import Literal, TypeAlias

from pydantic import Field

from edge_app.errors import ConfigurationError
from edge_app.settings import FilePath, Settings

Level: TypeAlias = Literal["5", "3.1.1"]
DEFAULT_PORT, DEFAULT_TLS_PORT = 1883, 8883


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
    refused_min_s: float = Field(default=60.0, gt=0)
    """Pause after the broker refused this client (password, certificate, ACL); it doubles each time, so that no account
    is locked."""
    refused_max_s: float = Field(default=600.0, gt=0)
    """Longest pause after a refusal, and between two clients that use one id."""
    offers: int = Field(default=5, ge=2, le=100)
    """A message that the broker did not take so many times, but others, is put aside and said in a `gap`."""
    offer_again_s: float = Field(default=5.0, gt=0)
    """Pause before a message that the broker did not take is offered again; it doubles each time, up to ten minutes."""
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
