"""What the world gets wrong, recordings, models and cameras, through the real command line: one clear error, no
traceback, the right code, and what is good goes on."""

import contextlib
import json
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from edge_commands import TIMEOUT_S
from tiny_onnx import TinyOnnx

from edge_app.demo.broker import free_port
from edge_app.pipeline import PROGRESS

INPUT = {"width_px": 32, "height_px": 32}


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
    alone = group.write("nothing", real | {"cameras": cameras[:1], "store": {"path": "nothing.db"}})
    out, pictures = group.folder / "nothing.jsonl", group.folder / "nothing"
    group.start("nothing", "replay", "--config", alone, "--out", out, "--pictures", pictures)
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
    assert [fact["unmatched"]["camera"] for fact in facts if "unmatched" in fact].count("good") == 1


def test_what_is_wrong_with_a_recording_is_said_once(played):
    ends = {"missing": "no such file", "truncated": "the file is truncated", "novideo": "camera novideo ("}
    for name, said in {**ends, "run": ends["novideo"]}.items():
        assert played[name].error.count(said) == 1, played[name].error


def test_when_nothing_could_be_played_there_is_no_result(played):
    played["nothing"].assert_refused(66, "novideo.mp4")
    assert not list(played.folder.glob("nothing.jsonl*"))
    assert not (played.folder / "nothing").exists()


def test_run_plays_the_good_recording_to_its_end(played):
    played["run"].assert_refused(66, "as the log says: camera novideo")


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
    return json.loads(row[0].split(b"\n", 1)[1])["positions"] if row else {}


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
        "messages",
        "store",
    ]
