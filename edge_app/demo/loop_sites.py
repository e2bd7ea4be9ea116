"""The loop's files: what an installer would write for the node, and for the trainer that works for it.

The node, the store and the trainer have a folder each; the node knows the store's, the trainer knows the store's, and
neither the other's.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from edge_app.contract.yaml import read
from edge_app.demo.play import MODELS, SIMILARITY, Play, raw_config

TRAINERS = MODELS.parent / "adapt" / "loop.yaml"
GENERIC = MODELS / "generic_embedder.onnx"
LABELLED = MODELS / "demo_embedder.onnx"
HOUR_S = 3600.0
FPS = 5.0  # of every camera: half of what the demo's have, so that half an hour is played in minutes
SESSIONS = 2  # of traffic that makes crops, in hours of their own
# Nine of ten matches are to be right although nobody has looked at the site yet; `balance` is for one that is known.
# Chosen on the traffic of the seeds 60 to 63: right are 0.946 with the generic embedder, 0.940 with an adapted one.
PREFER = 0.7
OTHER_TRAFFIC = 1000  # more than the judged seed, once for each session, is the seed of that traffic
# Between tracklets of the seeds 60 and 61, as `play.SIMILARITY` was measured on 31 to 33: of the generic embedder, and
# of one that was adapted from it to the crops of seed 1060.
GENERIC_SIMILARITY = {"genuine_mean": 0.94, "genuine_std": 0.09, "impostor_mean": 0.33, "impostor_std": 0.38}
ADAPTED_SIMILARITY = {"genuine_mean": 0.90, "genuine_std": 0.10, "impostor_mean": 0.09, "impostor_std": 0.35}


@dataclass(frozen=True, slots=True)
class Folders:
    """One each; `received` is what the subscriber writes."""

    root: Path

    @property
    def node(self) -> Path:
        return self.root / "node"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def trainer(self) -> Path:
        return self.root / "trainer"

    def make(self) -> None:
        for folder in (self.node, self.store, self.trainer):
            folder.mkdir()


@dataclass(frozen=True, slots=True)
class Embedder:
    """One of the three that are compared."""

    name: str  # before, after, labelled
    path: Path
    similarity: dict[str, float]
    key: Path | None = None  # of the maker, where it is a bundle


def sessions(play: Play, seconds: float) -> list[Play]:
    """The traffic that makes crops, each session from the begin of an hour of its own: the town plays its last hours,
    because crops are kept for days, and a town of 2023 has none left."""
    last_s, apart_s = (time.time() - seconds) // HOUR_S * HOUR_S, math.ceil(seconds / HOUR_S) * HOUR_S
    return [
        replace(play, seed=play.seed + (1 + number) * OTHER_TRAFFIC, seconds=seconds, start_s=last_s - number * apart_s)
        for number in range(SESSIONS)
    ]


def collecting(play: Play, folders: Folders) -> Path:
    """The node's file for one session: the generic embedder, and crops that go up."""
    name = f"collecting-{play.seed}"
    raw = node(play, folders.node / f"{name}.db", Embedder("before", GENERIC, GENERIC_SIMILARITY))
    raw["collection"] = {"enabled": True, "folder": str(folders.node / f"{name}-spool"), "daily_bytes": 2_000_000_000}
    raw["upload"] = {"store": {"url": str(folders.store)}, "audit": str(folders.node / f"{name}-uploads.jsonl")}
    return _write(folders.node / f"{name}.yaml", raw)


def node(play: Play, store: Path, embedder: Embedder, mqtt: dict[str, Any] | None = None) -> dict[str, Any]:
    """The node's settings with one of the embedders."""
    raw = raw_config(play, store, mqtt)
    raw["embedder"] = {"path": str(embedder.path)}
    raw["associate"] = {"similarity": embedder.similarity, "prefer": PREFER}
    if embedder.key is not None:
        raw["bundles"] = {"keys": [str(embedder.key)], "folder": str(store.with_suffix(".bundles"))}
    return raw


def adapting(play: Play, folders: Folders) -> Path:
    """The trainer's file: the committed one, with the store, a folder of its own, and the node's links."""
    raw: dict[str, Any] = read(TRAINERS)
    raw |= {"store": {"url": str(folders.store)}, "folder": str(folders.trainer / "town")}
    raw |= {name: str((TRAINERS.parent / raw[name]).resolve()) for name in ("start", "train")}
    raw["links"] = raw_config(play, folders.trainer, None)["links"]
    return _write(folders.trainer / "site.yaml", raw)


def adapted(bundle: Path, key: Path) -> Embedder:
    """What the trainer made."""
    return Embedder("after", bundle, ADAPTED_SIMILARITY, key)


def labelled() -> Embedder:
    """The ceiling: the demo's own embedder, trained with labels."""
    return Embedder("labelled", LABELLED, SIMILARITY)


def _write(path: Path, raw: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return path
