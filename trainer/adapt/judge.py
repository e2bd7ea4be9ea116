"""Old and new model on the hours that no training saw: pictures in, the gate's verdict out."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.adapt import gate
from trainer.adapt.controls import Control, Way
from trainer.adapt.index import About
from trainer.adapt.material import picture_of, read_judged
from trainer.adapt.settings import SiteSettings
from trainer.adapt.verdict import Verdict
from trainer.commands import load_network
from trainer.data.images import check_images
from trainer.data.records import Crops
from trainer.extract import ExtractSettings
from trainer.measure import with_network
from trainer.parallel import join

ALL_BAD = 1.0  # share of unreadable pictures that is left out: the gate says when too few are left


def judge(settings: SiteSettings, folder: Path, cache: Path, old: Path, new: Path) -> Verdict:
    """The verdict on `new` against `old`, on the round's judged passages. The same files give the same verdict."""
    about = read_judged(folder)
    if about:
        crops = Crops(
            tuple(picture_of(folder, one.id) for one in about),
            np.full(len(about), -1),
            np.array([one.captured_s for one in about]),
            np.full(len(about), -1),
        )
        kept = check_images(crops, ALL_BAD).kept
        about, crops = [about[row] for row in kept], crops.take(kept)
        rows = [_rows(model, crops, cache) for model in (old, new)]
    ways = [Way(one.from_camera, one.to_camera, one.transit.min_s, one.transit.max_s) for one in settings.links]
    return gate.judge(_controls(about, *rows) if about else [], ways, settings.gate, seed=0)


def sentence(verdict: Verdict) -> str:
    """The decision for people."""
    if verdict.decision == "publish":
        return f"the new model is better: {verdict.measures[0].sentence}"
    said = {one.name: one.sentence for one in verdict.measures}
    reasons = "; ".join(f"{name}: {said.get(name, '')}" for name in verdict.reasons)
    words = {"refuse": "the new model is refused", "not judged": "the new model cannot be judged"}
    return f"{words[verdict.decision]}: {reasons}"


def facts(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain values."""
    return {**asdict(verdict), "sentence": sentence(verdict)}


def _rows(model: Path, crops: Crops, cache: Path) -> NDArray[np.float32]:
    network, spec = load_network(model)
    processes = join()
    embed = with_network(network.to(processes.device), spec, ExtractSettings(), cache, processes)
    return embed(crops)[0]


def _controls(about: list[About], old: NDArray[np.float32], new: NDArray[np.float32]) -> list[Control]:
    """One per passage, in order of their names."""
    order = sorted(range(len(about)), key=lambda row: (about[row].passage, about[row].captured_s))
    found = []
    for passage, group in groupby(order, key=lambda row: about[row].passage):
        rows = np.array(list(group))
        one = about[rows[0]]
        times_s = np.array([about[row].captured_s for row in rows])
        found.append(
            Control(
                passage, one.camera, one.class_name, one.entered_s, one.left_s, times_s, old=old[rows], new=new[rows]
            )
        )
    return found
