"""A broker that refuses at the start, through the real commands: the node runs and tries again, `check` says so."""

import subprocess

import pytest
from edge_commands import simulated

from edge_app.contract.messages import Birth, Match, NodeState
from edge_app.demo.play import Play, raw_config

LOGIN = {"username": "edge-1", "password_env": "EDGE_PASSWORD", "refused_min_s": 0.5, "refused_max_s": 1.0}


@pytest.fixture
def passwords(tmp_path):
    """`passwords(right)` sets the password that the broker knows."""
    path = tmp_path / "passwords"

    def write(right):
        command = ["mosquitto_passwd", "-b", "-c", str(path), "edge-1", right]
        subprocess.run(command, check=True, capture_output=True)
        path.chmod(0o644)
        return f"allow_anonymous false\npassword_file {path}\n"

    return write


def test_a_password_backend_that_is_late_ends_nobody(make_mosquitto, passwords, subscribe, group):
    broker = make_mosquitto(passwords("not yet"))
    mqtt = {"host": "127.0.0.1", "port": broker.port, **LOGIN}
    raw = raw_config(Play(seconds=70.0, speed=4.0), group.folder / "late.db", mqtt)
    process = group.start("late", "run", "--config", group.write("late", raw), EDGE_PASSWORD="secret")
    check = ("check", "--config", simulated(group, "check-refused", mqtt=mqtt))
    group.start("check refused", *check, EDGE_PASSWORD="secret")
    group.start("no variable", "run", "--config", simulated(group, "no-variable", mqtt=mqtt))
    group.start("no certificate", "run", "--config", simulated(group, "no-ca", mqtt=mqtt | {"tls": {"ca": "no.pem"}}))
    group["check refused"].assert_refused(77, "1 problem", "refused client", "mqtt.password_env")
    group["no variable"].assert_refused(78, "mqtt.password_env: environment variable EDGE_PASSWORD is not set")
    group["no certificate"].assert_refused(78, "mqtt.tls.ca: no file")
    assert process.poll() is None
    passwords("secret")
    broker.kill()
    broker.start()
    subscriber = subscribe(broker.port, username="edge-1", password="secret")
    subscriber.wait(lambda seen: seen.of(Birth) and seen.of(Match) and seen.of(NodeState)[-1].state == "offline", 60)
    assert group["late"].code == 0
    said = [line for line in group["late"].error.splitlines() if "delivery.publish" in line]
    assert sum("refused client" in line for line in said) == 2  # written once, and how often at the end
    assert "times more in" in group["late"].error
