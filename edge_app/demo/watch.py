"""An independent MQTT subscriber: prints matches as the broker delivers them.

    edge-app watch localhost:1883

It shares nothing with the application but the contract and the bound on what is read: a process, a connection and a
client of its own. It works with any broker and any number of nodes. Repeats are dropped by event_id, as every
subscriber should. The demo runs it with `--log`, and counts and scores nothing but what it wrote there.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from edge_app.bus import CHECK_PATH, MqttSettings, TlsSettings, configuration_problems
from edge_app.bus.settings import DEFAULT_PORT, DEFAULT_TLS_PORT, password, tls_context
from edge_app.contract.errors import MessageError
from edge_app.contract.messages import NodeState
from edge_app.contract.topics import ROOT, Message, decode
from edge_app.demo.watch_lines import LiveLines, PlainLines
from edge_app.errors import BrokerError, ConfigurationError, EdgeError, StoreError

TLS_FILES = {
    "ca": "certificates that judge the broker",
    "certificate": "this client's certificate",
    "key": "its private key",
}
LARGEST_BYTES = 1_000_000  # anybody may publish below the topic; what is larger ends the watching, and costs no memory
ANSWER_S = 10.0
TURN_S = 0.1


def parse_address(text: str, where: str = "--broker", port: int = DEFAULT_PORT) -> tuple[str, int]:
    """`host`, `host:port` or `[IPv6]:port`; `port` where none is said. Raises ConfigurationError."""
    found = re.fullmatch(r"(?:\[([^\[\]/@\s]+)\]|([^:\[\]/@\s]+))(?::([0-9]{1,5}))?", text, re.ASCII)
    if found is None or not 1 <= int(found[3] or port) <= 65535:
        came = "one with a login" if "@" in text else repr(text)  # which must not reach a log
        raise ConfigurationError([f"expected host:port, as in localhost:1883 or [::1]:1883, got {came}"], where)
    return found[1] or found[2], int(found[3] or port)


def address_text(host: str, port: int) -> str:
    """What `parse_address` reads again."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Subscriber:
    """One connection that listens below `topic`. Belongs to the thread that calls `turn`."""

    def __init__(self, settings: MqttSettings, topic: str) -> None:
        """Returns when the broker has confirmed the subscription. Raises BrokerError."""
        from edge_app.bus.client import bounded_client

        self._where = settings.where()
        self._inbox: list[tuple[str, bytes, bool]] = []
        self._refusal: str | None = None
        self._subscribed = False
        # 3.1.1, because every broker speaks it, the embedded one too.
        self._client = bounded_client("3.1.1", most_bytes=LARGEST_BYTES)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = lambda _client, _data, m: self._inbox.append((m.topic, bytes(m.payload), m.retain))
        self._topic = topic
        if settings.username is not None:
            self._client.username_pw_set(settings.username, password(settings))
        if settings.tls is not None:
            self._client.tls_set_context(tls_context(settings.tls))
        try:
            self._client.connect(settings.host, settings.port or DEFAULT_PORT)
        except (OSError, ValueError) as error:
            raise BrokerError(f"broker {self._where}: cannot connect: {error}") from error
        until_s = time.monotonic() + ANSWER_S
        while not self._subscribed:
            self._turn()
            if time.monotonic() > until_s:
                raise BrokerError(f"broker {self._where}: no answer within {ANSWER_S:g} s")

    def turn(self) -> list[tuple[str, bytes, bool]]:
        """What arrived within the next tenth of a second: (topic, payload, retained). Raises BrokerError."""
        self._turn()
        inbox, self._inbox = self._inbox, []
        return inbox

    def close(self) -> None:
        self._client.disconnect()

    def _turn(self) -> None:
        code = self._client.loop(TURN_S)
        if self._refusal:
            raise BrokerError(f"broker {self._where}: refused this subscriber: {self._refusal}")
        if code:
            raise BrokerError(f"broker {self._where}: {self._client.oversize() or 'the connection ended'}")

    def _on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            client.subscribe(self._topic, qos=1)

    def _on_subscribe(self, _client: Any, _data: Any, _number: int, reasons: Any, _properties: Any) -> None:
        self._refusal = next((str(reason) for reason in reasons if reason.is_failure), None)
        self._subscribed = self._refusal is None


class Ledger:
    """Decodes, drops repeats, counts, and writes down what arrived, one JSON line each."""

    def __init__(self, log: IO[str] | None) -> None:
        self._log = log
        self._seen: set[str] = set()
        self.counts: Counter[str] = Counter()

    def take(self, topic: str, payload: bytes, retained: bool) -> Message | None:
        """The message when it is new and keeps the contract."""
        if topic.endswith(CHECK_PATH):  # `edge-app check` speaks to itself
            return None
        received_at_s = time.time()
        self.counts["messages"] += 1
        try:
            message = decode(topic, payload)
        except MessageError:
            self.counts["invalid"] += 1
            return None
        if self._log is not None:
            line = {"received_at_s": received_at_s, "retained": retained, "topic": topic}
            self._log.write(json.dumps({**line, "payload": json.loads(payload)}) + "\n")
            self._log.flush()
        if message.event_id in self._seen:
            self.counts["repeats"] += 1
            return None
        self._seen.add(message.event_id)
        return message


def watch(
    subscriber: Subscriber, ledger: Ledger, lines: LiveLines | PlainLines, stop: threading.Event, until_offline: bool
) -> None:
    """Print what arrives, until stopped, or (`until_offline`) until a node says goodbye."""
    while not stop.is_set():
        for topic, payload, retained in subscriber.turn():
            message = ledger.take(topic, payload, retained)
            if message is None:
                continue
            lines.show(message)
            if until_offline and not retained and isinstance(message, NodeState) and message.state == "offline":
                stop.set()
        lines.refresh(ledger.counts)


def stop_on_signals(until_offline: bool) -> threading.Event:
    """Set by SIGTERM and Ctrl-C. Ctrl-C goes to everybody in a terminal: a goodbye waited for is still to be heard."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN if until_offline else lambda *_: stop.set())
    return stop


def main(arguments: list[str] | None = None, prog: str = "python -m edge_app.demo.watch") -> int:
    parser = argparse.ArgumentParser(prog=prog, description="Prints matches as they arrive.")
    parser.add_argument("broker", help="host:port of the MQTT broker")
    parser.add_argument("--topic", default=f"{ROOT}/#", help="listen below this topic only (default: %(default)s)")
    parser.add_argument("--user", help="name to log in with")
    parser.add_argument("--password-env", help="environment variable that holds the password")
    parser.add_argument("--tls", action="store_true", help="encrypt; the system's certificates judge the broker")
    for name, what in TLS_FILES.items():
        parser.add_argument(f"--{name}", type=Path, help=f"encrypt; {what} (PEM)")
    parser.add_argument("--plain", action="store_true", help="plain lines, also on a terminal")
    parser.add_argument("--log", type=Path, help="write every message to this file; made when listening has begun")
    parser.add_argument("--until-offline", action="store_true", help="end when a node says goodbye")
    options = parser.parse_args(arguments)
    stop = stop_on_signals(options.until_offline)
    plain = options.plain or not sys.stdout.isatty()
    try:
        with ExitStack() as stack:
            subscriber = Subscriber(_settings(options), options.topic)
            stack.callback(subscriber.close)
            log = stack.enter_context(_opened(options.log)) if options.log else None
            lines = PlainLines() if plain else stack.enter_context(LiveLines(f"{options.topic} at {options.broker}"))
            watch(subscriber, Ledger(log), lines, stop, options.until_offline)
    except EdgeError as error:
        print(f"watch: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _settings(options: argparse.Namespace) -> MqttSettings:
    """Where to listen, and as whom. Raises ConfigurationError with all mistakes."""
    files = {name: path for name in TLS_FILES if (path := getattr(options, name))}
    tls = TlsSettings(**files) if files or options.tls else None
    host, port = parse_address(options.broker, "broker", DEFAULT_TLS_PORT if tls else DEFAULT_PORT)
    settings = MqttSettings(host=host, port=port, username=options.user, password_env=options.password_env, tls=tls)
    problems = configuration_problems(settings)
    if options.password_env and options.user is None:
        problems.append("--password-env: a password needs --user, the name to log in with")
    if problems:
        raise ConfigurationError(problems, "watch")
    return settings


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("x", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; --log takes a new file") from error


if __name__ == "__main__":
    sys.exit(main())
