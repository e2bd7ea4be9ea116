"""Adapt a network to a data set without identity labels, and say what it was worth: before → after, with the time.

    PYTHONPATH=. python tests/benchmarks/adaptation.py DATA --model network.onnx [--config
    configs/train/adapt_onnx.yaml]
        [--settings] [--json FILE] [key=value …]

DATA has the layout of Market-1501. Settings are never chosen on its test part: with `--settings` the training
identities are split, two thirds to train on (without their identities) and one third to measure on, and the test part
is not looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from trainer import commands, config, run
from trainer.data import layouts, market1501
from trainer.evaluate import EvaluationSettings, Report
from trainer.measure import measure, with_network
from trainer.models.embedder import blueprint_of, new_embedder
from trainer.parallel import ALONE
from trainer.runlog import read_log


def split_of_training_identities(data: Path, folder: Path, seed: int = 0) -> Path:
    """A Market-1501 layout of links: a third of the training identities are query and gallery, the rest is for
    training."""
    labelled = market1501.labelled_train(data)
    identities = np.unique(labelled.identities)
    held_out = np.random.default_rng(seed).permutation(identities)[: len(identities) // 3]
    seen: set[tuple[int, int]] = set()
    for path, identity, camera in zip(labelled.crops.paths, labelled.identities, labelled.crops.cameras, strict=True):
        part = "bounding_box_train"
        if identity in held_out:
            part = (
                "bounding_box_test" if (identity, camera) in seen else "query"
            )  # first crop of each camera, as in Market
            seen.add((int(identity), int(camera)))
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / path.name).symlink_to(path.resolve())
    return folder


def scores_of_start(
    settings: config.TrainSettings, data: Path, place: commands.Place, rules: EvaluationSettings
) -> Report:
    """Of an ONNX file as it is; of other weights through pooling and a neck that has learned nothing."""
    weights = settings.model.weights
    if weights is not None and weights.suffix == ".onnx":
        return commands.evaluate(weights, data, place, rules, flip=False)
    spec = settings.data.input
    network = new_embedder(blueprint_of(settings.model, (spec.height_px, spec.width_px))).eval()
    embed = with_network(network, spec, settings.extraction, place.cache, ALONE)
    return measure(embed, layouts.read(data).test, rules)


def adapt(data: Path, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Scores before and after, and what it took."""
    start = [f"data.root={data}", f"model.weights={arguments.model}"]
    settings = config.load(arguments.config, start + arguments.overrides)
    place, rules = commands.Place(None, settings.data.cache), EvaluationSettings()
    before = scores_of_start(settings, data, place, rules)
    begin = time.perf_counter()
    model = run.start(settings, folder, quiet=arguments.quiet)
    minutes = (time.perf_counter() - begin) / 60
    flip = settings.extraction.flip
    after = commands.evaluate(model, data, place, rules, flip)
    clusters = [line["clusters"] for line in read_log(folder, "epoch")]
    return {
        "before": before.as_dict(),
        "after": after.as_dict(),
        "flip_averaged_after": flip,
        "minutes_of_training": round(minutes, 1),
        "load_average": os.getloadavg(),
        "clusters_per_epoch": clusters,
        "tests_in_the_log": [{key: line[key] for key in ("epoch", "mAP", "R1")} for line in read_log(folder, "test")],
        "settings": settings.model_dump(mode="json"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/train/adapt_onnx.yaml"))
    parser.add_argument("--settings", action="store_true", help="measure on a third of the training identities")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="keep the run here")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = arguments.data
        if arguments.settings:
            data = split_of_training_identities(data, Path(temporary) / "split")
        result = adapt(data, arguments, arguments.out or Path(temporary) / "run")
    result["measured_on"] = "a third of the training identities" if arguments.settings else "the test part"
    for name in ("before", "after"):
        scores = result[name]
        print(f"{name}: mAP {scores['mAP']:.1f}  R1 {scores['R1']:.1f}  ({scores['camera_policy']})")
    minutes, load = result["minutes_of_training"], result["load_average"][0]
    print(f"{minutes} minutes, load average {load:.1f}; measured on {result['measured_on']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
