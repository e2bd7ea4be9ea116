"""What INT8 costs and saves: size of files and engines, likeness to FP32 on real crops, and speed where there is a GPU.

    python tests/benchmarks/int8.py --json int8.json                             engines for SM86, on any machine
    python tests/benchmarks/int8.py --json int8.json --data DATA --model model.pt --student 600
    python tests/benchmarks/int8.py --json int8.json --device                    on a machine with an NVIDIA GPU

DATA holds `market_dev` (Market-1501's layout, adapted to) and `khoa_vehicles` (query and gallery); model.pt is a run of
the trainer on the first. `--student N` teaches a plain network, SqueezeNet from `DATA/weights`, in N steps (no labels).
Each row is written to the JSON file when it is done; what is there already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import int8_cases
import int8_device
import int8_networks
import int8_tables

from edge_app.contract.whole import whole

Case = tuple[str, Callable[[], dict[str, Any]]]
PRECISIONS = ("fp32", "fp16", "int8")
BATCHES = (1, 8, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("int8.json"), help="where rows are kept (%(default)s)")
    parser.add_argument("--networks", nargs="*", default=[*int8_networks.PLAIN, "demo"], help="for sizes of engines")
    parser.add_argument("--data", type=Path, help="folder with market_dev, khoa_vehicles and weights")
    parser.add_argument("--model", type=Path, help="model.pt of an adapted network; needs --data")
    parser.add_argument("--student", type=int, default=0, help="steps to teach a plain network; needs --model")
    parser.add_argument("--crops", type=int, default=2000, help="held-out crops at most")
    parser.add_argument("--device", action="store_true", help="run the engines on this machine's GPU")
    parser.add_argument("--only", default="", help="rows whose name begins so")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/crosslane/crops"))
    arguments = parser.parse_args()
    arguments.cache = arguments.cache.expanduser()
    results = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    results["machine"] = {"cores": os.cpu_count(), "python": platform.python_version(), "cpu": platform.machine()}
    for name, measure in cases(arguments):
        if name not in results and name.startswith(arguments.only):
            print(f"{name} …", flush=True)
            results[name] = {**measure(), "load": os.getloadavg()[0]}
            with whole(arguments.json) as file:
                file.write((json.dumps(results, indent=1) + "\n").encode())
    int8_tables.show(results)


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """What was asked for: names, which say everything that a row depends on, and how to measure it."""
    for network in arguments.networks:
        for precision in PRECISIONS:
            yield f"engine/{network}/{precision}", lambda name=network, kind=precision: int8_cases.sizes(name, kind)
        for batch in BATCHES if arguments.device else ():
            for precision in PRECISIONS:
                what = (network, precision, batch)
                yield f"device/{network}/{precision}/{batch}", lambda what=what: int8_device.speed(*what)
    if arguments.data and arguments.model:
        yield from crops(arguments)


def crops(arguments: argparse.Namespace) -> Iterator[Case]:
    """Rows of real crops: the adapted network, and a plain one that it teaches."""
    models = {"adapted": arguments.model}
    market, cache = arguments.data / "market_dev", arguments.cache
    if arguments.student:
        models["plain"] = arguments.json.with_name("student.pt")
        weights = arguments.data / "weights" / "squeezenet_v1.1.bin"
        teach = (arguments.model, market, weights, models["plain"])
        yield (
            f"student/{arguments.student} steps",
            lambda: int8_cases.student(teach, arguments.student, cache),
        )
    tables = {"market_dev": market, "khoa_vehicles": arguments.data / "khoa_vehicles"}
    for name, model in models.items():
        for data, place in tables.items():
            asked = int8_cases.Asked(model, place, arguments.crops, cache)
            yield f"crops/{name}/{data}", lambda asked=asked: int8_cases.likeness(asked)


if __name__ == "__main__":
    main()
