"""Real crops that come day by day: does a site that adapts daily end where one training on everything ends?

    python tests/benchmarks/days.py DATA --model START.onnx --size 128 64 --set epochs=6 --json days.json
    python tests/benchmarks/days.py DATA --model START.onnx --persons 20 --others 10 --days 2 --set epochs=1 --json F

DATA has the layout of Market-1501. Its training persons arrive in as many portions as there are days, in real shards,
through ingest and the stages of `trainer adapt`, each day from the model of the day before; the window is a day, so
that only the reservoir remembers. Four forms: with the reservoir as it is by default, which holds all crops of this
data, with one that holds a quarter of them, without one, and all portions on one day. After each day the other persons
of the test part are measured, and day one's persons among themselves. A form is one row of the file; what is there
already is not run again.

Tracks are made of the file names: crops of one person in one sequence of one camera, frames at most two seconds apart,
as a tracker would find them. That, and measuring, is all that identities are used for. There are no links and no gate:
every model is taken that training itself does not call worse. Settings are never chosen on the test part: `--settings`
measures on a third of the training identities and trains on the others.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "benchmarks"), str(TESTS / "trainer" / "adapt")]

import method_rows  # noqa: E402
import onnx  # noqa: E402
from adaptation import split_of_training_identities  # noqa: E402
from tiny_site import NOON_S, Site, crop  # noqa: E402

from edge_app.contract.crop import Crop  # noqa: E402
from trainer import config  # noqa: E402
from trainer.adapt import rounds  # noqa: E402
from trainer.adapt.crops.index import Index  # noqa: E402
from trainer.adapt.settings import DAY_S, load  # noqa: E402
from trainer.adapt.stages.adapt import STAGES, NothingGainedError, Work, decide  # noqa: E402
from trainer.commands import load_network  # noqa: E402
from trainer.data import layouts, market1501  # noqa: E402
from trainer.data.records import FixedTest, Labelled  # noqa: E402
from trainer.evaluate import EvaluationSettings  # noqa: E402
from trainer.extract import ExtractSettings  # noqa: E402
from trainer.measure import measure, with_network  # noqa: E402
from trainer.parallel import ALONE  # noqa: E402
from trainer.runlog import commit_of  # noqa: E402
from trainer.settings import read  # noqa: E402

GAP_S = 2.0
FORMS = {"everything": 0, "reservoir": 20_000, "no reservoir": 0, "reservoir of 1,500": 1500}


def portions(data: Path, persons: int, days: int) -> list[Labelled]:
    """The training persons, drawn by lot into days."""
    labelled = market1501.labelled_train(data)
    drawn = np.random.default_rng(0).permutation(np.unique(labelled.identities))[:persons]
    return [labelled.take(np.isin(labelled.identities, part)) for part in np.array_split(drawn, days)]


def crops_of(part: Labelled, portion: int, day: int) -> list[Crop]:
    """The crops of one portion that comes on this day, tracks by person, camera, sequence and gaps between frames."""
    tracks: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in np.argsort(part.crops.times_s, kind="stable"):
        tracks[int(part.identities[row]), int(part.crops.cameras[row])].append(int(row))
    found, number = [], 0
    for (_, camera), rows in sorted(tracks.items(), key=lambda one: part.crops.times_s[one[1][0]]):
        breaks = np.flatnonzero(np.diff(part.crops.times_s[rows]) > GAP_S) + 1
        for track in np.split(np.array(rows), breaks):
            times_s = NOON_S + day * DAY_S + part.crops.times_s[track]
            for place, row in enumerate(track):
                found.append(
                    crop(
                        number, place, pixels=part.crops.paths[row].read_bytes(), camera=f"c{camera + 1}",
                        passage=f"edge-1/c{camera + 1}/{portion}/{number}", class_name="person", person="kept",
                        captured_at_s=float(times_s[place]), entered_at_s=float(times_s[0]),
                        left_at_s=float(times_s[-1]),
                    )
                )  # fmt: skip
            number += 1
    return found


def as_test(part: Labelled) -> FixedTest:
    """Persons among themselves: the first crop of each person and camera asks."""
    pairs = np.stack([part.identities, part.crops.cameras])
    first = np.unique(pairs, axis=1, return_index=True)[1]
    asks = np.isin(np.arange(len(part)), first)
    return FixedTest(part.take(asks), part.take(~asks))


def some_of(test: Any, persons: int) -> FixedTest:
    wanted = np.unique(test.query.identities)[:persons]
    return FixedTest(*(part.take(np.isin(part.identities, wanted)) for part in (test.query, test.gallery)))


def scores(model: Path, tests: dict[str, Any], cache: Path) -> dict[str, Any]:
    network, spec = load_network(model)
    embed = with_network(network, spec, ExtractSettings(), cache, ALONE)
    found = {}
    for name, test in tests.items():
        report = measure(embed, test, EvaluationSettings())
        found[name] = {"mAP": round(report.mAP, 2), "R1": round(report.R1, 2)}
    return found


def resized(model: Path, size: list[int], folder: Path) -> Path:
    """The same network for pictures of another height and width."""
    content = onnx.load(str(model))
    for place, value in zip(content.graph.input[0].type.tensor_type.shape.dim[2:], size, strict=True):
        place.dim_value = value
    del content.graph.value_info[:]
    onnx.save(content, str(folder / "start.onnx"))
    return folder / "start.onnx"


def new_site(root: Path, reservoir: int, chosen: argparse.Namespace) -> Site:
    site = Site(root)
    content = read(chosen.config)
    for change in chosen.set:
        config.set_value(content, change)
    (root / "train.yaml").write_text(yaml.safe_dump(content))
    keep = {"window_days": 0.9, "reservoir": reservoir, "held_out": 0.0, "days": 3650}
    values = {"site": "town", "store": {"url": "store"}, "folder": "own", "train": "train.yaml", "keep": keep}
    (root / "site.yaml").write_text(yaml.safe_dump({**values, "start": str(chosen.model.resolve())}))
    site.settings = load(root / "site.yaml")
    return site


def adapted(site: Site, day: int) -> dict[str, Any]:
    """What the stages of an adaptation found, and why nothing was gained, if so."""
    settings = site.settings
    own, index = settings.folder, Index(settings.folder / "index.db")
    try:
        work = Work(settings, index, rounds.Round(day, NOON_S, index.newest(), rounds.current_model(own), {}), print)
        for name in ("choose", "cluster", "train"):
            try:
                work.round.done[name] = STAGES[name](work)
            except NothingGainedError as error:
                work.round.reason = str(error)
                break
        decide(work)
    finally:
        index.close()
    clusters = work.round.done.get("cluster", {}).get("clusters")
    return {"trained_on": work.round.done["choose"]["crops"], "clusters": clusters, "kept": work.round.reason}


def play(form: str, parts: list[Labelled], tests: dict[str, Any], chosen: argparse.Namespace, root: Path) -> list[Any]:
    """The scores after each day."""
    site = new_site(root, FORMS[form], chosen)
    found = []
    for day, part in enumerate(parts, start=1):
        begin, used = time.perf_counter(), time.process_time()
        site.upload(crops_of(part, day, 1 if form == "everything" else day))
        if form == "everything" and day < len(parts):
            continue
        came = site.ingest(NOON_S + 100 * DAY_S)
        if came.again or came.bad:
            raise SystemExit(f"{came.again} crops have the key of another one, {came.bad} have no picture")
        facts = adapted(site, day)
        model = rounds.current_model(site.settings.folder)
        found.append({
            "day": day, "crops": came.new, "near": came.near, **facts,
            **scores(site.settings.folder / model if model else chosen.model, tests, root / "cache"),
            "minutes": round((time.perf_counter() - begin) / 60, 1),
            "core_minutes": round((time.process_time() - used) / 60, 1),
        })  # fmt: skip
        print(form, found[-1], flush=True)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """A line per form and day."""
    lines = [
        "| form | day | trained on | others, mAP / R1 | day one's persons | core minutes |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        for one in row["days"]:
            told = [f"{one[name]['mAP']:.1f} / {one[name]['R1']:.1f}" for name in ("others", "day one")]
            lines.append(
                f"| {row['method']} | {one['day']} | {one.get('trained_on', '')} | {told[0]} | {told[1]} "
                f"| {one.get('core_minutes', '')} |"
            )
    return "\n".join(lines)


def run(chosen: argparse.Namespace, folder: Path) -> None:
    """Every form that is not in the file yet."""
    case = {
        "data": chosen.data.name, "model": chosen.model.name, "size": chosen.size, "persons": chosen.persons,
        "others": chosen.others, "days": chosen.days, "set": sorted(chosen.set),
        "measured_on": "a third of the training identities" if chosen.settings else "the test part",
    }  # fmt: skip
    data = split_of_training_identities(chosen.data, folder / "split") if chosen.settings else chosen.data
    parts = portions(data, chosen.persons, chosen.days)
    tests = {"others": some_of(layouts.read(data).test, chosen.others), "day one": as_test(parts[0])}
    if chosen.size:
        chosen.model = resized(chosen.model, chosen.size, folder)
    for form in ("start", *chosen.forms):
        row = {"kind": "days", "method": form, "seed": None, "case": case}
        if method_rows.has(method_rows.read(chosen.json), row):
            continue
        root = folder / form.replace(" ", "-")
        root.mkdir()
        if form == "start":
            row["days"] = [{"day": 0, **scores(chosen.model, tests, root)}]
        else:
            row["days"] = play(form, parts, tests, chosen, root)
        method_rows.add(chosen.json, {**row, "commit": commit_of(TESTS), "load_average": os.getloadavg()[0]})
    print(table([row for row in method_rows.read(chosen.json) if row["case"] == case]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="an ONNX file")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the pictures; the model's own"
    )
    parser.add_argument("--config", type=Path, default=Path("configs/train/crosslane-site.yaml"))
    parser.add_argument("--persons", type=int, default=10**6)
    parser.add_argument("--others", type=int, default=10**6, help="persons of the test part that are measured")
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--settings", action="store_true", help="measure on a third of the training identities")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="of the training")
    parser.add_argument("--json", type=Path, required=True, help="file of rows")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(chosen, Path(folder))


if __name__ == "__main__":
    main()
