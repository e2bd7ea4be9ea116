"""A site of a few passages, its store in a folder, and processes that die at a chosen line."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import numpy as np
import yaml

from edge_app.contract.crop import Crop, CropRecord
from edge_app.contract.objects import ObjectStore, ObjectStoreSettings, open_store
from edge_app.contract.shard import write_shard
from trainer.adapt.crops.index import Index
from trainer.adapt.crops.ingest import Ingested, ingest, own_folder
from trainer.adapt.settings import KeepSettings, SiteSettings, load

NOON_S = 1_700_000_000.0
TRAINING = {
    "model": {"backbone": "onnx", "ghost_group": 4, "pooling": "average", "unfold_batch_norm": False},
    "method": {
        "name": "crosslane",
        "labels": {
            "clustering": {"jaccard": {"k1": 6, "k2": 2}, "dbscan": {"min_samples": 2}, "eps_candidates": [0.4, 0.6]}
        },
        "sampler": {"proxies": 2, "crops": 2, "steps": 2},
        "augment": {"pad_px": 1},
    },
    "optimiser": {"name": "sgd", "rate": 1.0e-3},
    "epochs": 1,
    "when_in_doubt": "train",  # a handful of crops: the gate decides here
    "device": "cpu",
}


def picture(seed: int) -> bytes:
    """A JPEG of its own: 64 × 48 noise of large grains."""
    grains = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    return cv2.imencode(".jpg", cv2.resize(grains, (64, 48), interpolation=cv2.INTER_NEAREST))[1].tobytes()


def crop(track: int, number: int = 0, *, pixels: bytes | None = None, **changes: Any) -> Crop:
    """Crop `number` of passage `track`, which begins `track` seconds after noon."""
    entered_s = NOON_S + track
    values: dict[str, Any] = {
        "site": "town",
        "node": "edge-1",
        "camera": "east",
        "passage": f"edge-1/east/b.7/{track}",
        "number": number,
        "class_name": "car",
        "captured_at_s": entered_s + number,
        "box": (10.0, 20.0, 34.0, 52.0),
        "frame_px": (640, 360),
        "score": 0.9,
        "quality": 0.5,
        "embedding_version": "demo-1",
        "entered_at_s": entered_s,
        "left_at_s": entered_s + 9,
    }
    row = np.random.default_rng(10_000 + track).standard_normal(16)
    embedding = (row / np.linalg.norm(row)).astype(np.float16)
    return Crop(CropRecord(**{**values, **changes}), pixels or picture(100 * track + number), embedding)


def site_file(root: Path, training: dict[str, Any], max_s: float, **changes: Any) -> SiteSettings:
    """`site.yaml` of two cameras, and the training file that it names."""
    (root / "train.yaml").write_text(yaml.safe_dump(training))
    values = {
        "site": "town",
        "store": {"url": "store"},
        "folder": "own",
        "start": "start.onnx",
        "train": "train.yaml",
        "links": [{"from_camera": "west", "to_camera": "east", "transit": {"min_s": 40, "max_s": max_s}}],
        "precision": "fp32",
        **changes,
        "keep": {"near_bits": -1, "days": 3650, **changes.get("keep", {})},
    }
    (root / "site.yaml").write_text(yaml.safe_dump(values))
    return load(root / "site.yaml")


class Site:
    """Store, settings and the trainer's folder below one path."""

    def __init__(self, root: Path, **keep: Any) -> None:
        self.root, self.objects = root, root / "store"
        self.shards = self.objects / "town" / "crops" / "edge-1"
        self.shards.mkdir(parents=True, exist_ok=True)
        self.settings = SiteSettings(
            site="town",
            store=ObjectStoreSettings(url=str(self.objects)),
            folder=root / "own",
            start=root / "start.onnx",
            train=root / "train.yaml",
            keep=KeepSettings(**{"held_out": 0.0, **keep}),
        )
        self.numbers = iter(range(10**6))

    def upload(self, crops: Sequence[Crop]) -> Path:
        """One shard on the store."""
        return write_shard(self.shards, "edge-1", "b.7", next(self.numbers), crops)

    def ingest(self, now_s: float = NOON_S + 3600, store: ObjectStore | None = None) -> Ingested:
        """As the command does it."""
        store = store or open_store(self.settings.store)
        with own_folder(self.settings) as folder:
            index = Index(folder / "index.db")
            try:
                return ingest(self.settings, store, index, now_s, lambda _: None)
            finally:
                index.close()

    def state(self) -> tuple[Any, ...]:
        """All that must not depend on what happened on the way: rows without their numbers, and files."""
        index = Index(self.settings.folder / "index.db")
        try:
            rows = index._rows("SELECT key, passage, use, hex(picture), control FROM crops ORDER BY key")
            shards = index._rows("SELECT name, state, reason, crops FROM shards ORDER BY name")
        finally:
            index.close()
        files = sorted(path for path in self.settings.folder.rglob("*") if path.is_file())
        plain = [path for path in files if not path.name.startswith("index.db")]
        return rows, shards, [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in plain]


def dying(work: Callable[[], Any], line: int, modules: Sequence[str]) -> bool:
    """Do the work in a process that kills itself (-9) at its `line`-th line within these modules; whether it died."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    try:
        sys.settrace(_at_each_line(modules, lambda number: number >= line and os.kill(os.getpid(), signal.SIGKILL)))
        work()
    finally:
        os._exit(0)


def lines_of(work: Callable[[], Any], modules: Sequence[str]) -> int:
    """Do the work in a process of its own; how many lines within these modules it went through."""
    answer, ask = os.pipe()
    if not os.fork():
        passed = 0

        def note(number: int) -> None:
            nonlocal passed
            passed = number

        try:
            sys.settrace(_at_each_line(modules, note))
            work()
        finally:
            os.write(ask, b"%d" % passed)
            os._exit(0)
    os.close(ask)
    with open(answer, "rb") as file:
        return int(file.read())


def _at_each_line(modules: Sequence[str], tell: Callable[[int], object]) -> Callable[[FrameType, str, Any], Any]:
    """For `sys.settrace`: tells the number of every line."""
    numbers = count(1)

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_globals.get("__name__", "").startswith(tuple(modules)):
            return None
        if event == "line":
            tell(next(numbers))
        return trace

    return trace


def without_charts(patch=setattr):
    """The pictures of a run's report take longer than all else and are not looked at here."""
    from trainer.report import charts

    for name in ("curves", "embedding_map", "ways"):
        patch(charts, name, lambda path, *_: path.write_bytes(b"a chart"))


def publish():
    """For `Child`: the gate finds every model better. What it finds is its own tests' business."""
    without_charts()
    from trainer.adapt.gate import gate
    from trainer.adapt.gate.verdict import Measure, Verdict

    lift = Measure("placebo lift", "passed", 0.1, (0.05, 0.15), 0.0, "H goes up")
    gate.judge = lambda *_, **__: Verdict("publish", (), (lift,), ())


def die_after(stage: str):
    """For `Child`: kill -9 when the work of a stage is done and nobody knows yet."""
    publish()
    from trainer.adapt import rounds
    from trainer.adapt.page import reporting
    from trainer.adapt.stages import adapt
    from trainer.adapt.told import shared

    if stage in adapt.STAGES:
        adapt.STAGES[stage] = and_die(adapt.STAGES[stage])
    else:
        module, name = {"accept": (rounds, "accept"), "report": (reporting, "write")}.get(stage, (shared, stage))
        setattr(module, name, and_die(getattr(module, name)))


def and_die(work):
    def done(*given, **named):
        work(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return done
