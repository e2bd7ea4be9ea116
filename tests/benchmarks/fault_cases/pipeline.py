"""Commits, stops and health: what a slow disk, a hanging pipeline, a taken port and a short recording come to now."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import yaml

from edge_app import app
from edge_app.config import parse
from edge_app.demo.play import Play, raw_config
from edge_app.health.health import Health, HealthSettings
from edge_app.health.heartbeat import Heartbeat
from edge_app.replay import replay_site
from edge_app.sources.status import CameraStatus
from edge_app.store.store import Store
from tests.benchmarks.fault_case import Case

HANGING = """
    import sys, threading
    from edge_app.simulation.detections import SimulatedDetector
    detect, calls = SimulatedDetector.detect, []

    def detect_and_hang(self, frames):
        calls.append(1)
        if len(calls) > 5:
            threading.Event().wait()
        return detect(self, frames)

    SimulatedDetector.detect = detect_and_hang
    from edge_app.__main__ import main
    main()
"""
COMMAND = "from edge_app.__main__ import main; main()"


class SlowStore(Store):
    """A disk that takes half a second for every commit."""

    def commit(self, *arguments: Any) -> None:
        time.sleep(0.5)
        super().commit(*arguments)


def _raw(folder: Path, seconds: float, **changes: Any) -> dict[str, Any]:
    return raw_config(Play(seconds=seconds), folder / "store.db", None) | changes


def _start(folder: Path, raw: dict[str, Any], code: str = COMMAND) -> tuple[subprocess.Popen[bytes], Path]:
    path, log = folder / "site.yaml", folder / "log"
    path.write_text(yaml.safe_dump(raw))
    with log.open("wb") as file:
        command = [sys.executable, "-c", textwrap.dedent(code), "run", "--config", str(path)]
        return subprocess.Popen(command, stdout=file, stderr=file), log


def _until(condition: Callable[[], object], timeout_s: float = 90.0) -> float:
    """Seconds until it held. Raises TimeoutError."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > timeout_s:
            raise TimeoutError(f"not within {timeout_s:g} s")
        time.sleep(0.05)
    return time.monotonic() - began_s


def slow_disk(folder: Path) -> tuple[str, bool]:
    before, app.Store = app.Store, SlowStore  # type: ignore[misc]
    try:
        raw = _raw(folder, 10.0, ticks={"mode": "live", "speed": 1.0})
        with app.Node(parse(raw, folder / "site.yaml")) as node:
            frames = sum(len(step.frames) for step in node.steps(threading.Event()))
            dropped = sum(status.dropped for status in node.cameras.states().values())
    finally:
        app.Store = before  # type: ignore[misc]
    return f"{frames} of {frames + dropped} frames are processed", dropped < 0.05 * frames


def hanging_pipeline(folder: Path) -> tuple[str, bool]:
    process, log = _start(folder, _raw(folder, 300.0, ticks={"mode": "live"}), HANGING)
    try:
        _until(lambda: "camera gate: ok" in log.read_text())
        after_s = _until(lambda: "node: degraded (the pipeline has not moved" in log.read_text())
        told = "camera gate: stalled (the pipeline has not moved" in log.read_text()
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(40)
        seconds = time.monotonic() - began_s
    finally:
        process.kill()
        process.wait()
    stacks = "in detect_and_hang" in log.read_text()
    return (
        f"degraded after {after_s:.0f} s, cameras stalled; SIGTERM ends it after {seconds:.1f} s with {code}, its"
        f" stacks {'are' if stacks else 'are not'} in the log",
        told and stacks and after_s < 15 and seconds < 10.5 and code == 70,
    )


def stop_under_load(folder: Path) -> tuple[str, bool]:
    """A drawn town, a broker that takes the connection and never answers, two more processes per core."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        raw = raw_config(Play(seconds=600.0, fidelity="frames"), folder / "store.db", None)
        process, _ = _start(folder, raw | {"mqtt": {"host": "127.0.0.1", "port": silent.getsockname()[1]}})
        try:
            _until(lambda: _steps_are_made(folder / "store.db"))
            burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
            time.sleep(3.0)
            began_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            code = process.wait(40)
            seconds = time.monotonic() - began_s
        finally:
            for one in (process, *burners):
                one.kill()
                one.wait()
    return f"{seconds:.1f} s, exit code {code}", seconds < 10 and code == 0


def _steps_are_made(path: Path) -> bool:
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as database,
    ):
        return database.execute("SELECT 1 FROM parts WHERE key = 'pipeline/progress'").fetchone() is not None
    return False


class _Listener:
    """A publisher that keeps what it was told."""

    def __init__(self) -> None:
        from edge_app.delivery.outgoing import Letterhead

        self.letterhead = Letterhead("site", "node", "1")
        self.held: list[Any] = []
        self.states: list[tuple[str, str | None]] = []
        self.counters: dict[str, int] = {}

    def hold(self, message: Any) -> None:
        self.held.append(message)

    def send(self, message: Any) -> None: ...

    def set_state(self, state: Any, reason: str | None = None) -> None:
        self.states.append((state, reason))


def _told(folder: Path, looks: list[CameraStatus], processed_each: int = 1) -> tuple[_Listener, Health]:
    """What a heartbeat tells that looks once at each of these, half a second apart."""
    from edge_app.health.pace import Pace

    now_s, listener, store = [0.0], _Listener(), Store(folder / "store.db")
    health = Health(["north"], folder, Pace(monotonic=lambda: now_s[0]))
    current = [looks[0]]
    heartbeat = Heartbeat(HealthSettings(), health, listener, store, cameras=lambda: {"north": current[0]})
    for status in looks:
        current[0] = status
        health.processed(["north"] * processed_each)
        heartbeat._look()
        now_s[0] += 0.5
    store.close()
    return listener, health


def dropped_frames(folder: Path) -> tuple[str, bool]:
    looks = [CameraStatus("north", "ok", 25 * k, 24 * k, 0, 0, 25.0, 1.0, None) for k in range(60)]
    listener, _ = _told(folder, looks)
    state, reason = listener.states[-1] if listener.states else ("online", None)
    return f"{state}: {reason}", len(listener.states) == 1 and state == "degraded"


def measured_reasons(folder: Path) -> tuple[str, bool]:
    looks = [
        CameraStatus("north", "offline", 0, 0, k // 12, 0, 0.0, None, f"no answer for {0.5 * k:.1f} s")
        for k in range(2400)  # 20 minutes
    ]
    listener, _ = _told(folder, looks, 0)
    return f"it is news {len(listener.held)} times, the node's state {len(listener.states)} times", (
        len(listener.held) == 1 and len(listener.states) == 1
    )


def flapping(folder: Path) -> tuple[str, bool]:
    fine = CameraStatus("north", "ok", 0, 0, 0, 0, 10.0, 1.0, None)
    frozen = CameraStatus("north", "stalled", 0, 0, 0, 0, 0.0, 1.0, "the picture is frozen")
    looks = [frozen if k // 9 % 2 else fine for k in range(2400)]  # changes every 4.5 s for 20 minutes
    listener, health = _told(folder, looks)
    changes = health.counters["camera_state_changes"]
    return f"{len(listener.held)} messages, {changes} changes counted in health", len(listener.held) < 10 < changes


def taken_port(folder: Path) -> tuple[str, bool]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        raw = _raw(folder, 5.0, health={"prometheus_port": other.getsockname()[1]})
        raw["ticks"]["speed"] = None
        process, log = _start(folder, raw)
        code = process.wait(90)
        path = str(folder / "site.yaml")
        check = subprocess.run(
            [sys.executable, "-m", "edge_app", "check", "--config", path], capture_output=True, text=True, check=False
        )
    said = "trying again every" in log.read_text()
    return f"the node says so, goes on and ends with {code}; check reports it ({check.returncode})", (
        said and code == 0 and "cannot listen" in check.stderr
    )


def short_recording(folder: Path) -> tuple[str, bool]:
    out = folder / "facts.jsonl"
    replay_site(parse(_raw(folder, 20.0), folder / "site.yaml"), out)
    topics = [json.loads(line).get("topic", "") for line in out.read_text().splitlines()]
    kinds = Counter(topic.split("/")[5] for topic in topics if "/agg/" in topic)
    return f"{sum(kinds.values())} aggregates: {dict(sorted(kinds.items()))}", kinds["flow"] >= 4 and kinds["od"] >= 1


def why_not(folder: Path) -> tuple[str, bool]:
    said = replay_site(parse(_raw(folder, 20.0, links=[]), folder / "site.yaml"), folder / "facts.jsonl")
    lines = [" ".join(line.split()) for line in said.splitlines()]
    return " | ".join(lines[:2]), bool(re.match(r"\d+ no links are configured", lines[1]))


def kills(folder: Path) -> tuple[str, bool]:
    """Intervals of ten seconds, a kill in each, a restart from what was committed within the second before it."""
    from edge_app.contract.aggregates import Flow
    from edge_app.delivery.aggregate import Aggregates, AggregateSettings
    from edge_app.delivery.outgoing import Letterhead
    from edge_app.store.parts import Parts

    settings = AggregateSettings(interval_s=10, settle_s=1, republish_s=1)
    letterhead, parts, start_s = Letterhead("site", "node", "1"), dict[str, bytes](), 1_700_000_000.0
    said, one = set[float](), Aggregates(settings, ["a"], [])
    tenth = committed = killed = 0
    while tenth < 10 * 5075:
        now_s = start_s + tenth / 10
        one.update([], [], ["a"], now_s)
        said |= {flow.interval_start_s for flow in one.due(letterhead, now_s, now_s) if isinstance(flow, Flow)}
        if tenth % 10 == 0:
            changed = parts | one.take_changes()
            parts = {key: value for key, value in changed.items() if value is not None}
            committed = tenth
        if tenth % 100 == 57 and tenth > killed:
            killed, tenth, one = tenth, committed, Aggregates(settings, ["a"], [], Parts(parts))
        tenth += 1
    return f"{len(said)} intervals are said, with a kill in each of 506", len(said) >= 506


CASES = [
    Case(
        "C7",
        "A pipeline that hangs",
        "Stayed online, cameras ok, fps ≈ 10, for 9 min 40 s; SIGTERM did not end it.",
        hanging_pipeline,
    ),
    Case("C7", "A node too slow for its cameras", "96 % of the frames were dropped at ok and online.", dropped_frames),
    Case(
        "B6",
        "A dead camera whose reason holds what was measured",
        "Was news 98 times in 20 minutes.",
        measured_reasons,
    ),
    Case("B6", "A camera that freezes and comes back", "Flapped every 9 s: 380 messages.", flapping),
    Case("B5", "Prometheus' port is taken", "The node ended with 78 and was not restarted.", taken_port),
    Case(
        "C8",
        "A recording shorter than an interval",
        "0 aggregates: the last interval was lost, and replay wrote none.",
        short_recording,
    ),
    Case("C8", "A replay that matches nothing", "Counted frames, tracklets and facts, and never said why.", why_not),
    Case(
        "D12",
        "Killed in every interval",
        "Lost up to 10 s of coverage each: 144 of 506 short intervals were never said.",
        kills,
    ),
    Case(
        "D12",
        "A disk that takes 0.5 s a commit",
        "235 of 480 frames were processed: commits sat in the pipeline's thread.",
        slow_disk,
    ),
    Case("D12", "SIGTERM on a busy machine, broker silent", "Took 9 to 28 s against the unit's 20 s.", stop_under_load),
]
