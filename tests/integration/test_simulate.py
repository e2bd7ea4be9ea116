"""`edge-app simulate` speaks of now, as whom it is told, with TLS and a login; what it cannot do is one clear error."""

import shutil
import subprocess
import time

import pytest
import yaml
from test_mosquitto_tls import Authority

from edge_app.contract.messages import Match, NodeState
from edge_app.demo.broker import free_port

SECONDS = ("--seconds", "40", "--speed", "40")
WRONG = {
    "broker": ("--broker", "::1"),
    "port": ("--broker", "host:70000"),
    "site": ("--site", "grid-1"),
    "node": ("--node", "pole/2"),
    "seed": ("--seed", "-1"),
    "seconds": ("--seconds", "inf"),
    "variable": ("--user", "edge", "--password-env", "NOT_SET_ANYWHERE"),
    "nobody": ("--password-env", "HOME"),
    "ca": ("--ca", "/nowhere/ca.pem"),
    "no pem": ("--ca", "/etc/hostname"),
    "key alone": ("--key", "/etc/hostname"),
    "no folder": ("--write-config", "/proc/none/site.yaml"),
    "a folder": ("--write-config", "/tmp"),
    "all": (
        "--broker",
        "a:b:c",
        "--node",
        "x/y",
        "--password-env",
        "NOT_SET_ANYWHERE",
        "--ca",
        "/nowhere",
        "--site",
        "z",
    ),
}


@pytest.fixture
def guarded(make_mosquitto, tmp_path):
    """A broker with TLS and a password, its authority, and the port of a plain listener for the subscriber."""
    authority, plain, passwords = Authority(tmp_path, "roads"), free_port(), tmp_path / "passwords"
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed (Debian package mosquitto)")
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "edge", "right"], check=True, capture_output=True)
    passwords.chmod(0o644)  # the broker gives up its rights first
    certificate, key = authority.issue("broker")
    login = f"allow_anonymous false\npassword_file {passwords}\n"
    listener = (
        f"cafile {authority.ca}\ncertfile {certificate}\nkeyfile {key}\n{login}"
        f"listener {plain} 127.0.0.1\nallow_anonymous true\n"
    )
    broker = make_mosquitto("per_listener_settings true\n", listener)
    return broker.wait_for(plain), authority, plain


def test_it_speaks_of_now_as_whom_it_is_told_with_tls_and_a_login(group, guarded, subscribe):
    broker, authority, plain = guarded
    subscriber = subscribe(plain)
    began_s = time.time()
    group.start(
        "guarded", "simulate", "--broker", f"127.0.0.1:{broker.port}", "--node", "pole-2", "--user", "edge",
        "--password-env", "EDGE_PASSWORD", "--ca", authority.ca, *SECONDS, EDGE_PASSWORD="right",
    )  # fmt: skip
    assert group["guarded"].code == 0, group["guarded"].error
    subscriber.wait(lambda seen: [state.state for state in seen.of(NodeState)][-1:] == ["offline"])
    matches = subscriber.of(Match)
    assert len(matches) > 3
    assert {match.node for match in matches} == {"pole-2"}
    moments = [match.observed_at_s for match in matches]
    assert max(moments) <= time.time(), "said before it happened"
    assert min(moments) > began_s - 200.0, "said of another time"


def test_what_it_cannot_do_is_one_clear_error(group, tmp_path):
    for name, options in WRONG.items():
        group.start(name, "simulate", *options)
    expected = {
        "broker": ("[::1]:1883", "'::1'"),
        "port": ("host:70000",),
        "site": ("grid-1", "town"),
        "node": ("node: ", "pole/2"),
        "seed": ("seed is -1",),
        "seconds": ("seconds is inf",),
        "variable": ("NOT_SET_ANYWHERE is not set",),
        "nobody": ("--user",),
        "ca": ("no file /nowhere/ca.pem",),
        "no pem": ("mqtt.tls", "PEM"),
        "key alone": ("a key without",),
        "all": ("6 mistakes", "'a:b:c'", "x/y", "NOT_SET_ANYWHERE", "/nowhere", "'z'", "--user"),
    }
    for name, said in expected.items():
        group[name].assert_refused(78, *said)
    group["no folder"].assert_refused(74, "/proc/none/site.yaml", "No such file")
    group["a folder"].assert_refused(74, "/tmp", "Is a directory")


def test_a_written_site_is_the_one_that_would_play(group, tmp_path):
    path, began_s = tmp_path / "site.yaml", time.time()
    group.start("write", "simulate", "--write-config", path, "--node", "pole-2", "--broker", "[::1]:1884", "--tls")
    assert group["write"].code == 0, group["write"].error
    raw = yaml.safe_load(path.read_text())
    assert raw["node"] == "pole-2"
    assert raw["mqtt"] == {"host": "::1", "port": 1884, "tls": {}}
    start_s = float(raw["cameras"][0]["source"].split("start=")[1].split("&")[0])
    assert began_s - 1.0 <= start_s <= time.time()
    assert [entry.name for entry in tmp_path.iterdir()] == ["site.yaml"]
