"""The label-free gate against ten adversaries, a truly better model in ten seeds, and what follows it: INT8 as a
refresh, well and badly made, and refreshes that each forget a little until the anchor set refuses one.

    python tests/benchmarks/gate.py --json gate.json          about three minutes of one core
    python tests/benchmarks/gate.py --drawn                   whole hours, or passages one by one?

The world is `tests/trainer/adapt/gate/gate_world.py`: pictures are vectors, traffic has a truth, which only the columns
named "true" use. Settings are the gate's defaults: 300 exits, whole hours. World and placebo were tuned on seeds 101 to
103, and looked at on 0; the judged seeds, 10 to 19, were not run before.
In force is a generic model of two other towns; for the wrong must-links it is the adapted one, because against the
generic one even those are an improvement, which the truth confirms (the row "… on the generic model").
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "trainer" / "adapt" / "gate")]

import numpy as np  # noqa: E402
from gate_world import (  # noqa: E402
    WAYS,
    Case,
    Court,
    adversaries,
    controls_of,
    matrix,
    must_links,
    noisy,
    scene,
    trained,
    true_first,
)
from sly_models import half_trained, sly, with_clock  # noqa: E402
from worn_models import Worn, shipped, wearing  # noqa: E402

from edge_app.contract.whole import whole  # noqa: E402
from trainer.adapt.gate.lift import comparisons  # noqa: E402
from trainer.adapt.gate.verdict import GateSettings  # noqa: E402

LEVELS = (0.5, 1.0, 1.5, 2.0, 3.0)  # of noise, against rows of length one
SETTINGS = GateSettings()
REFRESH = GateSettings(purpose="refresh")


def row(name: str, seed: int, case: Case, true_before: float) -> dict[str, Any]:
    verdict, made = case.verdict, case.figures.decoys
    lift = verdict.measures[0]
    gained, low = (np.nan if lift.value is None else lift.value), (lift.interval or (np.nan, np.nan))[0]
    found = {
        "model": name,
        "seed": seed,
        "decision": verdict.decision,
        "reasons": list(verdict.reasons),
        "H": float(case.figures.wins.mean()),
        "lift": lift.value,
        "lift_low": lift.interval[0] if lift.interval else None,
        "matches": made.target,
        "decoys": made.decoy,
        "wrong_share": made.wrong_share,
        "true_first_before": true_before,
        "true_first": case.true_first,
        "true_wrong_share": case.true_wrong,
    }
    print(
        f"{seed:3} {name:42} {verdict.decision:10} lift {gained:+.3f} [{low:+.3f}]  "
        f"K/T {made.decoy}/{made.target} (about {made.wrong_share:.3f}, true {case.true_wrong:.3f})  "
        f"true first {true_before:.3f} → {case.true_first:.3f}  {', '.join(verdict.reasons)}",
        flush=True,
    )
    return found


def better(seed: int) -> list[dict[str, Any]]:
    """A truly better model against the generic one."""
    world = scene(seed)
    court = Court(world.judged, matrix(world.generic)(world.judged), SETTINGS)
    case = court.judge(matrix(world.adapted)(world.judged))
    return [row("truly better", seed, case, true_first(world.judged, court.in_force))]


def ten(seed: int) -> list[dict[str, Any]]:
    """All ten, each against the model in force."""
    world = scene(seed)
    generic, adapted = (matrix(weights)(world.judged) for weights in (world.generic, world.adapted))
    court, later = Court(world.judged, generic, SETTINGS), Court(world.judged, adapted, SETTINGS)
    before, after = (true_first(world.judged, rows) for rows in (generic, adapted))
    rows = []
    for name, made in adversaries(world, seed).items():
        wrong_links = name == "20 % wrong must-links"
        case = (later if wrong_links else court).judge(made)
        rows.append(row(name, seed, case, after if wrong_links else before))
    kinder = trained(must_links(world.training, np.random.default_rng([seed, 6]), wrong=0.2), world.generic, seed)
    case = court.judge(matrix(kinder)(world.judged))
    rows.append(row("20 % wrong must-links on the generic model", seed, case, before))
    for level in LEVELS:
        rows.append(row(f"noise {level:g}", seed, court.judge(noisy(adapted, level, seed)), before))
    return rows


def five(seed: int) -> list[dict[str, Any]]:
    """Five more, which nobody had when bounds and measures were chosen."""
    world = scene(seed)
    court = Court(world.judged, matrix(world.generic)(world.judged), SETTINGS)
    before = true_first(world.judged, court.in_force)
    found = [row(name, seed, court.judge(rows), before) for name, rows in sly(world, seed).items()]
    half = Court(world.judged, half_trained(world, seed), SETTINGS)
    before = true_first(world.judged, half.in_force)
    clocks = with_clock(world, half.in_force, seed)
    return found + [row(f"half-trained and {name}", seed, half.judge(rows), before) for name, rows in clocks.items()]


def worn(seed: int) -> list[dict[str, Any]]:
    """The better model as it ships, and refreshed until it is refused."""
    world = scene(seed)
    court = Court(world.judged, matrix(world.adapted)(world.judged), REFRESH)
    before = true_first(world.judged, court.in_force)
    found = [row(name, seed, court.judge(rows), before) for name, rows in shipped(world).items()]
    for number, one in enumerate(wearing(world, REFRESH, seed), 1):
        found.append(drift_row(f"slow drift, round {number}", seed, one))
    return found


def drift_row(name: str, seed: int, one: Worn) -> dict[str, Any]:
    verdict, drift = one.verdict, one.verdict.measures[-1]
    found = {
        "model": name,
        "seed": seed,
        "decision": verdict.decision,
        "reasons": list(verdict.reasons),
        "drift": drift.value,
        "true_first_before": one.true_first_before,
        "true_first": one.true_first,
    }
    print(
        f"{seed:3} {name:42} {verdict.decision:10} drift {drift.value:+.4f}  on the anchor set true first "
        f"{one.true_first_before:.3f} → {one.true_first:.3f}  {', '.join(verdict.reasons)}",
        flush=True,
    )
    return found


def drawn(seed: int) -> None:
    """Controls of ten times as many hours, drawn one by one or by whole hours: how much can be compared."""
    world = scene(seed, hours=1)
    long = world.town.drive(range(20, 160), 60.0, seed * 10 + 3)
    one_by_one = np.random.default_rng(seed).random(len(long)) < 0.1
    for name, kept in (("one passage in ten", one_by_one), ("one hour in ten", long.hours % 10 == 0)):
        part = replace(long, **{field.name: getattr(long, field.name)[kept] for field in fields(long)})
        rows = matrix(world.generic)(part)
        found = comparisons(controls_of(part, rows, rows), WAYS, SETTINGS.unit_s)
        print(f"{name}: {len(part)} passages, {found.exits} exits that can be compared")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="rows are kept here; what is there is not measured again")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(10, 20)), help="of the better model")
    parser.add_argument("--adversary-seeds", type=int, nargs="*", default=[10, 11])
    parser.add_argument("--sly-seeds", type=int, nargs="*", default=[10, 11], help="of five more adversaries")
    parser.add_argument("--worn-seeds", type=int, nargs="*", default=[10, 11], help="of INT8 and of slow drift")
    parser.add_argument("--drawn", action="store_true", help="only how controls should be drawn, on seed 101")
    arguments = parser.parse_args()
    if arguments.drawn:
        drawn(101)
        return
    begun = time.process_time()
    found = measured(arguments)
    passed = [one["decision"] == "publish" for one in found if one["model"] == "truly better"]
    print(f"truly better: published in {sum(passed)} of {len(passed)} seeds; {time.process_time() - begun:.0f} s CPU")


def measured(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows that were asked for, and those that the file has; it is written after every part."""
    parts = ((ten, arguments.adversary_seeds), (five, arguments.sly_seeds), (worn, arguments.worn_seeds))
    file, results = arguments.json, {"settings": SETTINGS.model_dump(), "parts": []}
    if file and file.exists() and (before := json.loads(file.read_text()))["settings"] == results["settings"]:
        results = before
    for measure, seeds in (*parts, (better, arguments.seeds)):
        for seed in seeds:
            if any((one["kind"], one["seed"]) == (measure.__name__, seed) for one in results["parts"]):
                continue
            results["parts"].append({"kind": measure.__name__, "seed": seed, "rows": measure(seed)})
            if file:
                with whole(file) as written:
                    written.write((json.dumps(results, indent=1) + "\n").encode())
    return [row for part in results["parts"] for row in part["rows"]]


if __name__ == "__main__":
    main()
