"""A restart onto something else: another embedder, fewer or more cameras, an older or a damaged state. The node starts,
says what it lost, and goes on matching.

Through `edge-app run` on simulated sites. A life is cut by SIGKILL in the middle of the recording; where the next one
needs another embedder, it is the same command in a process whose simulated embedder was exchanged.
"""

import contextlib
import json
import os
import random
import sqlite3
import sys
import time
from pathlib import Path
from subprocess import PIPE

import forked
import pytest
import yaml

from edge_app.demo.play import Play, raw_config
from edge_app.pipeline import PROGRESS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS, CUT_S, SPEED = 180.0, 100.0, 40.0
MQTT = {"host": "127.0.0.1", "port": 1, "reconnect_min_s": 5.0}  # nobody is there: what is said stays in the store

# A process whose simulated cameras are embedded by another network: a fixed rotation of what there is to see.
OTHER_EMBEDDER = """
import sys
import numpy as np
from edge_app.simulation import detections
class Other(detections.SimulatedEmbedder):
    version, dimension = "simulated-2", int(sys.argv.pop(1))
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(64, 64)))[0][:, :dimension]
    def embed(self, views):
        rows = super().embed(views) @ self.turn
        return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)).astype(np.float32)
detections.SimulatedEmbedder = Other
from edge_app.__main__ import main
main()
"""


class Site:
    """One store, and the commands that run on it."""

    def __init__(self, folder: Path) -> None:
        self.store, self._folder = folder / "s.db", folder
        self.raw = raw_config(Play(seed=7, seconds=SECONDS, speed=SPEED), self.store, MQTT)
        self.log = ""

    def start(self, *, speed: float | None = None, dimension: int | None = None) -> forked.Popen:
        path = self._folder / "site.yaml"
        path.write_text(yaml.safe_dump(self.raw | {"ticks": {"mode": "lockstep", "speed": speed}}))
        command = [sys.executable, "-m", "edge_app"]
        if dimension is not None:
            command = [sys.executable, "-c", OTHER_EMBEDDER, str(dimension)]
        return forked.Popen([*command, "run", "--config", str(path)], stderr=PIPE, text=True)

    def cut(self) -> None:
        """Run until the middle of the recording, and die there."""
        process = self.start(speed=SPEED)
        try:
            until_s = time.monotonic() + 120
            while self.reached() < CUT_S:
                assert time.monotonic() < until_s
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.05)
        finally:
            process.kill()
            process.communicate()

    def to_the_end(self, **how) -> None:
        process = self.start(**how)
        _, self.log = process.communicate(timeout=200)
        assert process.returncode == 0, self.log[-3000:]
        assert "Traceback" not in self.log, self.log[-3000:]
        assert self.reached() >= SECONDS - 1

    def reached(self) -> float:
        """Seconds of the recording that are committed."""
        with contextlib.suppress(sqlite3.OperationalError), self.database() as database:
            row = database.execute("SELECT value FROM parts WHERE key = ?", (PROGRESS,)).fetchone()
            return json.loads(row[0].split(b"\n", 1)[1])["now"] - 1_700_000_000 if row else 0.0
        return 0.0

    def database(self):
        return contextlib.closing(sqlite3.connect(self.store, isolation_level=None))

    def said(self, kind: str) -> list[dict]:
        with self.database() as database:
            rows = database.execute("SELECT payload FROM outbox WHERE kind = ? ORDER BY id", (kind,)).fetchall()
        return [json.loads(payload) for (payload,) in rows]

    def keys(self, prefix: str) -> list[str]:
        with self.database() as database:
            return [key for (key,) in database.execute("SELECT key FROM parts") if key.startswith(prefix)]


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a store whose node was killed in the middle."""
    site = Site(tmp_path_factory.mktemp("middle"))
    site.cut()
    return {end: site.store.with_name(f"s.db{end}").read_bytes() for end in ("", "-wal")}


@pytest.fixture
def site(tmp_path: Path, middle: dict[str, bytes]) -> Site:
    for end, content in middle.items():
        (tmp_path / f"s.db{end}").write_bytes(content)
    return Site(tmp_path)


@pytest.mark.long
def test_going_on_loses_nothing_and_says_no_gap(site: Site) -> None:
    site.to_the_end()
    assert site.said("gap") == []
    assert len(site.said("match")) > 40


@pytest.mark.parametrize(
    "dimension",
    [pytest.param(64, id="of the same dimension", marks=pytest.mark.long), pytest.param(48, id="of another dimension")],
)
def test_another_embedder(site: Site, dimension: int) -> None:
    before = {match["event_id"] for match in site.said("match")}
    site.to_the_end(dimension=dimension)
    new = [match for match in site.said("match") if match["event_id"] not in before]
    versions = {
        version: [m for m in new if m["embedding_version"] == version] for version in ("simulated-1", "simulated-2")
    }
    assert len(versions["simulated-2"]) > 15
    boots = {"simulated-1": ".1/", "simulated-2": ".2/"}
    for match in versions["simulated-2"]:  # nobody who was seen by the old network only
        assert boots["simulated-2"] in match["to"]["track"]
    kept = site.keys("associate/calibrations/")
    assert {key.split("/")[2] for key in kept} == {"simulated-1", "simulated-2"}
    assert site.said("gap") == []


@pytest.mark.long
def test_a_camera_is_taken_out(site: Site) -> None:
    site.raw["cameras"] = [camera for camera in site.raw["cameras"] if camera["id"] != "market"]
    site.raw["links"] = [x for x in site.raw["links"] if "market" not in (x["from_camera"], x["to_camera"])]
    before = len(site.said("match"))
    site.to_the_end()
    assert len(site.said("match")) > before + 10
    site.to_the_end()  # and once more: it failed at every start


@pytest.mark.long
def test_a_camera_is_added(tmp_path: Path) -> None:
    site = Site(tmp_path)
    everything = dict(site.raw)
    site.raw["cameras"] = [camera for camera in site.raw["cameras"] if camera["id"] != "market"]
    site.raw["links"] = [x for x in site.raw["links"] if "market" not in (x["from_camera"], x["to_camera"])]
    site.cut()
    site.raw = everything
    before = len(site.said("match"))
    site.to_the_end()
    new = site.said("match")[before:]
    assert {match["link"] for match in new} >= {"gate--market", "market--harbour"}


def test_every_part_of_the_state_is_spoiled(site: Site) -> None:
    """Flipped, cut, replaced by other JSON: the node starts, publishes one gap per start, sets aside, and matches."""
    chance = random.Random(4)
    before = len(site.said("match"))
    with site.database() as database:
        parts = database.execute("SELECT key, value FROM parts").fetchall()
        for number, (key, value) in enumerate(parts):
            place = chance.randrange(len(value))
            spoiled = [value[:place] + bytes([value[place] ^ 4]) + value[place + 1 :], value[:place], b'{"id": 7}'][
                number % 3
            ]
            database.execute("UPDATE parts SET value = ? WHERE key = ?", (spoiled, key))
    site.to_the_end()
    (gap,) = site.said("gap")
    assert "begins anew" in gap["reason"]
    assert sum(gap["counts"].values()) == len(parts) - 2  # tracks and looks are nothing without the tracklets
    assert "unreadable and begun anew" in site.log
    with site.database() as database:
        assert database.execute("SELECT count(*) FROM aside").fetchone()[0] == min(len(parts) - 2, 1000)
    assert len(site.said("match")) > before + 20


@pytest.mark.long
def test_pages_of_the_database_are_damaged(site: Site) -> None:
    """Unsent messages first: nearly all of them are in the new database, and the loss is published."""
    matches = {match["event_id"] for match in site.said("match")}
    with site.database() as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(site.store.read_bytes())
    pages = list(range(1, len(content) // 4096))
    for page in random.Random(2).sample(pages, max(len(pages) // 30, 3)):
        content[page * 4096 : (page + 1) * 4096] = os.urandom(4096)
    site.store.write_bytes(content)
    site.to_the_end()
    saved = {match["event_id"] for match in site.said("match")} & matches
    assert len(saved) > 0.8 * len(matches)
    assert any("store was damaged" in gap["reason"] for gap in site.said("gap"))
    assert len(list(site.store.parent.glob("s.db.damaged-*"))) == 1
    assert len(site.said("match")) > len(saved) + 20


def test_a_state_of_release_0_1(site: Site) -> None:
    """Its parts as that release wrote them: everything but the open tracks and the calibrations is read."""
    with site.database() as database:
        as_release_0_1(database)
    before = len(site.said("match"))
    site.to_the_end()
    (gap,) = site.said("gap")
    assert set(gap["counts"]) == {"perception/tracklets", "associate/calibrations"}
    assert len(site.said("match")) > before + 20


def as_release_0_1(database: sqlite3.Connection) -> None:
    """Turn a store of today into one of schema 1, with the parts of release 0.1 (commit 5db02dd)."""
    parts = dict(database.execute("SELECT key, value FROM parts"))
    means = {key: json.loads(value.split(b"\n", 1)[1]) for key, value in parts.items() if "/means/" in key}
    database.execute("DELETE FROM parts")
    coverage: dict[str, dict[str, float]] = {}  # all intervals were one part
    for key, value in parts.items():
        if "/means/" in key:
            continue
        if key.startswith("aggregate/coverage/"):
            for camera, seconds in json.loads(value.split(b"\n", 1)[1]).items():
                coverage.setdefault(camera, {})[key.rpartition("/")[2]] = seconds
            continue
        if not key.startswith("perception/"):
            stored = json.loads(value.split(b"\n", 1)[1])
            if "/passages/" in key:
                key = key.replace("/passages/", "/nodes/")
            elif "/gallery/" in key:
                for proxy in stored["proxies"].values():
                    del proxy["camera"], proxy["embedding_version"]
            elif "/cameras/" in key:
                mean = means[f"associate/means/simulated-1/{stored['id']}"]
                stored |= {"version": "simulated-1", "mean": mean["mean"], "count": mean["count"]}
            elif "/calibrations/" in key:
                key = f"associate/calibrations/{stored['pair']}"
                stored = {"id": stored["pair"], "genuine": stored["genuine"], "impostor": stored["impostor"]}
            elif key == "associate/counters":
                del stored["versions"]
            value = json.dumps(stored).encode()
        else:
            value = b'{"format": "crosslane.tracklets/1"}\n\x80\x05cos\nsystem\n.'
        database.execute("INSERT INTO parts VALUES (?, ?)", (key, value))
    database.execute("INSERT INTO parts VALUES (?, ?)", ("aggregate/coverage", json.dumps(coverage).encode()))
    database.execute("ALTER TABLE outbox DROP COLUMN checksum")
    database.execute("DROP TABLE aside")
    database.execute("DELETE FROM meta WHERE key = 'checksum'")
    database.execute("PRAGMA user_version = 1")
