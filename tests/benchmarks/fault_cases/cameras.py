"""Cameras and recordings: mixed times, refusals, news of sick cameras, losses, orientation, ends, file addresses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from edge_app import app
from edge_app.config import parse
from edge_app.errors import SourceError
from edge_app.health.health import Health
from edge_app.sources import check_source, open_source
from edge_app.sources.cameras import Cameras
from edge_app.sources.settings import CameraSettings
from tests.benchmarks.endurance_cameras import INPUT
from tests.benchmarks.fault_case import Case
from tests.edge_app.sources.conftest import Yard, frame_of, write_video
from tests.edge_app.sources.live_cameras import Fast, Hurried
from tests.edge_app.sources.made_up_clips import damaged, turned_clip
from tests.integration.odd_cameras import OddCamera
from tests.tiny_onnx import TinyOnnx


def _models(folder: Path) -> dict[str, Any]:
    tiny, car = TinyOnnx(folder), np.array([[8, 12, 24, 24, 0.9, 0]], np.float32)
    detector = {"path": str(tiny.constant(car)), "input": INPUT, "class_names": ["car"], "head": "ultralytics-end2end"}
    embedder = {"path": str(tiny.mean_colour()), "input": INPUT, "version": "mean-colour"}
    return {"site": "faults", "node": "edge-1", "detector": detector, "embedder": embedder}


def beside_live(folder: Path) -> tuple[str, bool]:
    write_video(folder / "clip.mp4", count=100)
    with OddCamera("stream") as camera:
        cameras = [{"id": "gate", "source": camera.url}, {"id": "clip", "source": "clip.mp4"}]
        raw = {**_models(folder), "cameras": cameras, "store": {"path": "mix.db"}}
        stop, passages, began_s = threading.Event(), [], time.time()
        with app.Node(parse(raw, folder / "site.yaml")) as node:
            for step in node.steps(stop):
                passages += [passage for passage in step.tracklets if passage.camera == "clip"]
                if passages or time.time() - began_s > 60:
                    stop.set()
    lasted_s = sum(passage.exit_time_s - passage.entry_time_s for passage in passages)
    begins = time.strftime("%Y", time.gmtime(passages[0].entry_time_s)) if passages else "never"
    now = f"the recording's vehicle is one passage of {lasted_s:.1f} s, in {begins}"
    return now, len(passages) == 1 and lasted_s > 3.0 and abs(passages[0].entry_time_s - began_s) < 60


def _tries(answer: int | str, seconds: float) -> int:
    """Requests in so many seconds of a node at work."""
    os.environ["FAULTS_PASSWORD"] = "wr0ng"
    with OddCamera(answer) as camera:
        login = {"username": "u", "password_env": "FAULTS_PASSWORD"}
        cameras = Cameras([CameraSettings(id="gate", source=camera.url, **login)], "live")
        stop = threading.Event()
        timer = threading.Timer(seconds, stop.set)
        timer.start()
        for _ in cameras.ticks(stop):
            pass
        cameras.close()
        return len(camera.asked)


def refused(_: Path) -> tuple[str, bool]:
    counts = {name: _tries(name, 12.0) for name in (401, 403, 404, "redirect", "redirect at once")}
    now = "requests in the first 12 s, all of one try: " + ", ".join(f"{name}: {n}" for name, n in counts.items())
    asked = max(counts.values())  # two questions at each of six addresses
    return f"{now}; the next try comes after a minute, then 2, 4, … up to an hour", asked <= 12


def not_set(folder: Path) -> tuple[str, bool]:
    camera = {"id": "gate", "source": "rtsp://127.0.0.1:1/1", "username": "u", "password_env": "NO_SUCH_PASSWORD"}
    (folder / "site.yaml").write_text(yaml.safe_dump({**_models(folder), "cameras": [camera]}))
    command = [sys.executable, "-m", "edge_app", "run", "--config", str(folder / "site.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = done.stderr.strip().splitlines()
    return f"exit {done.returncode}: {said[-1].strip(' -')}", done.returncode == 78 and "NO_SUCH_PASSWORD" in said[-1]


def news(_: Path) -> tuple[str, bool]:
    """Twenty minutes of the real loop, by a clock that runs 200 times as fast."""
    clock = Fast(200)

    def freezing():
        yield frame_of("freezing", clock(), 1)
        yield 4.0 / clock.factor
        yield SourceError("camera freezing: no data for 4 s")

    yard = Yard()
    lost = [SourceError("camera dead: connection refused"), SourceError("camera dead: no answer within 4 s")]
    yard.scripts = {"dead": lost * 500, "freezing": [freezing]}
    sources = [CameraSettings(id=name, source=f"rtsp://{name}.invalid/1") for name in yard.scripts]
    cameras = Cameras(sources, "live", yard.open, clock=clock, rng=Hurried(clock.factor))
    stop, said = threading.Event(), {name: [] for name in yard.scripts}
    health = Health(list(yard.scripts), monotonic=clock.monotonic)
    thread = threading.Thread(target=lambda: [None for _ in cameras.ticks(stop)], daemon=True)
    thread.start()
    began_s = clock.monotonic()
    while clock.monotonic() - began_s < 1200:
        for name, status in cameras.states().items():
            if health.see(name, (status.state, status.reason), status):
                said[name].append(health.cameras[name].reason)
        time.sleep(0.5 / clock.factor)
    falls = cameras.states()["freezing"].falls
    stop.set()
    thread.join()
    cameras.close()
    counts = {name: len(some) for name, some in said.items()}
    now = f"a dead camera is news {counts['dead']} times, a freezing one {counts['freezing']} times"
    return f"{now}; {falls} falls are counted", max(counts.values()) <= 10


def lost_input(folder: Path) -> tuple[str, bool]:
    cut = damaged(write_video(folder / "whole.ts", count=100), folder / "noise.ts", 0.6, 1.0)
    whole = write_video(folder / "whole.mkv")
    short = folder / "cut.mkv"
    short.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    ends = []
    for path in (cut, short):
        raw = {**_models(folder), "cameras": [{"id": "clip", "source": str(path)}], "store": {"path": "lost.db"}}
        site = folder / f"{path.name}.yaml"
        site.write_text(yaml.safe_dump(raw))
        command = [sys.executable, "-m", "edge_app", "replay", "--config", str(site), "--out", f"{path}.jsonl"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        ends.append((done.returncode, done.stderr.strip().splitlines()[-1].split("): ")[-1]))
    return "; ".join(f"exit {code}, {said}" for code, said in ends), all(
        code == 66 and said.startswith("the file is") for code, said in ends
    )


def noise(folder: Path) -> tuple[str, bool]:
    path = damaged(write_video(folder / "whole.ts", count=200), folder / "middle.ts", 0.4, 0.5)
    source = open_source(CameraSettings(id="clip", source=str(path)))
    strange, frames = 0, 0
    while (frame := source.read()) is not None:
        grey = np.abs(frame.image.astype(int) - np.median(frame.image)).max(axis=2) > 40
        strange += bool(grey[24:].mean() > 0.01)
        frames += 1
    source.close()
    words = "; ".join(source.losses.words())
    return f"{frames} of 200 pictures, {strange} of them strange, and: {words}", strange == 0 and bool(words)


def upright(folder: Path) -> tuple[str, bool]:
    one = 1 << 16
    source = open_source(CameraSettings(id="a", source=str(turned_clip(folder / "phone.mp4", (0, one, -one, 0)))))
    frame = source.read()
    source.close()
    assert frame is not None
    assert frame.image is not None
    red = frame.image[8, -8]  # the stored top left corner, turned clockwise
    return (
        f"a 160x96 picture noted as turned is seen {frame.width_px}x{frame.height_px}, its corner at the top right",
        ((frame.width_px, frame.height_px) == (96, 160) and int(red[2]) > 180),
    )


def ended(_: Path) -> tuple[str, bool]:
    yard = Yard()
    yard.scripts = {"sensor": [[frame_of("sensor", time.time() + k, k)] for k in range(4)]}
    cameras = Cameras([CameraSettings(id="sensor", source="csi://0")], "live", yard.open)
    stop = threading.Event()
    timer = threading.Timer(15.0, stop.set)
    timer.start()
    for _ in cameras.ticks(stop):
        if cameras.states()["sensor"].reconnects >= 2:
            stop.set()
    timer.cancel()
    status = cameras.states()["sensor"]
    cameras.close()
    return f"opened again {status.reconnects} times after its pipeline ended", status.reconnects >= 2


def file_address(folder: Path) -> tuple[str, bool]:
    write_video(folder / "a b.mp4", count=10)
    problem = check_source(CameraSettings(id="a", source=f"file://{folder}/a%20b.mp4"))
    return json.dumps(problem) if problem else "played", problem is None


CASES = [
    Case("A2", "A recording beside a live camera", "accepted, and its tracks were over as they began", beside_live),
    Case(
        "B5",
        "What a camera refuses",
        "a wrong password was tried 1,165 times an hour, redirects were followed at 29 a second without end",
        refused,
    ),
    Case("B5", "A password's variable is not set", "accepted, and tried like a lost cable", not_set),
    Case("B6", "News of sick cameras in 20 minutes", "dead: 98 messages, freezing: 380 in the time tried", news),
    Case("C8", "Recordings cut short", "TS: 65 of 100 frames, MKV: 30 of 50; exit 0 and no word", lost_input),
    Case("C8", "Noise in the middle of a recording", "given to the detector, and not a word", noise),
    Case("C8", "Rotation in a file's metadata", "ignored: phone video lay on its side", upright),
    Case("D12", "A live pipeline that ends", "never opened again", ended),
    Case("F25", "file:///a%20b.mp4", "no such file", file_address),
]
