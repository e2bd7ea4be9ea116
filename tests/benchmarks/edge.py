"""How good and how fast the edge application is: simulated seeds, real recordings, thresholds, and scale.

    python tests/benchmarks/edge.py --json edge.json --seeds 1-8                       the demo's site as detections
    python tests/benchmarks/edge.py --json edge.json --seeds 1-3 --fidelity frames     the same drawn, with both models
    python tests/benchmarks/edge.py --json edge.json --clips data                     terrace and motorway
    python tests/benchmarks/edge.py --json edge.json --curve 1-8 --scale               thresholds; 4, 16, 64 cameras

Each case is written to the JSON file when it is done; what is there already is not measured again, so a run that was
stopped goes on. Speed is comparable within one file only: look at shares and ratios, not at milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import edge_cases
import edge_tables

from edge_app.contract.whole import whole

Case = tuple[str, Callable[[], dict[str, Any]]]
GRIDS = (4, 16, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--json", type=Path, default=Path("edge.json"), help="where results are kept (default %(default)s)"
    )
    parser.add_argument("--seeds", type=seeds, default=[], help="play the demo's site with these seeds: 1-8 or 1,5,9")
    parser.add_argument("--fidelity", choices=("frames", "detections"), default="detections")
    parser.add_argument("--seconds", type=float, default=120.0, help="simulated seconds per seed")
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument("--clips", type=Path, help="folder with videos/ and weights/")
    parser.add_argument("--curve", type=seeds, default=[], help="accuracy against delay, on these seeds")
    parser.add_argument("--scale", action="store_true", help="cost of the association at 4, 16 and 64 cameras")
    arguments = parser.parse_args()
    results = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    results["machine"] = {"cores": os.cpu_count(), "python": platform.python_version(), "cpu": platform.processor()}
    for name, measure in cases(arguments):
        if name not in results:
            print(f"{name} …", flush=True)
            results[name] = measure()
            with whole(arguments.json) as file:
                file.write((json.dumps(results, indent=1) + "\n").encode())
    edge_tables.show(results)


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """What was asked for: names, which say everything that a result depends on, and how to measure it."""
    seconds, difficulty, fidelity = arguments.seconds, arguments.difficulty, arguments.fidelity
    for seed in arguments.seeds:
        name = f"play/{fidelity}/{seconds:g} s/difficulty {difficulty:g}/seed {seed}"
        yield name, lambda seed=seed: edge_cases.play(seed, fidelity, seconds, difficulty)
    if arguments.clips:
        for clip in ("terrace-first", "terrace", "traffic"):
            yield f"clip/{clip}", lambda clip=clip: edge_cases.clip(clip, arguments.clips.resolve())
    for confirm, accept in edge_cases.THRESHOLDS if arguments.curve else ():
        named = f"{arguments.curve[0]}-{arguments.curve[-1]}"
        name = f"curve/{named}/confirm {confirm:g}/accept {accept:g}"
        yield name, lambda pair=(confirm, accept): edge_cases.curve(arguments.curve, *pair)
    for cameras in GRIDS if arguments.scale else ():
        yield f"scale/{cameras}", lambda cameras=cameras: edge_cases.scale(cameras)


def seeds(text: str) -> list[int]:
    """`1-3,7` → [1, 2, 3, 7]."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


if __name__ == "__main__":
    main()
