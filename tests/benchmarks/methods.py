"""All methods in one table, from the same start, with the same number of pictures through the network.

    export PYTHONPATH=.
    python tests/benchmarks/methods.py DATA --model network.onnx --json rows.json --table [--settings]
        [--height 192] [--width 96] [--images 38400] [--epochs 6] [--seeds 0 1 2] [--methods scl tcrl]
        [--ablation] [--set key=value …]
    python tests/benchmarks/methods.py DATA --model network.onnx --json rows.json --step
    python tests/benchmarks/methods.py --json rows.json

DATA has the layout of Market-1501. A run is one row of the file; what is there already is not run again, so the command
can be stopped and repeated. Without DATA the rows are printed as Markdown tables. `--set` changes every run, as in
`trainer train`, and makes a table of its own. Whoever changes OVERRIDES below begins a new file.

Equal terms: a paper's method keeps its losses, memories and weights, and gets what is nobody's merit like all others:
optimiser, running mean, batches of 64, and clusters of k1 30 whose eps is chosen in every epoch without labels (SpCL,
whose three clusterings belong together, keeps one eps). `--ablation` adds the steps from O2CAP
to Crosslane, one change each.

Equal cost: `--images` pictures go forward and backward through the network in every run, whatever the batch; a masked
view is a picture. `--epochs` is the number of clusterings; SCL, which has none, makes as many passes over the crops as
the pictures are worth. Settings are never chosen on the test part: `--settings` measures on a third of the training
identities and trains on the others.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import method_rows
import method_steps
import numpy as np
from adaptation import split_of_training_identities

from trainer import commands, config, run
from trainer.data import layouts
from trainer.data.records import Dataset, FixedTest
from trainer.errors import DataError, TrainerError
from trainer.evaluate import EvaluationSettings
from trainer.extract import ExtractSettings
from trainer.measure import Embed, measure, with_network
from trainer.methods.table import CARDS
from trainer.metrics.camera_term import scores_by_camera_term
from trainer.models.embedder import ModelSettings, blueprint_of, new_embedder
from trainer.parallel import join
from trainer.report import run as report
from trainer.runlog import commit_of


class Variant(NamedTuple):
    """One step from O2CAP to Crosslane."""

    title: str
    method: str
    changes: dict[str, Any]  # of the group `method`, on top of OVERRIDES


COMMON: dict[str, Any] = {
    "model": {"backbone": "onnx", "unfold_batch_norm": True, "pooling": "average", "ghost_group": 64, "bf16": True},
    "optimiser": {"name": "adam", "rate": 3.5e-4, "weight_decay": 5e-4, "schedule": "cosine", "warmup_epochs": 1},
    "average": 0.99,
    "when_in_doubt": "train",
}
JACCARD = {"k1": 30, "k2": 6}
LABELS = {"clustering": {"jaccard": JACCARD, "eps_candidates": [0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6]}}
BY_CLUSTERS = {"method": {"labels": LABELS, "sampler": {"clusters": 16, "crops": 4}}}
BY_PROXIES = {"method": {"labels": LABELS, "sampler": {"proxies": 16, "crops": 4}}}
OVERRIDES: dict[str, dict[str, Any]] = {
    "cluster_contrast": BY_CLUSTERS,
    "spcl": {"method": {"clustering": {"jaccard": JACCARD, "dbscan": {"eps": 0.45}}}},
    "gracl": BY_CLUSTERS,
    "scl": {"method": {"batch": 64, "warmup_epochs": 1}},
    "cap": {"method": {**BY_PROXIES["method"], "offline_from_epoch": 2}},
    "o2cap": BY_PROXIES,
    "tcrl": BY_CLUSTERS,
    "crosslane": {"method": {"labels": {"fit": False}}},
}
CENTRED = {**LABELS, "camera_centred": True}
NO_TIME = {"transits": False}
ABLATION: dict[str, Variant] = {
    "o2cap_centred": Variant("O2CAP, cameras centred before clustering", "o2cap", {"labels": CENTRED}),
    "crosslane_plain": Variant(
        "… every crop weighs alike, no push from the own cluster", "crosslane", {"labels": NO_TIME, "singles": False}
    ),
    "crosslane_no_time": Variant("… crops without a cluster keep rows", "crosslane", {"labels": NO_TIME}),
}


def settings_of(name: str, seed: int, options: argparse.Namespace, data: Path) -> config.TrainSettings:
    """The run of one method: common settings, the method's own, the equal number of pictures, then the command line."""
    name, changes = (ABLATION[name].method, ABLATION[name].changes) if name in ABLATION else (name, {})
    values: dict[str, Any] = {
        "data": {"root": str(data), "input": {"height_px": options.height, "width_px": options.width}},
        "method": {"name": name},
        "epochs": options.epochs,
        "seed": seed,
    }
    for group in (COMMON, OVERRIDES[name], {"model": {"weights": str(options.model)}, "method": changes}):
        merge(values, copy.deepcopy(group))
    method = config.parse(values, name).method
    pictures = CARDS[name].passes * method.batch
    steps = options.images // pictures
    if name == "scl":  # a pass over all crops is an epoch
        crops = len(layouts.read(data).train)
        values["epochs"] = max(1, round(options.images / crops))
    else:
        merge(values, {"method": {"sampler": {"steps": max(1, steps // options.epochs)}}})
    for override in options.overrides:
        config.set_value(values, override)
    return config.parse(values, name)


def merge(values: dict[str, Any], group: dict[str, Any]) -> None:
    """`group` into `values`, in place."""
    for name, value in group.items():
        if isinstance(value, dict):
            merge(values.setdefault(name, {}), value)
        else:
            values[name] = value


def scores_of(embed: Embed, dataset: Dataset) -> dict[str, Any]:
    """Scores on the test part; the rule for cameras is among them."""
    return measure(embed, dataset.test, EvaluationSettings()).as_dict()


def with_camera_term(embed: Embed, dataset: Dataset, weight: float) -> dict[str, float]:
    """SCL's other test number, which uses the camera numbers of the test pictures."""
    assert isinstance(dataset.test, FixedTest)
    parts = []
    for part in (dataset.test.query, dataset.test.gallery):
        features, kept = embed(part.crops)
        parts.append((features, part.take(kept).truth))
    scores = scores_by_camera_term(*parts, weight)[f"camera term {weight:g}"]
    return {name: float(getattr(scores, name)) for name in ("mAP", "R1")}


def start_row(options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """The network before any training, its own trunk and pooling, at the size of the runs."""
    settings = settings_of(options.methods[0], 0, options, data)
    model = ModelSettings(**{**settings.model.model_dump(), "unfold_batch_norm": False})
    spec = settings.data.input
    network = new_embedder(blueprint_of(model, (spec.height_px, spec.width_px)))
    processes = join()
    embed = with_network(network.to(processes.device), spec, ExtractSettings(), settings.data.cache, processes)
    return {"after": scores_of(embed, layouts.read(data))}


def run_row(name: str, seed: int, options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Train, measure, and say what it took."""
    settings = settings_of(name, seed, options, data)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        model = run.start(settings, Path(folder) / "run", quiet=options.quiet)
        minutes = (time.perf_counter() - begin) / 60
        labels = np.load(Path(folder) / "run" / report.LABELS)["labels"]
        network, spec = commands.load_network(model)
        processes, dataset = join(), layouts.read(data)
        network.to(processes.device)
        embed = with_network(network, spec, settings.extraction, settings.data.cache, processes)
        row = {"after": scores_of(embed, dataset), "minutes": round(minutes, 2)}
        if name == "scl":
            row["with_camera_term"] = with_camera_term(embed, dataset, settings.method.camera_weight)
    facts = {"clusters": int(labels.max()) + 1, "outliers": float((labels < 0).mean())}
    return {**row, **facts, "settings": settings.model_dump(mode="json"), "load_average": os.getloadavg()[0]}


def table(options: argparse.Namespace, data: Path) -> None:
    """Every run that is not in the file yet."""
    case = {
        "data": options.data.name,
        "model": options.model.name,
        "height": options.height,
        "width": options.width,
        "images": options.images,
        "epochs": options.epochs,
        "measured_on": "a third of the training identities" if options.settings else "the test part",
        "overrides": sorted(one for one in options.overrides if not one.startswith("data.cache")),
    }
    wanted = [{"kind": "start", "method": None, "seed": None, "case": case}]
    wanted += [
        {"kind": "run", "method": name, "seed": seed, "case": case}
        for seed in options.seeds
        for name in options.methods
    ]
    for one in wanted:
        if method_rows.has(method_rows.read(options.json), one):
            continue
        name, seed = one["method"], one["seed"]
        try:
            found = start_row(options, data) if name is None else run_row(name, seed, options, data)
        except TrainerError as error:
            if type(error) not in (DataError, TrainerError):  # wrong settings, a full disk
                raise
            found = {"failed": str(error)}  # a collapse into one cluster, a loss that is not finite: a result, too
        method_rows.add(options.json, {**one, **found, "commit": commit_of(Path(run.__file__).parent)})
        print(f"{name or 'start'}{'' if seed is None else f' seed {seed}'}: {told(found)}", flush=True)


def told(row: dict[str, Any]) -> str:
    """One line for the screen; SCL has two test numbers."""
    if "failed" in row:
        return row["failed"]
    both = {"plain": row["after"], "with the camera term": row.get("with_camera_term")}
    return ", ".join(f"{name}: mAP {one['mAP']:.1f} R1 {one['R1']:.1f}" for name, one in both.items() if one)


def step(options: argparse.Namespace) -> None:
    """The step of every method that is not in the file yet."""
    processes, size = join(), (options.height, options.width)
    kind = {"backbone": "onnx", "weights": options.model} if options.model else {"backbone": "osnet_x0_25"}
    model = ModelSettings(**kind, unfold_batch_norm=False, pooling="average", ghost_group=64)
    network = new_embedder(blueprint_of(model, size)).to(processes.device).train()
    problem = method_steps.Problem(network, layouts.read(options.data).train, options.steps)
    where = {"device": str(processes.device), "data": options.data.name, "height": size[0], "width": size[1]}
    case = {**where, "model": options.model.name if options.model else "osnet_x0_25", "batch": method_steps.BATCH}
    for name in options.methods:
        one = {"kind": "step", "method": name, "seed": None, "case": case}
        if method_rows.has(method_rows.read(options.json), one):
            continue
        found = method_steps.measure(name, problem)
        load = {"load_average": os.getloadavg()[0], "commit": commit_of(Path(run.__file__).parent)}
        method_rows.add(options.json, {**one, **found, **load})
        print(f"{name}: {found['ratio']:.2f} times faster, own part {found['overhead']:.1%} of the network", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--json", type=Path, required=True, help="file of rows")
    parser.add_argument("--model", type=Path, help="the ONNX file all runs start from")
    parser.add_argument("--table", action="store_true", help="train and measure")
    parser.add_argument("--step", action="store_true", help="time a training step")
    parser.add_argument("--settings", action="store_true", help="measure on a third of the training identities")
    parser.add_argument("--methods", nargs="+", default=list(CARDS), choices=[*CARDS, *ABLATION])
    parser.add_argument("--ablation", action="store_true", help="also the steps from O2CAP to Crosslane")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--images", type=int, default=38_400, help="pictures through the network in a run")
    parser.add_argument("--epochs", type=int, default=6, help="clusterings in a run")
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="key=value")
    options = parser.parse_args()
    if options.ablation:
        options.methods += [name for name in ABLATION if name not in options.methods]
    if options.table and options.data:
        with tempfile.TemporaryDirectory() as folder:
            chosen = options.data
            data = split_of_training_identities(chosen, Path(folder) / "split") if options.settings else chosen
            table(options, data)
    if options.step and options.data:
        step(options)
    titles = {name: variant.title for name, variant in ABLATION.items()}
    print(method_rows.markdown(method_rows.read(options.json), titles))


if __name__ == "__main__":
    main()
