"""The independent subscriber: what it prints, what it writes down, when it ends."""

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass

import pytest
from rich.console import Console

from edge_app.contract.messages import Match, NodeState
from edge_app.contract.samples import SITE, golden_samples
from edge_app.contract.topics import encode, topic_of
from edge_app.demo.broker import EmbeddedBroker, free_port
from edge_app.demo.received import read_mail
from edge_app.demo.watch import address_text, parse_address
from edge_app.demo.watch_lines import LiveLines, coloured_line, plain_line
from edge_app.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:1884", ("localhost", 1884)),
        ("broker.example", ("broker.example", 1883)),
        ("[::1]:1884", ("::1", 1884)),
        ("[fe80::1%eth0]", ("fe80::1%eth0", 1883)),
    ],
)
def test_addresses(text, expected):
    assert parse_address(text) == expected
    assert parse_address(address_text(*expected)) == expected


@pytest.mark.parametrize("text", ["", ":1883", "host:", "host:mqtt", "host:0", "host:65536", "::1", "a:b:1", "a b:1"])
def test_a_wrong_address_is_named(text):
    with pytest.raises(ConfigurationError, match=r"expected host:port") as caught:
        parse_address(text)
    assert repr(text) in str(caught.value)


def test_a_login_in_an_address_is_not_repeated():
    with pytest.raises(ConfigurationError, match=r"got one with a login") as caught:
        parse_address("edge:hunter2@host:1883")
    assert "hunter2" not in str(caught.value)


def sample(kind, **changes):
    return next(m for m in golden_samples().values() if isinstance(m, kind)).model_copy(update=changes)


def test_lines_say_what_the_message_says():
    line = plain_line(sample(Match, state="confirmed", posterior=0.87, transit_s=21.25))
    assert "north → south" in line
    assert "0.87  confirmed" in line
    assert line.endswith("edge-1-7-12")
    assert plain_line(sample(NodeState)) is None


def test_a_terminal_shows_provisional_dim_and_confirmed_bright():
    provisional, confirmed = (coloured_line(sample(Match, state=state)) for state in ("provisional", "confirmed"))
    assert provisional.plain.split()[:4] == confirmed.plain.split()[:4]
    assert any("dim" in str(span.style) and span.end - span.start == len(provisional) for span in provisional.spans)
    assert not any("dim" in str(span.style) and span.end - span.start == len(confirmed) for span in confirmed.spans)


def test_the_live_view_ends_in_order():
    console = Console(force_terminal=True, width=120, record=True, highlight=False)
    with LiveLines("somewhere", console) as lines:
        for message in golden_samples().values():
            lines.show(message)
        lines.refresh(Counter(messages=14))
    text = console.export_text()
    assert text.count("north → south") == 2
    assert "posterior" in text


@dataclass
class Watching:
    process: subprocess.Popen
    client: object
    log: object

    def say(self, topic, payload):
        self.client.publish(topic, payload, qos=1).wait_for_publish(10)

    def end(self):
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.fixture
def watching(tmp_path):
    """The subscriber in its own process, and a client that speaks to it through a broker."""
    import paho.mqtt.client as paho

    log = tmp_path / "log.jsonl"
    with EmbeddedBroker() as broker:
        command = [sys.executable, "-m", "edge_app.demo.watch", f"{broker.host}:{broker.port}", "--log", str(log)]
        process = subprocess.Popen(
            [*command, "--until-offline"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        until_s = time.monotonic() + 30
        while not log.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until_s
            time.sleep(0.02)
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        client.connect(broker.host, broker.port)
        client.loop_start()
        yield Watching(process, client, log)
        client.disconnect()
        client.loop_stop()
        process.kill()
        process.wait()


def test_it_prints_drops_repeats_and_leaves_with_the_node(watching):
    samples = golden_samples()
    confirmed = sample(Match, state="confirmed")
    topic, payload = topic_of(confirmed, SITE), encode(confirmed)
    for message in samples.values():
        if not isinstance(message, NodeState):
            watching.say(topic_of(message, SITE), encode(message))
    watching.say(topic, payload)  # a repeat
    watching.say(topic, b'{"not": "ours"}')
    goodbye = sample(NodeState, state="offline")
    watching.say(topic_of(goodbye, SITE), encode(goodbye))
    code, out, err = watching.end()
    assert (code, err) == (0, "")
    assert out.count("north → south") == len([m for m in samples.values() if isinstance(m, Match)])
    assert out.count("revision") == 1
    lines = [json.loads(line) for line in watching.log.read_text().splitlines()]
    assert len(lines) == len(samples) + 1 - len([m for m in samples.values() if isinstance(m, NodeState)]) + 1
    mail = read_mail(watching.log, confirmed.boot_id)
    assert mail.repeats == 1
    assert read_mail(watching.log, "another boot").received == []


def test_nobody_there_is_one_line():
    command = [sys.executable, "-m", "edge_app.demo.watch", f"127.0.0.1:{free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 69
    assert done.stderr.count("\n") == 1
    assert "cannot connect" in done.stderr
