"""A world of kills: nodes that are killed at random moments, a broker that is, and what a witness heard of them.

Simulated sites at detections fidelity. Lives are forks, see `forked.py`; every fifth, which is killed while it starts,
is the command line itself. Two nodes are killed side by side, one for each core.
"""

import contextlib
import random
import signal
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

from edge_app.contract.aggregates import Flow, OriginDestination, TravelTime
from edge_app.contract.envelope import Envelope
from edge_app.contract.messages import Match, NodeState, Revision
from edge_app.demo.play import Play, raw_config
from edge_app.pipeline import PROGRESS

SEEDS = (7, 11)
SECONDS = 180.0  # of capture time
SPEED = 4.0
START_LIMIT_S = 60.0
ENVELOPE = {*Envelope.model_fields, *Envelope.model_computed_fields, "message"}


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
        assert process.wait(timeout=120) == 0, node.log()[-3000:]
        assert "Traceback" not in node.log(), node.log()


def mail_of(subscriber, site: str) -> dict[str, Match | Revision]:
    """The facts of one site by event id. A repeat says the same as the first copy, except when it was sent."""
    mail: dict[str, Match | Revision] = {}
    for (topic, _, _), message in zip(subscriber.seen, subscriber.messages, strict=True):
        if topic.split("/")[2] == site and isinstance(message, Match | Revision):
            copy = message.model_copy(update={"published_at_s": 0.0, "historical": False})
            assert mail.setdefault(message.event_id, copy) == copy
    return mail


def passage(track: str | None) -> str | None:
    """A track without its node and boot: tracks of a camera are numbered through, whatever process saw them."""
    return track and "/".join(track.split("/")[1::2])


def content(fact: Match | Revision, mail: dict[str, Match | Revision]) -> tuple:
    """What a fact says, without the ids that name a boot."""
    if isinstance(fact, Revision):
        revised = tuple(content(mail[event], mail) if event in mail else "unmatched" for event in fact.revises)
        links = tuple((passage(link.to_track), passage(link.from_track)) for link in fact.effective_links)
        return (fact.kind, fact.observed_at_s, revised, links)
    ends = (fact.from_.camera, fact.from_.exit_time_s, fact.to.camera, fact.to.entry_time_s)
    tracks = (passage(fact.from_.track), passage(fact.to.track), passage(fact.runner_up))
    numbers = (round(fact.posterior, 9), round(fact.margin, 9), fact.observed_at_s)
    return (fact.state, fact.link, *ends, *tracks, fact.class_name, *numbers, fact.supersedes is not None)


def confirmed(mail: dict[str, Match | Revision]) -> dict[tuple, Match]:
    facts = [fact for fact in mail.values() if isinstance(fact, Match) and fact.state == "confirmed"]
    by_content = {content(fact, mail): fact for fact in facts}
    assert len(by_content) == len(facts), "one fact under two event ids"
    return by_content


def standing(mail: dict[str, Match | Revision]) -> dict[tuple, Match]:
    """The confirmed matches that no revision took back."""
    revised = {event for fact in mail.values() if isinstance(fact, Revision) for event in fact.revises}
    return {what: fact for what, fact in confirmed(mail).items() if fact.event_id not in revised}


def assert_same(killed: dict[str, Match | Revision], unbroken: dict[str, Match | Revision]) -> None:
    assert confirmed(killed).keys() == confirmed(unbroken).keys()
    assert standing(killed).keys() == standing(unbroken).keys()
    assert {content(fact, killed) for fact in killed.values()} == {
        content(fact, unbroken) for fact in unbroken.values()
    }
    pairs = {(fact.global_id, standing(unbroken)[what].global_id) for what, fact in standing(killed).items()}
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs}), "identities differ"


def receive_all(subscriber, node: Node) -> dict[str, Match | Revision]:
    """Wait until the subscriber has every fact that the node ever committed; then it has no other."""
    with contextlib.closing(sqlite3.connect(node.store)) as database:
        rows = database.execute("SELECT event_id, payload FROM outbox WHERE kind LIKE 'match%' OR kind = 'revision'")
        committed = dict(rows.fetchall())
    assert not any(committed.values()), "a fact was left behind in the outbox"
    subscriber.wait(lambda _: mail_of(subscriber, node.name).keys() >= committed.keys())
    assert mail_of(subscriber, node.name).keys() == committed.keys()
    return mail_of(subscriber, node.name)


def final_aggregates(subscriber, site: str) -> dict[tuple, dict[str, Any]]:
    """What was said last of each interval, by topic and interval, without the envelope and how often it was said."""
    last: dict[tuple, tuple[int, dict[str, Any]]] = {}
    for (topic, _, _), message in zip(subscriber.seen, subscriber.messages, strict=True):
        if topic.split("/")[2] == site and isinstance(message, Flow | TravelTime | OriginDestination):
            key = (topic.split("/agg/")[1], message.interval_start_s)
            if message.revision >= last.get(key, (0, {}))[0]:
                last[key] = (message.revision, message.model_dump(exclude=ENVELOPE | {"revision"}))
    return {key: fields for key, (_, fields) in last.items()}


def assert_same_aggregates(killed: dict[tuple, dict[str, Any]], unbroken: dict[tuple, dict[str, Any]]) -> None:
    unlike = [
        f"{key}.{name}: {killed.get(key, {}).get(name)!r}, unbroken {unbroken.get(key, {}).get(name)!r}"
        for key in sorted(killed.keys() | unbroken.keys())
        for name in sorted(killed.get(key, {}).keys() | unbroken.get(key, {}).keys())
        if killed.get(key, {}).get(name) != unbroken.get(key, {}).get(name)
    ]
    assert not unlike, "\n".join([f"{len(unlike)} fields of aggregates differ", *unlike[:20]])


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
