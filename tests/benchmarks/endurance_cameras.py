"""Sick cameras beside healthy ones: `edge-app run` with a half-open, a refusing and a freezing camera, and without.

    python tests/benchmarks/endurance_cameras.py --seconds 1200 --json cameras.json

What must hold: the healthy cameras' frame rate is the same in both runs, memory, threads and open files do not grow,
and each sick camera is news ten times or less.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from tests.integration.odd_cameras import OddCamera  # noqa: E402, the repository's folder must be known first
from tests.tiny_onnx import TinyOnnx  # noqa: E402

GOOD = ("north", "south")
SICK = {"half-open": "silent", "refused": 401, "freezing": "stream"}
SAMPLE_S = 2.0
START_S = 120.0
WARM_S = 20.0  # libraries are loaded and first pictures taken: no part of any slope
INPUT = {"width_px": 32, "height_px": 32}


def twenty_minutes(folder: Path, seconds: float = 1200.0) -> dict[str, Any]:
    """Runs of `seconds` each, with and without sick cameras, in the empty `folder`; see `lived` for a run's numbers."""
    runs = {}
    for name, sick in (("without", ()), ("with", tuple(SICK))):
        (folder / name).mkdir()
        runs[name] = lived(folder / name, sick, seconds)
    fps = [min(run["fps"].values()) for run in runs.values()]
    return {"seconds": seconds, "fps_kept": round(fps[1] / fps[0], 3), **runs}


def lived(folder: Path, sick: Sequence[str], seconds: float) -> dict[str, Any]:
    """One run of the real command: `fps` of each good camera, growth per minute of memory, threads and open files,
    `news` (camera-state messages) and `connections` of each sick camera, and the last `reasons`."""
    from edge_app.demo.broker import EmbeddedBroker

    with ExitStack() as opened:
        broker = opened.enter_context(EmbeddedBroker())
        cameras = {name: opened.enter_context(OddCamera("stream")) for name in GOOD}
        for name in sick:
            frames = 30 if name == "freezing" else None
            cameras[name] = opened.enter_context(OddCamera(SICK[name], frames))
        path = _site(folder, cameras, broker.port)
        heard = opened.enter_context(_heard(broker.port))
        node = opened.enter_context(_running(path))
        _wait_for_frames(heard)
        samples = list(_samples(node, seconds))
        states, counted = heard()
    return {
        "fps": {name: _fps(counted, name) for name in GOOD},
        "rss_kb_per_min": _slope(samples, 1),
        "threads_per_min": _slope(samples, 2),
        "files_per_min": _slope(samples, 3),
        "news": {name: sum(camera == name for camera, _, _ in states) for name in sick},
        "connections": {name: cameras[name].connections for name in sick},
        "reasons": {camera: f"{state}: {reason}" for camera, state, reason in states},
    }


def _site(folder: Path, cameras: dict[str, OddCamera], port: int) -> Path:
    models = TinyOnnx(folder)
    car = np.array([[8, 12, 24, 24, 0.01, 0]], np.float32)  # no car: one that never left would grow by itself
    raw = {
        "site": "endurance",
        "node": "edge-1",
        "cameras": [
            {
                "id": name,
                "source": camera.url,
                **({"username": "u", "password_env": "WRONG"} if name == "refused" else {}),
            }
            for name, camera in cameras.items()
        ],
        "detector": {"path": str(models.constant(car)), "input": INPUT, "class_names": ["car"]}
        | {"head": "ultralytics-end2end"},
        "embedder": {"path": str(models.mean_colour()), "input": INPUT, "version": "mean-colour"},
        "mqtt": {"host": "127.0.0.1", "port": port, "protocol": "3.1.1"},
        "health": {"interval_s": 5.0},
        "store": {"path": "endurance.db"},
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


@contextmanager
def _running(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (path.parent / "log").open("wb") as log:
        command = [sys.executable, "-m", "edge_app", "run", "--config", str(path)]
        node = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"WRONG": "wr0ng"})
        try:
            yield node
        finally:
            node.terminate()
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                node.kill()


@contextmanager
def _heard(port: int) -> Iterator[Any]:
    """A subscriber; call what it gives for the camera states told, and the heartbeats' (time, frames by camera)."""
    import paho.mqtt.client as paho

    from edge_app.contract.messages import CameraState, Health
    from edge_app.contract.topics import decode

    states: list[tuple[str, str, str | None]] = []
    counted: list[tuple[float, Counter[str]]] = []
    lock = threading.Lock()

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        decoded = decode(message.topic, message.payload)
        with lock:
            if isinstance(decoded, CameraState):
                states.append((decoded.camera, decoded.state, decoded.reason))
            elif isinstance(decoded, Health):
                counted.append((time.monotonic(), Counter({one.camera: one.frames for one in decoded.cameras})))

    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *_: client.subscribe("crosslane/#", qos=1)
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield lambda: (list(states), list(counted))
    finally:
        client.disconnect()
        client.loop_stop()


def _wait_for_frames(heard: Any) -> None:
    until_s = time.monotonic() + START_S
    while not any(sum(frames.values()) for _, frames in heard()[1]):
        if time.monotonic() > until_s:
            raise RuntimeError(f"no frame within {START_S:g} s")
        time.sleep(0.2)


def _samples(node: subprocess.Popen[bytes], seconds: float) -> Iterator[tuple[float, float, int, int]]:
    """(time, resident kB, threads, open files) of the node, once it is warm."""
    began_s = time.monotonic()
    process = Path(f"/proc/{node.pid}")
    while time.monotonic() - began_s < WARM_S + seconds:
        time.sleep(SAMPLE_S)
        if node.poll() is not None:
            raise RuntimeError(f"edge-app run ended with {node.returncode}")
        if time.monotonic() - began_s < WARM_S:
            continue
        pages = int((process / "statm").read_text().split()[1])
        threads, files = (len(os.listdir(process / name)) for name in ("task", "fd"))
        yield time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") / 1024, threads, files


def _slope(samples: list[tuple[float, float, int, int]], column: int) -> float:
    """Growth per minute, by least squares."""
    minutes = np.array([sample[0] for sample in samples]) / 60
    return round(float(np.polyfit(minutes - minutes[0], [sample[column] for sample in samples], 1)[0]), 2)


def _fps(counted: list[tuple[float, Counter[str]]], camera: str) -> float:
    """From the first heartbeat with frames to the last."""
    seen = [(at_s, frames[camera]) for at_s, frames in counted if frames[camera] > 0]
    (first_s, first), (last_s, last) = seen[0], seen[-1]
    return round((last - first) / max(last_s - first_s, 1e-3), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1200.0, help="of each of the two runs (default %(default)s)")
    parser.add_argument("--json", type=Path, default=None, help="where the numbers go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
        found = twenty_minutes(Path(folder), arguments.seconds)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
