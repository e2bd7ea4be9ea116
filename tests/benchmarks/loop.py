"""The loop, with and without its labels: four judged seeds, pooled.

    python tests/benchmarks/loop.py --json loop.json                    the judged seeds
    python tests/benchmarks/loop.py --json tried.json --seeds 60 61     seeds on which settings may be chosen

A seed is `bash deploy/demo.sh --loop --seed N`: its summary.json is a row here. Each is written when it is done; what
is there already is not played again, so a benchmark that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edge_app.contract.whole import whole
from edge_app.demo.loop_report import gained_share
from edge_app.judge.shares import Share

JUDGED = (76, 77, 78, 79)
LEAST_PAIRS, GAIN, BELOW_CEILING = 200, 0.5, 0.03
EMBEDDERS = ("before", "after", "labelled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("loop.json"), help="rows are kept here (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(JUDGED))
    parser.add_argument("--learn", type=float, help="simulated seconds of each of two sessions that make the crops")
    parser.add_argument("--seconds", type=float, help="simulated seconds that are judged")
    parser.add_argument("--out", type=Path, help="keep pictures and summaries of every seed below this folder")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(arguments.json.read_text()) if arguments.json.exists() else []
    for seed in arguments.seeds:
        if seed not in [row["seed"] for row in rows]:
            rows.append(play(seed, arguments))
            with whole(arguments.json) as file:
                file.write((json.dumps(rows, indent=1) + "\n").encode())
    show([row for row in rows if row["seed"] in arguments.seeds])


def play(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One seed through the command, in a process of its own: its seconds are nobody else's."""
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out / str(seed) if arguments.out else Path(scratch)
        command = [
            sys.executable,
            "-m",
            "edge_app",
            "demo",
            "--loop",
            "--headless",
            "--seed",
            str(seed),
            "--out",
            str(out),
        ]
        for name in ("learn", "seconds"):
            if (value := getattr(arguments, name)) is not None:
                command += [f"--{name}", str(value)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])})
        found: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        return found


def pooled(rows: list[dict[str, Any]], what: str) -> Share:
    """Hits and counts of all seeds together."""
    return Share(*(sum(row[f"{what}_counts"][place] for row in rows) for place in (0, 1)))


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        recalls = " → ".join(f"{row[f'recall_{name}']:.3f}" for name in EMBEDDERS)
        print(
            f"seed {row['seed']}: {row['crops']} crops, {row['decision']}, recall {recalls}, "
            f"{row['seconds']:.0f} s, {row['cpu_seconds']:.0f} s of processor time"
        )
    for name in EMBEDDERS:
        print(f"{name:9} precision {pooled(rows, f'precision_{name}')}   recall {pooled(rows, f'recall_{name}')}")
    ceiling, precision = pooled(rows, "ceiling_precision_after"), pooled(rows, "precision_after")
    recalls = [pooled(rows, f"recall_{name}") for name in EMBEDDERS]
    gained = gained_share(*recalls)
    print(f"offline ceiling of the same tracklets: precision {ceiling}")
    print(f"facts lost {sum(row['facts_lost'] for row in rows)}, doubled {sum(row['facts_doubled'] for row in rows)}")
    for said, holds in (
        (f"at least {LEAST_PAIRS} true pairs", recalls[0].count >= LEAST_PAIRS),
        (f"precision at most {BELOW_CEILING} below the ceiling's", precision.value >= ceiling.value - BELOW_CEILING),
        (f"share of the labels' gain {gained} ≥ {GAIN}", gained is not None and gained >= GAIN),
    ):
        print(f"{'holds' if holds else 'FAILS'}: {said}")


if __name__ == "__main__":
    main()
