"""What a person or the world gets wrong, through the real command line: one clear error, no traceback, the right code.

Most of a short run is spent importing libraries. So each group starts all its commands at once, and its tests look at
what became of them.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_onnx import TinyOnnx

from edge_app.broker import EmbeddedBroker, free_port
from edge_app.contract.messages import Match, NodeState
from edge_app.pipeline import PROGRESS
from edge_app.simulation.configuration import Play, raw_config

COMMANDS = ("run", "check", "demo", "replay", "simulate", "build-engine")
HEAVY = ["cv2", "scipy", "onnxruntime", "av", "trackers", "supervision", "matplotlib", "paho", "amqtt", "PIL", "numpy"]
TIMEOUT_S = 120
INPUT = {"width_px": 32, "height_px": 32}


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    error: str

    def assert_refused(self, code: int, *said: str) -> None:
        """This exit code, one error that says all this, and no traceback."""
        assert self.code == code, self.error
        assert "Traceback" not in self.error, self.error
        assert self.error.count("edge-app: ") == 1, self.error
        for words in said:
            assert words in self.error


class Group:
    """Commands that run at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen] = {}
        self._ended: dict[str, Outcome] = {}

    def start(self, name: str, *arguments: object, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "edge_app", *map(str, arguments)]
        pipe = subprocess.PIPE
        self._running[name] = subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment
        )
        return self._running[name]

    def write(self, name: str, raw: dict | str) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw))
        return path

    def __getitem__(self, name: str) -> Outcome:
        if name not in self._ended:
            out, error = self._running[name].communicate(timeout=TIMEOUT_S)
            self._ended[name] = Outcome(self._running[name].returncode, out, error)
        return self._ended[name]

    def kill(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    made = Group(tmp_path_factory.mktemp("bad"))
    yield made
    made.kill()


def write_clip(path: Path) -> Path:
    """Six seconds at 10 frames per second; the index comes first, so that a part of the file can be played."""
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 160, 96, "yuv420p", 5
        noise = np.random.default_rng(1)
        for _ in range(60):
            image = noise.integers(0, 255, (96, 160, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def real(group):
    """A site of recordings with models that find one car in every picture."""
    pytest.importorskip("onnx")
    models = TinyOnnx(group.folder)
    clip = write_clip(group.folder / "good.mp4")
    (group.folder / "truncated.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    (group.folder / "novideo.mp4").write_text("this is no video\n" * 100)
    car = np.array([[8, 12, 24, 24, 0.9, 0]], np.float32)
    detector = {"path": str(models.constant(car)), "input": INPUT, "class_names": ["car"]}
    embedder = {"path": str(models.mean_colour()), "input": INPUT, "version": "mean-colour"}
    return {
        "site": "bad",
        "node": "edge-1",
        "ticks": {"mode": "lockstep", "speed": None},
        "detector": detector | {"head": "ultralytics-end2end"},
        "embedder": embedder,
        "cameras": [{"id": "good", "source": str(clip)}],
    }


@pytest.fixture(scope="module")
def played(group, real):
    """Each bad recording beside a good one, replayed; models that cannot be used; a camera that is not there."""
    for name in ("missing", "truncated", "novideo"):
        cameras = [{"id": name, "source": f"{name}.mp4"}, *real["cameras"]]
        path = group.write(name, real | {"cameras": cameras, "store": {"path": f"{name}.db"}})
        group.start(name, "replay", "--config", path, "--out", group.folder / f"{name}.jsonl")
    path = group.write("run", real | {"cameras": cameras, "store": {"path": "run.db"}})
    group.start("run", "run", "--config", path)
    (group.folder / "corrupt.onnx").write_bytes(b"\x08\x07" + b"garbage" * 50)
    (group.folder / "described.onnx").write_bytes((group.folder / "mean_colour.onnx").read_bytes())
    (group.folder / "described.json").write_text('{"schema": "crosslane.model/1", "kind": ')
    other = group.folder / "other"
    other.mkdir()
    models = {
        "wrong inputs": TinyOnnx(other).two_inputs(),
        "wrong size": TinyOnnx(other).mean_colour(size=(64, 48)),
        "corrupt": "corrupt.onnx",
        "absent": "absent.onnx",
        "corrupt manifest": "described.onnx",
    }
    for name, model in models.items():
        embedder = real["embedder"] | {"path": str(model)}
        path = group.write(name, real | {"embedder": embedder, "store": {"path": f"{name}.db"}})
        group.start(name, "run", "--config", path)
    return group


@pytest.mark.parametrize(
    ("name", "said"), [("missing", "no such file"), ("truncated", "truncated"), ("novideo", "novideo.mp4")]
)
def test_a_bad_recording_leaves_the_others_alone(played, name, said):
    played[name].assert_refused(66, f"camera {name} ", said)
    facts = [json.loads(line) for line in (played.folder / f"{name}.jsonl").read_text().splitlines()]
    assert [fact["unmatched"]["camera"] for fact in facts].count("good") == 1


def test_run_plays_the_good_recording_to_its_end(played):
    played["run"].assert_refused(66, "camera novideo ")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wrong inputs", "two_inputs.onnx"),
        ("wrong size", "mean_colour.onnx"),
        ("corrupt", "corrupt.onnx"),
        ("absent", "absent.onnx"),
        ("corrupt manifest", "described.json"),
    ],
)
def test_a_model_that_cannot_be_used(played, name, said):
    played[name].assert_refused(65, said)


def test_a_camera_that_cannot_be_reached_leaves_the_others_alone(group, real):
    away = {"id": "away", "source": f"rtsp://127.0.0.1:{free_port()}/none"}
    site = real | {"cameras": [away, *real["cameras"]], "ticks": {"mode": "live", "speed": None}}
    path = group.write("rtsp", site | {"store": {"path": "rtsp.db"}})
    group.start("check rtsp", "check", "--config", path)
    run = group.start("rtsp", "run", "--config", path)
    until_s = time.monotonic() + TIMEOUT_S
    while "good" not in positions(group.folder / "rtsp.db"):
        assert time.monotonic() < until_s
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    assert group["rtsp"].code == 0, "it goes on trying until it is stopped"
    assert "Traceback" not in group["rtsp"].error
    assert away["source"] in group["rtsp"].error
    group["check rtsp"].assert_refused(66, "1 problem", away["source"])


def positions(store: Path) -> dict[str, float]:
    """How far each camera was worked on."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT value FROM parts WHERE key = ?", (PROGRESS,)).fetchone()
    except sqlite3.OperationalError:
        return {}
    return json.loads(row[0])["positions"] if row else {}


def simulated(group: Group, name: str, **changes: object) -> Path:
    """A simulated site of five seconds that needs no models."""
    raw = raw_config(Play(seconds=5.0, speed=None), group.folder / f"{name}.db", None)
    return group.write(name, raw | changes)


FIVE_MISTAKES = {
    "node": "edge 1",
    "tick": {},
    "links": [{"from_camera": "gate", "to_camera": "markett", "transit": {"min_s": 5, "max_s": "soon"}}],
    "mqtt": {"prot": 1883},
}


@pytest.fixture(scope="module")
def refused(group):
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
    refused["corrupt store"].assert_refused(74, "noise.db")
    refused["no store"].assert_refused(74, "store.db")
    refused["no out"].assert_refused(74, "/proc/none/facts.jsonl")


def test_a_broker_that_is_away_stops_nobody(refused):
    assert refused["broker away"].code == 0, refused["broker away"].error
    assert "Traceback" not in refused["broker away"].error
    assert "cannot connect" in refused["broker away"].error
    refused["check away"].assert_refused(69, "1 problem", "broker: ")


def test_a_simulation_that_cannot_be(refused):
    refused["no address"].assert_refused(78, "nowhere:port")
    refused["no site"].assert_refused(78, "atlantis", "town")


def test_a_broker_that_refuses_the_password(group, make_mosquitto):
    broker = make_mosquitto("allow_anonymous false\n")
    mqtt = {"host": broker.host, "port": broker.port, "username": "edge", "password_env": "EDGE_PASSWORD"}
    path = simulated(group, "refuse", mqtt=mqtt)
    for command in ("run", "check"):
        group.start(f"refused {command}", command, "--config", path, EDGE_PASSWORD="hunter2")
    for command in ("run", "check"):
        group[f"refused {command}"].assert_refused(77, "refused client", "'edge'", "password_env")
        assert "hunter2" not in group[f"refused {command}"].error


def test_check_lists_everything_that_is_wrong(group, real):
    cameras = [{"id": "none", "source": "none.mp4"}, *real["cameras"]]
    wrong = {
        "cameras": cameras,
        "embedder": {"path": "absent.onnx", "input": INPUT},
        "store": {"path": str(group.folder / "good.mp4" / "store.db")},
        "mqtt": {"host": "127.0.0.1", "port": free_port()},
    }
    group.start("check all", "check", "--config", group.write("all", real | wrong))
    group.start("check good", "check", "--config", group.write("fine", real | {"store": {"path": "fine.db"}}))
    group["check all"].assert_refused(65, "4 problems", "absent.onnx", "none.mp4", "store.db", "broker: ")
    assert group["check good"].code == 0, group["check good"].error
    assert [line.split(":")[0] for line in group["check good"].out.splitlines()] == [
        "detector",
        "embedder",
        "camera good",
        "links",
        "store",
    ]


def test_replay_gives_the_same_bytes_twice(group):
    raw = raw_config(Play(seconds=40.0), group.folder / "unused.db", None)
    outs = [group.folder / f"replay-{number}.jsonl" for number in (1, 2)]
    for out in outs:
        group.start(out.name, "replay", "--config", group.write(out.stem, raw), "--out", out)
    for out in outs:
        assert group[out.name].code == 0, group[out.name].error
        assert group[out.name].out.endswith(f"facts → {out}\n")
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert b'"topic"' in outs[0].read_bytes(), "nothing was matched"
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
        assert "Usage" in "".join(text)
        assert loaded == "[]"
        assert float(took_s) < 1.5
