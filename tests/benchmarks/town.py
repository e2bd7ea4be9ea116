"""What the gate measures in the loop's town, beside the truth that it does not know.

    python tests/benchmarks/town.py --seed 1060 --seconds 1500

A node collects as in `deploy/demo.sh --loop`; all its crops are then seen by the generic embedder, the model in force,
and by the one that was trained with labels, the best that there is. Printed are the placebo lift against one set of
placebos and against four, what time alone would win, and how many matches are wrong by decoys and by the truth.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter, defaultdict
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_app.contract.crop import Crop
from edge_app.contract.model import read_manifest
from edge_app.contract.preprocess import preprocess
from edge_app.contract.shard import read_shard
from edge_app.contract.similarity import Track
from edge_app.demo.loop import collect
from edge_app.demo.loop_sites import FPS, GENERIC, HOUR_S, LABELLED, Folders
from edge_app.demo.play import Play, raw_config
from edge_app.simulation.detections import best_overlap
from trainer.adapt.gate import lift
from trainer.adapt.gate.controls import Control, Model, Way, tracks_of
from trainer.adapt.gate.gate import figures
from trainer.adapt.gate.verdict import GateSettings

UNIT_S = 60.0
MODELS: tuple[Model, ...] = ("old", "new")
NAMES = {"old": "generic", "new": "trained with labels"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1060)
    parser.add_argument("--seconds", type=float, default=1500.0)
    parser.add_argument("--difficulty", type=float, default=0.5)
    chosen = parser.parse_args()
    start_s = (time.time() - chosen.seconds) // HOUR_S * HOUR_S  # crops of other days would be too old to keep
    play = Play("town", chosen.seed, chosen.difficulty, chosen.seconds, "frames", start_s=start_s, fps=FPS)
    with tempfile.TemporaryDirectory() as folder:
        folders = Folders(Path(folder))
        folders.make()
        collect([play], folders)
        crops = [crop for shard in sorted(folders.store.rglob("*.tar")) for crop in read_shard(shard)]
        links = raw_config(play, folders.node, None)["links"]
    ways = [
        Way(one["from_camera"], one["to_camera"], one["transit"]["min_s"], one["transit"]["max_s"]) for one in links
    ]
    controls, vehicles = controls_of(crops), vehicles_of(crops, play)
    print(f"{len(crops)} crops, {len(controls)} passages of {len(set(vehicles.values()))} vehicles")
    for count in (1, lift.PLACEBOS):
        show_lift(controls, vehicles, ways, count)
    print()
    for model in MODELS:
        show_matches(controls, vehicles, ways, model)


def rows_of(model: Path, crops: list[Crop]) -> NDArray[np.float32]:
    """(N, D) unit rows of the crops' pictures."""
    manifest = read_manifest(model)
    assert manifest is not None
    session = onnxruntime.InferenceSession(str(model))
    name = session.get_inputs()[0].name
    pictures = (cv2.imdecode(np.frombuffer(crop.jpeg, np.uint8), cv2.IMREAD_COLOR) for crop in crops)
    rows = np.concatenate([session.run(None, {name: preprocess(one, manifest.input)[None]})[0] for one in pictures])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def controls_of(crops: list[Crop]) -> list[Control]:
    """Every passage; `old` is the generic embedder, `new` the one that was trained with labels."""
    crops = sorted(crops, key=lambda crop: (crop.record.passage, crop.record.captured_at_s))
    old, new = (rows_of(model, crops) for model in (GENERIC, LABELLED))
    found = []
    for passage, places in groupby(range(len(crops)), key=lambda place: crops[place].record.passage):
        rows = list(places)
        one, times_s = crops[rows[0]].record, np.array([crops[row].record.captured_at_s for row in rows])
        about = passage, one.camera, one.class_name, one.entered_at_s, one.left_at_s
        found.append(Control(*about, times_s, old=old[rows], new=new[rows]))
    return found


def vehicles_of(crops: list[Crop], play: Play) -> dict[str, int]:
    """The vehicle that most crops of a passage show; a number of its own below zero for a passage of nothing."""
    world, votes = play.world(), defaultdict[str, Counter[int | None]](Counter)
    for record in (crop.record for crop in crops):
        truth = world.visible(record.camera, record.captured_at_s)
        best = best_overlap(np.array(record.box), truth)
        votes[record.passage][None if best is None else truth.passages[best].vehicle] += 1
    shown = {passage: vote.most_common(1)[0][0] for passage, vote in votes.items()}
    return {passage: -1 - number if one is None else one for number, (passage, one) in enumerate(shown.items())}


def show_lift(controls: list[Control], vehicles: dict[str, int], ways: list[Way], placebos: int) -> None:
    """H of both, the lift and its interval; and of those exits that have their continuation inside or not."""
    lift.PLACEBOS = placebos
    compared = lift.comparisons(controls, ways, UNIT_S)
    old, new, timed = (lift.wins(compared, one) for one in (*(tracks_of(controls, m) for m in MODELS), clock(controls)))
    low, high = lift.interval(new - old, compared.units, np.random.default_rng(0))
    print(
        f"\nup to {placebos} placebos: {len(old)} comparisons of {compared.exits} exits; H {old.mean():.3f} → "
        f"{new.mean():.3f}, by {(new - old).mean():+.4f} [{low:+.4f}, {high:+.4f}]; a clock has {timed.mean():.3f}"
    )
    shown = [vehicles[one.id] for one in controls]
    inside = np.array([any(shown[n] == shown[one.exit] for n in one.inside) for one in compared.found])
    beside = np.array([any(shown[n] == shown[one.exit] for b in one.outside for n in b) for one in compared.found])
    for said, group in (
        ("the vehicle itself is inside", inside & ~beside),
        ("it is beside, a lap before or after", ~inside & beside),
        ("it is in both", inside & beside),
        ("it is in none", ~inside & ~beside),
    ):
        if group.any():
            print(f"  {said}: {group.mean():.3f} of them, H {old[group].mean():.3f} → {new[group].mean():.3f}")


def clock(controls: list[Control]) -> list[Track]:
    """An embedder that knows nothing but the time."""
    middles_s = np.array([(one.entered_at_s + one.left_at_s) / 2 for one in controls])
    angles = (middles_s - middles_s.min()) / (1 + np.ptp(middles_s)) * np.pi
    rows = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    return [Track(c.camera, c.entered_at_s, c.left_at_s, row[None]) for c, row in zip(controls, rows, strict=True)]


def show_matches(controls: list[Control], vehicles: dict[str, int], ways: list[Way], model: Model) -> None:
    """What decoys say of the wrong matches, and how many there are."""
    compared = lift.comparisons(controls, ways, UNIT_S)
    made = figures(controls, ways, compared, model, GateSettings(unit_s=UNIT_S)).decoys
    wrong = sum(vehicles[first] != vehicles[second] for first, second in made.matches)
    print(
        f"{NAMES[model]}: {made.decoy} decoys, {made.target} matches: K/T {made.decoy_share:.3f}, "
        f"F/T {made.wrong_share:.3f}; by the truth {wrong} are wrong, {wrong / max(1, made.target):.3f}"
    )


if __name__ == "__main__":
    main()
