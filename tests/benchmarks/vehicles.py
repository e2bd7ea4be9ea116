"""Real vehicles, a network that was trained on persons, and nobody who labels: what `trainer adapt` says.

    python tests/benchmarks/vehicles.py DATA --size 128 64 --set epochs=10 --json vehicles.json

DATA holds `khoa_vehicles`, `videos` and `weights`. Two sites, each from the store through `trainer adapt`:

pairs   300 vehicles with one picture in each of two cameras, as passages of one crop. They came without times, and get
        some that say nothing: a lot for each camera, a passage a minute. From two looks nothing can be learned, which
        must be said, and the start kept.
clips   a dense motorway and a street, through the edge: detector, tracks, `collection`, upload. The recordings begin
        half their length before a full hour that is held out, so the passages of the second half judge what the first
        half taught. Nobody knows who is who; what is told is what the gate measures, and training itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / name) for name in ("benchmarks", "integration", "trainer/adapt")]

from days import resized  # noqa: E402
from real_clips import CONFIGS, raw_config  # noqa: E402
from tiny_site import NOON_S, Site, crop  # noqa: E402

from edge_app import app  # noqa: E402
from edge_app.config import parse  # noqa: E402
from edge_app.contract.crop import Crop  # noqa: E402
from trainer import config  # noqa: E402
from trainer.adapt import rounds  # noqa: E402
from trainer.adapt.commands import command  # noqa: E402
from trainer.adapt.crops.choice import held_out  # noqa: E402
from trainer.adapt.settings import SiteSettings, load  # noqa: E402
from trainer.adapt.stages.adapt import RUN  # noqa: E402
from trainer.runlog import read_log  # noqa: E402
from trainer.settings import read  # noqa: E402

HELD_OUT, HOUR_S = 0.3, 3600.0
CLIPS = {"motorway": ("traffic.mp4", 15.4), "street": ("car-detection.mp4", 15.1)}  # and half their seconds


def pairs(data: Path) -> list[Crop]:
    """One passage for each picture."""
    found = []
    for place, part in enumerate(("query", "gallery")):
        files = sorted((data / "khoa_vehicles" / part).iterdir())
        for minute, row in enumerate(np.random.default_rng(place).permutation(len(files))):
            number, entered_s = 1000 * place + int(row), NOON_S + 60.0 * minute
            found.append(
                crop(
                    number, pixels=files[row].read_bytes(), camera=f"camera-{place + 1}", passage=f"edge-1/{number}",
                    class_name=files[row].name.partition("_")[0], captured_at_s=entered_s, entered_at_s=entered_s,
                    left_at_s=entered_s,
                )
            )  # fmt: skip
    return found


def film(data: Path, folder: Path, store: Path) -> dict[str, Any]:
    """Both recordings through the whole edge; what became of the crops."""
    held = [held_out("town", hour, HELD_OUT) for hour in range(480_000, 480_100)]
    hour = 480_000 + next(place for place in range(1, 100) if held[place] and not held[place - 1])
    raw = raw_config("traffic", data, folder / "edge.db", None)
    raw["cameras"] = [
        {
            "id": name, "source": str(data / "videos" / file), "fps": 10,
            "start_time": datetime.fromtimestamp(hour * HOUR_S - half_s, UTC).isoformat(),
        }
        for name, (file, half_s) in CLIPS.items()
    ]  # fmt: skip
    raw["site"] = "town"
    raw["collection"] = {"enabled": True, "folder": str(folder / "spool"), "crops_per_passage": 8}
    raw["upload"] = {"store": {"url": str(store)}, "audit": str(folder / "audit.jsonl")}
    passages = 0
    with app.Node(parse(raw, CONFIGS / "traffic.yaml"), lineage="benchmark") as node:
        for step in node.steps(threading.Event()):
            passages += len(step.tracklets)
        app.raise_for(node.failed_cameras())
        return {"passages": passages, "crops": node.collector.counters()}


def settings_of(root: Path, chosen: argparse.Namespace, held: float) -> SiteSettings:
    content = read(chosen.config)
    for change in chosen.set:
        config.set_value(content, change)
    (root / "train.yaml").write_text(yaml.safe_dump(content))
    values = {
        "site": "town", "store": {"url": "store"}, "folder": "own", "train": "train.yaml",
        "start": str(chosen.model.resolve()), "keep": {"days": 3650, "held_out": held},
    }  # fmt: skip
    (root / "site.yaml").write_text(yaml.safe_dump(values))
    return load(root / "site.yaml")


def adapted(settings: SiteSettings) -> dict[str, Any]:
    """`trainer adapt --once`: what it said, and what training and the gate measured."""
    said: list[str] = []
    failed = command.once([settings], said.append)
    one = rounds.latest(settings.folder)
    print("\n".join(said), flush=True)
    if one is None:
        return {"failed": failed, "said": said}
    run = rounds.folder_of(settings.folder, one.number) / RUN
    training = read_log(run, "judged") if run.exists() else []
    return {
        "decision": one.decision, "reason": one.reason, "choose": one.done.get("choose"),
        "cluster": one.done.get("cluster"), "training": training, "judge": one.done.get("judge"),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=[256, 128], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--config", type=Path, default=Path("configs/train/crosslane-site.yaml"))
    parser.add_argument("--sites", nargs="*", default=["pairs", "clips"], choices=["pairs", "clips"])
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="of the training")
    parser.add_argument("--json", type=Path, required=True)
    chosen = parser.parse_args()
    results: dict[str, Any] = json.loads(chosen.json.read_text()) if chosen.json.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        chosen.model = resized(chosen.data / "weights" / "osnet_x0_25_msmt17.onnx", chosen.size, root)
        for name in chosen.sites:
            site = Site(root / name)
            if name == "pairs":
                site.upload(pairs(chosen.data))
                found = adapted(settings_of(site.root, chosen, 0.0))
            else:
                filmed = film(chosen.data, site.root, site.objects)
                print(filmed, flush=True)
                found = {**filmed, **adapted(settings_of(site.root, chosen, HELD_OUT))}
            results[name] = found
            chosen.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
