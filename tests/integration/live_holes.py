"""A node with a live camera that is killed: every hole in what it saw is told."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from kills import START_LIMIT_S

from edge_app.contract.aggregates import Flow, OriginDestination
from edge_app.contract.messages import NodeState

HOLE_INTERVAL_S = 10.0


def live_holes(folder: Path, broker, subscriber, kills: int) -> dict[str, Any]:
    """Kill a node with a live camera, let it be away for a while, and see that every interval was told.

    An interval is told by its trips (`od`), which name the cameras that were not seen for long enough; those that were
    say so in their flow, with the share that was seen.
    """
    from odd_cameras import OddCamera

    chance, up_s = random.Random(11), 0.0
    with OddCamera("stream") as camera:
        path = _live_site(folder, camera.url, broker)
        for _ in range(kills):
            up_s += _live_life(path, subscriber, chance.uniform(2.0, 14.0), signal.SIGKILL)
            time.sleep(chance.choice((0.0, 0.0, 12.0)))
        up_s += _live_life(path, subscriber, 3.5 * HOLE_INTERVAL_S, signal.SIGTERM)
    told = {one.interval_start_s: one for one in subscriber.of(OriginDestination)}
    covered = {one.interval_start_s: one.coverage for one in subscriber.of(Flow)}
    first, last = min(told), max(told)
    every = {first + HOLE_INTERVAL_S * k for k in range(int((last - first) / HOLE_INTERVAL_S) + 1)}
    silent = [start for start in told if not told[start].missing_cameras and start not in covered]
    return {
        "kills": kills,
        "intervals": len(every),
        "said_whole": sum(not one.missing_cameras for one in told.values()),
        "said_as_holes": sum(bool(one.missing_cameras) for one in told.values()),
        "intervals_not_said": len(every - told.keys()) + len(silent),
        "up_seconds": round(up_s, 1),
        "least_coverage_said": min(covered.values(), default=None),
    }


def _live_life(path: Path, subscriber, seconds: float, end: signal.Signals) -> float:
    """One life: until it has said that it is there, and so long after that. Returns how long it was there."""
    before = len(subscriber.of(NodeState))
    with (path.parent / "live.log").open("ab") as log:
        node = subprocess.Popen([sys.executable, "-m", "edge_app", "run", "--config", path], stdout=log, stderr=log)
    try:
        subscriber.wait(lambda seen: len(seen.of(NodeState)) > before, START_LIMIT_S)
        began_s = time.monotonic()
        time.sleep(seconds)
        return time.monotonic() - began_s
    finally:
        node.send_signal(end)
        node.wait(30)


def _live_site(folder: Path, url: str, broker) -> Path:
    import numpy as np
    from tiny_onnx import TinyOnnx

    models, size = TinyOnnx(folder), {"width_px": 32, "height_px": 32}
    car = np.array([[8, 12, 24, 24, 0.01, 0]], np.float32)
    detector = {"path": str(models.constant(car)), "input": size, "class_names": ["car"], "head": "ultralytics-end2end"}
    raw = {
        "site": "holes",
        "node": "edge-1",
        "cameras": [{"id": "north", "source": url}],
        "detector": detector,
        "embedder": {"path": str(models.mean_colour()), "input": size, "version": "mean-colour"},
        "aggregate": {"interval_s": HOLE_INTERVAL_S, "settle_s": 1, "republish_s": 1, "minimum_coverage": 0.5},
        "mqtt": {"host": broker.host, "port": broker.port, "reconnect_min_s": 0.1, "reconnect_max_s": 0.5},
        "store": {"path": "live.db"},
    }
    path = folder / "live.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path
