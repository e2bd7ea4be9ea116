"""TLS fails closed: a broker that cannot be verified gets neither a password nor a message, and never plain text."""

import datetime
import ipaddress
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_app.bus import MqttSettings, TlsSettings, check_broker, configuration_problems
from edge_app.contract.messages import Match
from edge_app.contract.samples import golden_samples
from edge_app.delivery.outgoing import Letterhead
from edge_app.delivery.publish import Publisher
from edge_app.demo.broker import free_port
from edge_app.errors import BrokerError, ConfigurationError
from edge_app.store.store import Store

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority that lives as long as the test."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.ca = folder / f"{name}-ca.pem"
        self.certificate = self._sign(name, self.key.public_key(), NOW + DAY, None)
        self.ca.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name, until=NOW + DAY, host="127.0.0.1"):
        """Returns the paths of a certificate for this host and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, key_file = self.folder / f"{self.name}-{name}.pem", self.folder / f"{self.name}-{name}.key"
        signed = self._sign(name, key.public_key(), until, host)
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        key_file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
        )
        return certificate, key_file

    def _sign(self, name, public_key, until, host):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 2 * DAY)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        )
        if host:
            address = x509.IPAddress(ipaddress.ip_address(host))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "roads")


@pytest.fixture
def tls_broker(make_mosquitto, authority):
    """`tls_broker(certificate, key, lines)` → a Mosquitto with TLS, and the port of its plain listener."""

    def make(certificate, key, lines=""):
        plain = free_port()
        listener = f"cafile {authority.ca}\ncertfile {certificate}\nkeyfile {key}\n{lines}listener {plain} 127.0.0.1\n"
        return make_mosquitto(listener=listener).wait_for(plain), plain

    return make


def settings(port, **tls):
    return MqttSettings(host="127.0.0.1", port=port, tls=TlsSettings(**tls))


def test_facts_arrive_encrypted(tls_broker, authority, subscribe, tmp_path):
    broker, plain = tls_broker(*authority.issue("broker"))
    subscriber = subscribe(plain)
    store = Store(tmp_path / "s.db")
    letterhead = Letterhead("demo", "edge-1", store.boot_id)
    publisher = Publisher(store, settings(broker.port, ca=authority.ca), letterhead)
    publisher.start()
    assert publisher.await_answer(10)
    store.commit({}, [letterhead.row(golden_samples()["match"])])
    assert publisher.flush(10)
    subscriber.wait(lambda seen: seen.of(Match))
    publisher.close()
    store.close()


def test_a_watcher_logs_in_and_reads_what_is_encrypted(tls_broker, authority, tmp_path):
    """The real command against a broker that wants a name and a password; a wrong one and none are told."""
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "dashboard", "s3cret"], check=True)
    broker, _ = tls_broker(*authority.issue("broker"), lines=f"allow_anonymous false\npassword_file {passwords}\n")
    command = [sys.executable, "-m", "edge_app", "watch", f"127.0.0.1:{broker.port}", "--ca", authority.ca, "--plain"]
    login = [*command, "--user", "dashboard", "--password-env", "CROSSLANE_WATCH"]
    log = tmp_path / "watched.jsonl"
    right = {**os.environ, "CROSSLANE_WATCH": "s3cret"}
    with subprocess.Popen([*login, "--log", log], env=right, stdout=subprocess.DEVNULL) as watcher:
        until_s = time.monotonic() + 30
        while not log.exists():  # made when listening has begun
            assert watcher.poll() is None
            assert time.monotonic() < until_s
            time.sleep(0.05)
        watcher.terminate()
        assert watcher.wait(10) == 0
    for arguments, environment, code, said in (
        (login, {**os.environ, "CROSSLANE_WATCH": "wrong"}, 69, "refused this subscriber"),
        (login, os.environ, 78, "CROSSLANE_WATCH is not set"),
        ([*command, "--password-env", "HOME"], os.environ, 78, "needs --user"),
    ):
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def problem(settings):
    """What is wrong with this broker; nothing, where it takes us."""
    try:
        check_broker(settings, "c", "crosslane/v1/demo/c/event/check")
    except (BrokerError, ConfigurationError) as error:
        return str(error)
    return ""


def test_another_authority_an_expired_and_a_foreign_certificate_are_refused(tls_broker, authority, tmp_path):
    other = Authority(tmp_path, "strangers")
    broker, _ = tls_broker(*authority.issue("broker"))
    assert "certificate verify failed" in problem(settings(broker.port, ca=other.ca))
    assert "certificate verify failed" in problem(settings(broker.port))
    assert problem(settings(broker.port, ca=authority.ca)) == ""
    broker, _ = tls_broker(*authority.issue("late", until=NOW - DAY))
    assert "expired" in problem(settings(broker.port, ca=authority.ca))
    broker, _ = tls_broker(*authority.issue("elsewhere", host="10.0.0.1"))
    assert "IP address mismatch" in problem(settings(broker.port, ca=authority.ca))
    assert problem(settings(broker.port, ca=authority.ca, verify_hostname=False)) == ""
    wrong = settings(broker.port, ca=other.ca, verify_hostname=False)
    assert "certificate verify failed" in problem(wrong)


def test_a_node_certificate_is_sent_where_the_broker_asks_for_one(tls_broker, authority):
    broker, _ = tls_broker(*authority.issue("broker"), lines="require_certificate true\n")
    certificate, key = authority.issue("edge-1")
    assert problem(settings(broker.port, ca=authority.ca, certificate=certificate, key=key)) == ""
    assert problem(settings(broker.port, ca=authority.ca)) != ""


class Recorder:
    """Accepts connections, keeps the first byte of each, and hangs up or stays silent."""

    def __init__(self):
        self.first_bytes: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client:
                self.first_bytes.append(client.recv(1))

    def close(self):
        self._server.close()


def test_never_plain_text_when_tls_is_configured(authority, tmp_path):
    recorder, store = Recorder(), Store(tmp_path / "s.db")
    mqtt = settings(recorder.port, ca=authority.ca).model_copy(
        update={"reconnect_min_s": 0.02, "reconnect_max_s": 0.05, "username": "edge-1"}
    )
    publisher = Publisher(store, mqtt, Letterhead("demo", "edge-1", "1"))
    publisher.start()
    until_s = time.monotonic() + 10
    while len(recorder.first_bytes) < 8 and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not publisher.status.connected
    assert "TLS failed" in (publisher.status.problem or "") or "cannot connect" in (publisher.status.problem or "")
    publisher.close()
    store.close()
    recorder.close()
    assert len(recorder.first_bytes) >= 8
    assert set(recorder.first_bytes) == {b"\x16"}  # the first byte of a TLS handshake; plain MQTT begins with 0x10


def test_a_broker_without_tls_is_refused(mosquitto, authority):
    assert "broker" in problem(settings(mosquitto.port, ca=authority.ca))
    assert "New client connected" not in mosquitto.log()


def test_missing_and_wrong_files_are_listed_before_anything_is_sent(authority, tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_PASSWORD", raising=False)
    mqtt = MqttSettings(
        password_env="NO_SUCH_PASSWORD", tls=TlsSettings(ca=tmp_path / "no.pem", key=tmp_path / "no.key")
    )
    problems = configuration_problems(mqtt)
    assert len(problems) == 4
    assert "NO_SUCH_PASSWORD is not set" in problems[0]
    assert f"mqtt.tls.ca: no file {tmp_path / 'no.pem'}" in problems
    (tmp_path / "text.pem").write_text("hello")
    assert "PEM" in configuration_problems(MqttSettings(tls=TlsSettings(ca=tmp_path / "text.pem")))[0]
    assert configuration_problems(settings(1, ca=authority.ca)) == []
    assert "mqtt.tls.ca" in problem(settings(1, ca=tmp_path / "no.pem"))


@pytest.fixture
def sample_broker(make_mosquitto, authority, tmp_path):
    """Mosquitto as `deploy/broker` configures it, with this test's certificates."""
    folder = Path(__file__).parents[2] / "deploy" / "broker"
    certificate, key = authority.issue("broker")
    acl = tmp_path / "acl"
    acl.write_text((folder / "acl").read_text())
    acl.chmod(0o644)
    text = (folder / "mosquitto.conf").read_text()
    for there, here in {
        "/etc/mosquitto/crosslane/acl": acl,
        "/etc/mosquitto/crosslane/ca.pem": authority.ca,
        "/etc/mosquitto/crosslane/broker.pem": certificate,
        "/etc/mosquitto/crosslane/broker.key": key,
        "/var/lib/mosquitto/": f"{tmp_path}/",
    }.items():
        assert there in text
        text = text.replace(there, str(here))
    lines, listener = text.split("listener 8883\n")
    return make_mosquitto(lines, listener)


class Client:
    """A plain MQTT 5 client with a certificate: what does the broker let it say and hear?"""

    def __init__(self, broker, authority, name):
        import paho.mqtt.client as paho

        self.heard, self.answers = [], {}
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.tls_set(str(authority.ca), *map(str, authority.issue(name)))
        self._client.on_message = lambda _client, _userdata, message: self.heard.append(message.topic)
        self._client.on_publish = lambda _c, _u, number, reason, _p: self.answers.update({number: reason.is_failure})
        self._client.connect("127.0.0.1", broker.port)
        self._client.subscribe("crosslane/#", qos=1)
        self._client.loop_start()

    def may_say(self, topic):
        number = self._client.publish("crosslane/v1/demo/" + topic, b"{}", qos=1).mid
        until_s = time.monotonic() + 10
        while number not in self.answers and time.monotonic() < until_s:
            time.sleep(0.01)
        return not self.answers[number]

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def test_the_sample_acl_limits_a_node_to_its_own_subtree(sample_broker, authority):
    node, other, dashboard = (Client(sample_broker, authority, name) for name in ("edge-1", "edge-2", "dashboard"))
    time.sleep(0.3)
    own = ["state", "birth", "birth/2", "health", "camera/north/state", "event/match", "agg/od", "agg/flow/north"]
    assert all(node.may_say(f"edge-1/{path}") for path in own)
    assert not any(node.may_say(f"edge-2/{path}") for path in own)
    assert not any(node.may_say(f"edge-1/{path}") for path in ("cmd/forget", "sighting/north", "model/state"))
    assert not dashboard.may_say("edge-1/event/match")
    time.sleep(0.3)
    for client in (node, other, dashboard):
        client.close()
    assert node.heard == other.heard == []
    assert {topic.split("/", 4)[4] for topic in dashboard.heard} == set(own)
