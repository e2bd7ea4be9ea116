"""A world of kills: nodes that are killed at random moments, a broker that is, and what a witness heard of them.

Simulated sites at detections fidelity. Lives are forks, see `forked.py`; every fifth, which is killed while it starts,
is the command line itself. Two nodes are killed side by side, one for each core.
"""

import contextlib
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import forked
import yaml
from heard import assert_same, assert_same_aggregates, final_aggregates, receive_all

from edge_app.demo.play import Play, raw_config
from edge_app.pipeline import PROGRESS

SEEDS = (7, 11)
SECONDS = 180.0  # of capture time
SPEED = 4.0
START_LIMIT_S = 60.0


class Node:
    """One `edge-app run` on one store: started, killed, started again."""

    def __init__(self, folder: Path, name: str, seed: int, mqtt: dict, seconds: float = SECONDS) -> None:
        self.name = name
        self.store = folder / f"{name}.db"
        self._log = folder / f"{name}.log"
        self._configs = {speed: folder / f"{name}-{speed}.yaml" for speed in (SPEED, None)}
        for speed, path in self._configs.items():
            raw = raw_config(Play(seed=seed, seconds=seconds, speed=speed), self.store, mqtt)
            raw["aggregate"] = {"interval_s": 30, "settle_s": 5, "republish_s": 5}
            path.write_text(yaml.safe_dump(raw | {"site": name, "node": name}))

    def start(self, speed: float | None = None, popen=forked.Popen):
        command = [sys.executable, "-m", "edge_app", "run", "--config", str(self._configs[speed])]
        with self._log.open("ab") as log:
            return popen(command, stdout=log, stderr=log)

    def be_killed(self, times: int, chance: random.Random) -> Counter:
        """Returns how often it was killed while `starting`, `running` and `stopping`, and how often it came to an end
        before."""
        ends: Counter = Counter()
        for number in range(1, times + 1):
            if number % 5 == 0:
                ends[self._starting(chance)] += 1
            else:
                ends[self._running(chance, asked_first=number % 5 == 1)] += 1
        return ends

    def _starting(self, chance: random.Random) -> str:
        """The command line, killed somewhere in its first three seconds."""
        process = self.start(SPEED, subprocess.Popen)
        time.sleep(chance.uniform(0.0, 3.0))
        end = "over" if process.poll() is not None else "starting"
        process.kill()
        process.wait()
        return end

    def _running(self, chance: random.Random, asked_first: bool) -> str:
        """Killed between 0.1 and 1.5 s after it has come further than the life before; or asked to stop then,
        and killed while it does."""
        before = self._progress()
        process = self.start(SPEED)
        try:
            until_s = time.monotonic() + START_LIMIT_S
            while self._progress() == before and process.poll() is None:
                assert time.monotonic() < until_s, f"{self.name}: no step in {START_LIMIT_S} s:\n{self.log()[-3000:]}"
                time.sleep(0.02)
            time.sleep(chance.uniform(0.1, 1.5))
            if process.poll() is not None:
                return "over"
            if not asked_first:
                return "running"
            process.terminate()
            time.sleep(chance.uniform(0.0, 0.4))
            return "stopping" if process.poll() is None else "stopped"
        finally:
            process.kill()
            process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _progress(self) -> bytes | None:
        """What was committed last, read like another process would; None before the first commit."""
        with (
            contextlib.suppress(sqlite3.OperationalError),  # no file, no table yet, or busy
            contextlib.closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=1)) as database,
        ):
            row = database.execute("SELECT value FROM parts WHERE key = ?", (PROGRESS,)).fetchone()
            return row and row[0]
        return None


def run_to_the_end(nodes: list[Node]) -> None:
    """As fast as it can: in lockstep the speed changes nothing else."""
    for node, process in [(node, node.start()) for node in nodes]:
        assert process.wait(timeout=240) == 0, node.log()[-3000:]
        assert "Traceback" not in node.log(), node.log()


def restart_until_done(broker, futures: list[Future], chance: random.Random) -> Counter:
    """Stop or kill the broker every second or three and start it again; returns how often each."""
    ends: Counter = Counter()
    while wait(futures, timeout=chance.uniform(0.5, 4.0)).not_done:
        how = chance.choice(("stop", "kill"))
        getattr(broker, how)()
        ends[f"broker {how}"] += 1
        time.sleep(chance.uniform(0.1, 2.0))
        broker.start()
    return ends


def persistent(folder: Path) -> str:
    """A broker that writes down at once what it has taken, so that being killed loses it nothing."""
    return f"allow_anonymous true\npersistence true\npersistence_location {folder}/\n" + (
        "autosave_on_changes true\nautosave_interval 1\nmax_queued_messages 0\n"
    )


def endure(folder: Path, broker, subscriber, kills_each: int, seconds: float) -> dict[str, Any]:
    """Kill two nodes `kills_each` times, and the broker, and compare what a witness heard with unbroken runs."""
    mqtt = {"host": broker.host, "port": broker.port, "reconnect_min_s": 0.1, "reconnect_max_s": 0.5}
    unbroken = [Node(folder, f"unbroken-{seed}", seed, mqtt, seconds) for seed in SEEDS]
    killed = [Node(folder, f"killed-{seed}", seed, mqtt, seconds) for seed in SEEDS]
    run_to_the_end(unbroken)
    with ThreadPoolExecutor() as pool:
        lives = [pool.submit(node.be_killed, kills_each, random.Random(node.name)) for node in killed]
        ends = restart_until_done(broker, lives, random.Random(3))
    for life in lives:
        ends.update(life.result())
    run_to_the_end(killed)
    facts = intervals = 0
    for one, other in zip(killed, unbroken, strict=True):
        mail, expected = receive_all(subscriber, one), receive_all(subscriber, other)
        assert_same(mail, expected)
        assert_same_aggregates(final_aggregates(subscriber, one.name), final_aggregates(subscriber, other.name))
        facts += len(mail)
        intervals += len(final_aggregates(subscriber, one.name))
    return {"ends": dict(ends), "facts": facts, "aggregates": intervals, "equal": True}
