"""The commands as a person types them: what is wrong in a configuration, a store or an address is one clear error, no
traceback, the right code; and what they do when nothing is."""

import os
import socket
import subprocess
import sys

import pytest
from edge_commands import simulated

from edge_app.contract.messages import Match, NodeState
from edge_app.demo.broker import EmbeddedBroker, free_port
from edge_app.demo.play import Play, raw_config

COMMANDS = ("run", "check", "demo", "replay", "simulate", "build-engine", "watch")
HEAVY = ["cv2", "scipy", "onnxruntime", "av", "trackers", "supervision", "matplotlib", "paho", "amqtt", "PIL", "numpy"]
FIVE_MISTAKES = {
    "node": "edge 1",
    "tick": {},
    "links": [{"from_camera": "gate", "to_camera": "markett", "transit": {"min_s": 5, "max_s": "soon"}}],
    "mqtt": {"prot": 1883},
}


@pytest.fixture(scope="module")
def nobody_else():
    """A port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture(scope="module")
def refused(group, nobody_else):
    """Configurations, stores and addresses that are wrong."""
    group.start("five", "run", "--config", simulated(group, "five", **FIVE_MISTAKES))
    group.start("syntax", "run", "--config", group.write("syntax", "site: a\n  node: b\n"))
    group.start("no file", "run", "--config", group.folder / "none.yaml")
    (group.folder / "noise.db").write_bytes(os.urandom(20_000))
    group.start("corrupt store", "run", "--config", simulated(group, "noise"))
    beneath = {"path": str(group.folder / "noise.db" / "store.db")}  # root may write everywhere, but not in a file
    group.start("no store", "run", "--config", simulated(group, "beneath", store=beneath))
    group.start("no out", "replay", "--config", simulated(group, "out"), "--out", "/proc/none/facts.jsonl")
    nobody = {"host": "127.0.0.1", "port": free_port()}
    group.start("broker away", "run", "--config", simulated(group, "away", mqtt=nobody))
    group.start("check away", "check", "--config", simulated(group, "check-away", mqtt=nobody))
    taken = {"prometheus_port": nobody_else.getsockname()[1]}
    group.start("port taken", "run", "--config", simulated(group, "taken", health=taken))
    group.start("check taken", "check", "--config", simulated(group, "check-taken", health=taken))
    group.start("watch away", "watch", f"127.0.0.1:{nobody['port']}")
    group.start("no address", "simulate", "--broker", "nowhere:port")
    group.start("no site", "simulate", "--site", "atlantis", "--broker", f"127.0.0.1:{nobody['port']}")
    return group


def test_five_mistakes_are_listed_at_once(refused):
    refused["five"].assert_refused(78, "5 mistakes", "node:", "transit.max_s", "markett", "did you mean `ticks`?")
    assert "did you mean `port`?" in refused["five"].error or "did you mean `protocol`?" in refused["five"].error


def test_what_is_no_configuration(refused):
    refused["syntax"].assert_refused(78, "syntax.yaml", "line 2")
    refused["no file"].assert_refused(78, "none.yaml", "No such file")


def test_a_store_that_cannot_be_used(refused):
    refused["corrupt store"].assert_refused(78, "noise.db")
    refused["no store"].assert_refused(74, "store.db")
    refused["no out"].assert_refused(74, "/proc/none/facts.jsonl")


def test_a_broker_that_is_away_stops_nobody(refused):
    assert refused["broker away"].code == 0, refused["broker away"].error
    assert "Traceback" not in refused["broker away"].error
    assert "cannot connect" in refused["broker away"].error
    refused["check away"].assert_refused(69, "1 problem", "broker: ")


def test_a_prometheus_port_that_is_taken_stops_nobody(refused):
    assert refused["port taken"].code == 0, refused["port taken"].error
    assert "Traceback" not in refused["port taken"].error
    assert "Prometheus: cannot listen on 127.0.0.1:" in refused["port taken"].error
    refused["check taken"].assert_refused(69, "1 problem", "Prometheus: health.prometheus_port: cannot listen")


def test_a_watcher_without_a_broker(refused):
    assert refused["watch away"].code == 69
    assert "cannot connect" in refused["watch away"].error


def test_a_simulation_that_cannot_be(refused):
    refused["no address"].assert_refused(78, "nowhere:port")
    refused["no site"].assert_refused(78, "atlantis", "town")


def test_a_broker_that_refuses_the_password(group, make_mosquitto):
    broker = make_mosquitto("allow_anonymous false\n")
    mqtt = {"host": broker.host, "port": broker.port, "username": "edge", "password_env": "EDGE_PASSWORD"}
    path = simulated(group, "refuse", mqtt=mqtt)
    for command in ("run", "check"):
        group.start(f"refused {command}", command, "--config", path, EDGE_PASSWORD="hunter2")
    group["refused check"].assert_refused(77, "refused client", "'edge'", "password_env")
    ran = group["refused run"]
    assert ran.code == 0, ran.error  # it may only be late: the facts wait in the store
    assert "refused client" in ran.error
    assert "hunter2" not in group["refused check"].error + ran.error


def test_replay_gives_the_same_bytes_twice(group):
    raw = raw_config(Play(seconds=40.0), group.folder / "unused.db", None)
    outs = [group.folder / f"replay-{number}.jsonl" for number in (1, 2)]
    for out in outs:
        group.start(out.name, "replay", "--config", group.write(out.stem, raw), "--out", out)
    for out in outs:
        assert group[out.name].code == 0, group[out.name].error
        assert group[out.name].out.endswith(f"facts → {out}\n")
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert b"/event/match" in outs[0].read_bytes(), "nothing was matched"
    assert b"/agg/flow/" in outs[0].read_bytes(), "the last interval was lost"
    assert "passages continue an earlier one" in group[outs[0].name].out
    assert not (group.folder / "unused.db").exists()


def test_simulate_publishes(group, subscribe):
    with EmbeddedBroker() as broker:
        subscriber = subscribe(broker.port, "3.1.1")
        group.start(
            "simulate", "simulate", "--broker", f"{broker.host}:{broker.port}", "--seconds", "40", "--speed", "100"
        )
        assert group["simulate"].code == 0, group["simulate"].error
        subscriber.wait(lambda seen: len(seen.of(Match)) > 3)
        subscriber.wait(lambda seen: [state.state for state in seen.of(NodeState)][-1:] == ["offline"])


def test_help_is_quick_because_it_imports_nothing_heavy(group):
    """Measured in seconds of the processor, which other tests do not use up."""
    code = f"""
import atexit, sys, time
heavy = {HEAVY}
atexit.register(lambda: print(time.process_time(), [name for name in heavy if name in sys.modules]))
from edge_app.__main__ import main
main()
"""
    for command in ((), *((name,) for name in COMMANDS)):
        done = subprocess.run(
            [sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, check=True
        )
        *text, measured = done.stdout.splitlines()
        took_s, loaded = measured.split(" ", 1)
        assert "usage" in "".join(text).lower()
        assert loaded == "[]"
        assert float(took_s) < 1.5
