"""Cameras that refuse, lead in circles, freeze, hang up or stay silent, and recordings beside live ones."""

import os
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from edge_commands import Group
from odd_cameras import OddCamera
from tiny_onnx import TinyOnnx

from edge_app import app
from edge_app.config import parse
from edge_app.errors import SourceRefusedError
from edge_app.sources import check_source, open_source
from edge_app.sources.cameras import Cameras
from edge_app.sources.settings import CameraSettings

INPUT = {"width_px": 32, "height_px": 32}


def settings(camera: OddCamera, id: str = "gate", **more) -> CameraSettings:
    return CameraSettings(id=id, source=camera.url, **more)


class Watch:
    """The cameras at work, in the background."""

    def __init__(self, *sources: CameraSettings, rng: random.Random | None = None) -> None:
        self.cameras = Cameras(sources, "live", rng=rng)
        self.frames = dict.fromkeys((source.id for source in sources), 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        for _, frames in self.cameras.ticks(self._stop):
            for frame in frames:
                self.frames[frame.camera] += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self.cameras.close()

    def until(self, condition, limit_s: float = 20) -> None:
        until_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < until_s, self.cameras.states()
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (401, "refused: the camera refuses user name or password; check `username`"),
        (403, "refused: the camera does not let this user see the stream"),
        (404, "refused: the camera answers, but has no stream of this path"),
        (454, "refused: the camera refuses what it is asked for"),
        ("redirect", "refused: the camera redirects more than 5 times"),
        ("redirect at once", "refused: the camera redirects more than 5 times"),
    ],
)
def test_what_a_camera_refuses_is_named_and_tried_seldom(monkeypatch, answer, words):
    """Version 0.1 tried a wrong password 1,165 times an hour, and followed 29 redirects a second."""
    monkeypatch.setenv("GATE_PASSWORD", "wr0ng")
    with OddCamera(answer) as camera:
        gate = settings(camera, username="admin", password_env="GATE_PASSWORD")
        with pytest.raises(SourceRefusedError) as caught:
            open_source(gate)
        assert str(caught.value).startswith(f"camera gate ({camera.url}): {words}")
        assert caught.value.login == (answer in (401, 403))
        before = camera.connections
        assert before <= 6
        with Watch(gate) as watch:
            watch.until(lambda: words in (watch.cameras.states()["gate"].reason or ""))
            time.sleep(6)
            assert watch.cameras.states()["gate"].state == "offline"
        assert camera.connections == 2 * before


@pytest.mark.parametrize("answer", [503, "silent"])
def test_what_time_mends_is_tried_again_within_seconds(answer):
    with OddCamera(answer) as camera:
        gate = settings(camera, open_timeout_s=0.5)
        assert "refused" not in check_source(gate)
        with Watch(gate) as watch:
            before = camera.connections
            watch.until(lambda: camera.connections >= before + 3)


@pytest.mark.parametrize("answer", ["redirect", "redirect at once"])
def test_a_camera_that_leads_to_another_address_is_followed(answer):
    with OddCamera("stream") as there, OddCamera(answer) as here:
        here.leads_to = there.url
        source = open_source(settings(here))
        assert source.read() is not None
        source.close()


@pytest.mark.slow
def test_a_camera_that_freezes_comes_back_when_it_does_and_the_other_runs_on():
    with OddCamera("stream", frames=30) as freezing, OddCamera("stream") as good:
        gate = settings(freezing, read_timeout_s=1.5, stall_after_s=1.0)
        with Watch(gate, settings(good, "yard")) as watch:
            watch.until(lambda: watch.cameras.states()["gate"].state == "stalled")
            began_s, before = time.monotonic(), watch.frames["yard"]
            watch.until(lambda: watch.cameras.states()["gate"].falls >= 3)
            seconds = time.monotonic() - began_s
            states = watch.cameras.states()
            assert (watch.frames["yard"] - before) / seconds > 15
    assert states["yard"].state == "ok"
    assert states["yard"].reconnects == 0
    assert states["gate"].reconnects >= 2


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class Hurried(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return 0.01


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_sixty_reconnections_leave_no_thread_and_no_open_file():
    with OddCamera("stream", frames=4, then="hang up") as camera:
        with Watch(settings(camera), rng=Hurried()) as watch:
            watch.until(lambda: watch.cameras.states()["gate"].reconnects > 20, 60)
            before = threading.active_count(), _open_files()
            watch.until(lambda: watch.cameras.states()["gate"].reconnects > 80, 120)
            after = threading.active_count(), _open_files()
        assert camera.connections > 80
    # the camera's own connections live in this process, too
    assert after[0] - before[0] <= 2
    assert after[1] - before[1] <= 4


@pytest.fixture
def models(tmp_path):
    pytest.importorskip("onnx")
    tiny = TinyOnnx(tmp_path)
    car = np.array([[8, 12, 24, 24, 0.9, 0]], np.float32)
    detector = {"path": str(tiny.constant(car)), "input": INPUT, "class_names": ["car"], "head": "ultralytics-end2end"}
    embedder = {"path": str(tiny.mean_colour()), "input": INPUT, "version": "mean-colour"}
    return {"site": "odd", "node": "edge-1", "detector": detector, "embedder": embedder}


def write_clip(path: Path, seconds: float) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for index in range(int(10 * seconds)):
            image = np.full((96, 160, 3), 40 + index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.mark.slow
def test_a_recording_beside_a_live_camera_is_tracked_as_if_it_happened_now(models, tmp_path):
    """In version 0.1 its time began in 2000, so each of its tracks was over as soon as it began."""
    write_clip(tmp_path / "clip.mp4", 5.0)
    with OddCamera("stream") as camera:
        cameras = [{"id": "gate", "source": camera.url}, {"id": "clip", "source": "clip.mp4"}]
        config = parse({**models, "cameras": cameras, "store": {"path": "odd.db"}}, tmp_path / "site.yaml")
        stop, passages, began_s = threading.Event(), [], time.time()
        with app.Node(config) as node:
            for step in node.steps(stop):
                passages += step.tracklets
                if any(passage.camera == "clip" for passage in passages) or time.time() - began_s > 40:
                    stop.set()
    (passage,) = [passage for passage in passages if passage.camera == "clip"]
    assert began_s <= passage.entry_time_s <= passage.exit_time_s <= time.time()
    assert passage.exit_time_s - passage.entry_time_s > 4.0


def test_what_cannot_stand_together_and_what_is_not_set_is_said_at_once(models, tmp_path):
    group = Group(tmp_path)
    cameras = [
        {"id": "gate", "source": "rtsp://127.0.0.1:1/1", "username": "u", "password_env": "NO_SUCH_PASSWORD"},
        {"id": "yard", "source": "rtsp://127.0.0.1:1/2", "username": "u", "password_env": "NEITHER_THIS"},
        {"id": "clip", "source": "clip.mp4", "start_time": "2026-05-01T12:00:00Z"},
        {"id": "town", "source": "sim://town/gate"},
        {"id": "sensor", "source": "csi://front"},
    ]
    path = group.write("site", {**models, "cameras": cameras, "tikcs": {}})
    try:
        for command in ("check", "run"):
            group.start(command, command, "--config", path)
        for command in ("check", "run"):
            group[command].assert_refused(
                78,
                "camera gate: the environment variable NO_SUCH_PASSWORD (`password_env`) is not set",
                "NEITHER_THIS",
                "camera clip: a `start_time` (2026-05-01T12:00:00+00:00) cannot stand beside live cameras; leave",
                "camera town is simulated",
                "cameras.4.source: expected csi://<sensor number>",
                "tikcs: unknown key",
            )
    finally:
        group.kill()


@pytest.mark.slow
def test_damage_is_said_by_replay_and_what_is_missing_at_the_end_is_an_error(models, tmp_path):
    """In version 0.1 a cut TS with noise behind it, and a cut MKV, ended with 0 and without a word."""
    group = Group(tmp_path)
    rng = np.random.default_rng(1)
    whole = {name: write_clip(tmp_path / f"whole.{name}", 8.0).read_bytes() for name in ("ts", "mkv")}
    cut, half = int(0.6 * len(whole["ts"])), len(whole["ts"]) // 2
    noise = rng.integers(0, 256, len(whole["ts"]), dtype=np.uint8).tobytes()
    broken = {
        "noise.ts": whole["ts"][:cut] + noise[cut:],
        "cut.mkv": whole["mkv"][: int(0.6 * len(whole["mkv"]))],
        "middle.ts": whole["ts"][:half] + noise[: half // 5] + whole["ts"][half + half // 5 :],
    }
    try:
        for name, content in broken.items():
            (tmp_path / name).write_bytes(content)
            raw = {**models, "cameras": [{"id": "clip", "source": name}], "store": {"path": f"{name}.db"}}
            group.start(name, "replay", "--config", group.write(name, raw), "--out", tmp_path / f"{name}.jsonl")
        group["noise.ts"].assert_refused(66, "the file is damaged: its last", "hold nothing that can be read")
        group["cut.mkv"].assert_refused(66, "the file is truncated: its index says 8.0 s")
        assert group["middle.ts"].code == 0, group["middle.ts"].error
        assert "damaged packets or pictures were left out" in group["middle.ts"].error
        assert "pictures are missing for" in group["middle.ts"].error
    finally:
        group.kill()
