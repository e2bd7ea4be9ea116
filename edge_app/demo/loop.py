"""The loop in one command: a site that starts with a generic embedder learns from its own crops, without a label.

    collect   the node runs with the generic embedder, in two sessions; its crops go to the store
    adapt     the trainer takes them in, learns from them, judges itself and signs a bundle; or keeps what there was
    judge     the node runs on traffic that made no crops: as it began, with the bundle, and with the demo's own
              embedder, which was trained with labels; a subscriber receives the matches, which the truth then scores

`edge-app run`, `edge-app upload` and `trainer adapt` are processes of their own and share the store alone. Only the
bundle is handed over here, with the trainer's public key.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edge_app.associate.facts import standing_matches
from edge_app.config import parse
from edge_app.contract.shard import read_shard
from edge_app.contract.yaml import read
from edge_app.demo.baselines import ceiling_hungarian
from edge_app.demo.broker import EmbeddedBroker
from edge_app.demo.demo import make_folder, play_and_listen
from edge_app.demo.judgement import judge
from edge_app.demo.loop_report import Judged, Loop, Report, Uploaded
from edge_app.demo.loop_sites import (
    FPS,
    GENERIC,
    GENERIC_SIMILARITY,
    SESSIONS,
    Embedder,
    Folders,
    adapted,
    adapting,
    collecting,
    labelled,
    node,
    sessions,
)
from edge_app.demo.play import Play
from edge_app.demo.watch import address_text
from edge_app.errors import ConfigurationError, EdgeError
from edge_app.logs import LogSettings, configure

TRAINER_NEEDS = ("torch", "faiss", "sklearn")
DEMO_SIZE = ("minimum_exits", "minimum_units", "unit_s")  # what a site of an hour must have smaller


def run_loop(play: Play, learn_s: float, out: Path | None, headless: bool) -> dict[str, Any]:
    """Once around; returns what `summary.json` holds. `play` is what is judged; sessions of `learn_s` seconds of the
    same site, drawn from other seeds, make the crops. Raises `EdgeError` where a process fails; a gate that refuses is
    none."""
    _need_a_trainer()
    configure(LogSettings(level="ERROR"))  # the terminal belongs to the story
    if out is not None:
        make_folder(out)
    report = Report(headless)
    with ExitStack() as stack:
        folders = Folders(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crosslane-loop-"))))
        folders.make()
        began = _Clocks()
        play = replace(play, fps=FPS)
        report.opening(play, SESSIONS, learn_s)
        uploaded = report.stage("collect", lambda: collect(sessions(play, learn_s), folders))
        loop = report.stage("adapt", lambda: adapt(play, folders, report.trainer_says))
        judged = judge_all(play, loop, folders, report)
        summary = report.end(play, uploaded, loop, judged, began.spent())
        if out is not None:
            report.write(out, summary, folders)
    return summary


def collect(plays: Sequence[Play], folders: Folders) -> Uploaded:
    """The node with the generic embedder, until its traffic is over and its crops are at the store; one session beside
    the other, since each is work for one core."""
    edge_app = [sys.executable, "-m", "edge_app"]
    configs = [str(collecting(play, folders)) for play in plays]
    with ThreadPoolExecutor(len(configs)) as beside:
        list(beside.map(lambda config: _run([*edge_app, "run", "--config", config]), configs))
    for config in configs:
        _run([*edge_app, "upload", "--config", config, "--now"])
    shards = sorted(folders.store.rglob("*.tar"))
    passages = [crop.record.passage for shard in shards for crop in read_shard(shard)]
    return Uploaded(len(shards), len(passages), len(set(passages)), sum(shard.stat().st_size for shard in shards))


def adapt(play: Play, folders: Folders, show: Callable[[str], None]) -> Loop:
    """The trainer, once; an accepted bundle lies in the node's folder afterwards."""
    site = adapting(play, folders)
    _run([sys.executable, "-m", "trainer", "adapt", str(site), "--once"], show)
    rounds = sorted((folders.trainer / "town" / "rounds").glob("*/round.json"))
    if not rounds:
        raise EdgeError("the trainer began no round, see what it said")
    one, gate = json.loads(rounds[-1].read_text(encoding="utf-8")), read(site).get("gate", {})
    strict = strictly(site, gate, rounds[-1].parent / "run" / "model.pt", folders)
    if one["decision"] != "accepted":
        return Loop(one, None, gate, strict)
    bundle, key = folders.node / "site.bundle", folders.node / "trainer.pub.pem"
    shutil.copyfile(rounds[-1].parent / "site.bundle", bundle)
    shutil.copyfile(folders.trainer / "town" / "signing-key.pub.pem", key)
    return Loop(one, adapted(bundle, key), gate, strict)


def strictly(site: Path, gate: dict[str, Any], model: Path, folders: Folders) -> dict[str, Any]:
    """What a real site's gate says of the trained model: its bounds, but for the exits and hours. Empty where
    nothing was trained."""
    if not model.is_file():
        return {}
    bounds, found = folders.trainer / "strict.yaml", folders.trainer / "strict.json"
    bounds.write_text(json.dumps({name: gate[name] for name in DEMO_SIZE if name in gate}), encoding="utf-8")
    command = [sys.executable, "-m", "trainer", "gate", str(GENERIC), str(model), "--site", str(site)]
    _run([*command, "--gate", str(bounds), "--json", str(found)], ends=(0, 1, 3))
    verdict: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return verdict


def judge_all(play: Play, loop: Loop, folders: Folders, report: Report) -> dict[str, Judged]:
    """The same traffic with each embedder. Where the model in force stays, "after" is what was before."""
    before = Embedder("before", GENERIC, GENERIC_SIMILARITY)
    found: dict[str, Judged] = {}
    with EmbeddedBroker() as broker:
        address = {"host": broker.host, "port": broker.port, "protocol": "3.1.1"}
        for embedder in (before, loop.after, labelled()):
            if embedder is None:
                found["after"] = found["before"]
                continue
            found[embedder.name] = report.stage(embedder.name, partial(judge_one, play, embedder, folders, address))
    return found


def judge_one(play: Play, embedder: Embedder, folders: Folders, address: dict[str, Any]) -> Judged:
    """Traffic that made no crops, with one embedder, as a subscriber hears of it."""
    raw = node(play, folders.node / f"{embedder.name}.db", embedder, address)
    host = address_text(address["host"], address["port"])
    run, mail = play_and_listen(
        parse(raw, folders.node / embedder.name), host, folders.root / f"{embedder.name}.jsonl", plain=True, silent=True
    )
    world = play.world()
    matches = standing_matches(mail.facts())
    found = judge(world, run.tracklets, matches, (world.start_s, world.end_s))
    return Judged(
        found.score.total,
        ceiling_hungarian(world, run.tracklets).total,
        run.facts_said,
        len(mail.facts()),
        mail.repeats,
    )


class _Clocks:
    """Seconds of this and of every process that it waited for."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.monotonic(), _cpu_s()

    def spent(self) -> tuple[float, float]:
        return time.monotonic() - self._wall_s, _cpu_s() - self._cpu_s


def _cpu_s() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _run(command: list[str], show: Callable[[str], None] | None = None, ends: tuple[int, ...] = (0,)) -> None:
    """A process of its own, its lines to `show` as they come. Raises `EdgeError` with its last words where its status
    is none of `ends`."""
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONPATH": paths}
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines = [*lines[-2:], line.rstrip()]
            if show is not None:
                show(line.rstrip())
    finally:
        if process.poll() is None and sys.exc_info()[0] is not None:
            process.terminate()
        code = process.wait()
    if code not in ends:
        raise EdgeError(f"{' '.join(command[2:4])} ended with status {code}: {' | '.join(lines)}")


def _need_a_trainer() -> None:
    """Before half an hour of traffic."""
    missing = [name for name in TRAINER_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            [f"{', '.join(missing)}: not in this environment; `bash deploy/demo.sh --loop` makes one with the trainer"],
            "the loop needs the trainer",
        )
