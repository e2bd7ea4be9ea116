"""What a node survives: kills, a broker that is killed, copies of its store taken at any moment, dead cameras.

    python tests/benchmarks/endurance.py --json endurance.json                     all of it, about an hour
    python tests/benchmarks/endurance.py --json endurance.json --kills 20 --copies 50 --camera-seconds 60

Parts that are in the file already are not done again. Needs Mosquitto. The short forms are tests: `test_kill.py` and
others. Leaves with 1 when something was not as it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_app.contract.whole import whole

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "integration"), str(TESTS / "benchmarks")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("endurance.json"), help="(default %(default)s)")
    parser.add_argument("--kills", type=int, default=200, help="kills of two nodes together (default %(default)s)")
    parser.add_argument("--holes", type=int, default=20, help="kills of a live node (default %(default)s)")
    parser.add_argument("--copies", type=int, default=1000, help="copies of a store (default %(default)s)")
    parser.add_argument("--camera-seconds", type=float, default=1200.0, help="with dead cameras, and without again")
    arguments = parser.parse_args()
    results = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    for name, part in parts(arguments):
        if name in results:
            continue
        print(f"{name} …", flush=True)
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
            results[name] = {**part(Path(folder)), "seconds": round(time.monotonic() - began_s, 1)}
        with whole(arguments.json) as file:
            file.write((json.dumps(results, indent=1) + "\n").encode())
    print(json.dumps(results, indent=1))
    return 0 if all(result["good"] for result in results.values()) else 1


def parts(arguments: argparse.Namespace) -> list[tuple[str, Callable[[Path], dict[str, Any]]]]:
    """Names, which say how much was done, and how to do it. A part says whether it was `good`."""
    return [
        (f"kills/{arguments.kills}", lambda folder: kills(folder, arguments.kills)),
        (f"holes/{arguments.holes}", lambda folder: holes(folder, arguments.holes)),
        (f"copies/{arguments.copies}", lambda folder: copies(folder, arguments.copies)),
        (f"cameras/{arguments.camera_seconds:g} s", lambda folder: cameras(folder, arguments.camera_seconds)),
    ]


def kills(folder: Path, times: int) -> dict[str, Any]:
    """In start-up, running and shutdown, in lockstep, with the broker killed too: facts and aggregates are equal."""
    from conftest import Mosquitto, Subscriber
    from kills import endure, persistent

    broker = Mosquitto(folder, persistent(folder)).start()
    witness = Subscriber(broker.port, session="the-witness")
    try:
        found = endure(folder, broker, witness, times // 2, seconds=7.0 * times / 2)
    finally:
        witness.close()
        broker.kill()
    ends = found["ends"]
    return {**found, "good": ends["starting"] + ends["running"] + ends["stopping"] >= times * 0.9}


def holes(folder: Path, times: int) -> dict[str, Any]:
    """Of a node with live cameras: every interval is said, with what of it was seen."""
    from conftest import Mosquitto, Subscriber
    from kills import persistent
    from live_holes import live_holes

    broker = Mosquitto(folder, persistent(folder)).start()
    witness = Subscriber(broker.port, session="the-witness")
    try:
        found = live_holes(folder, broker, witness, times)
    finally:
        witness.close()
        broker.kill()
    return {**found, "good": not found["intervals_not_said"]}


def copies(folder: Path, times: int) -> dict[str, Any]:
    """Of a store that is written to, taken at any moment and cut anywhere: all open, what was acknowledged is there."""
    from endurance_store import thousand_copies

    found = thousand_copies(folder, times)
    return {**found, "good": found["opened"] == times and found["steps_lost_max"] <= 1 and not found["torn"]}


def cameras(folder: Path, seconds: float) -> dict[str, Any]:
    """Half-open, refusing and freezing cameras beside two good ones: those are as before, and nothing grows."""
    from endurance_cameras import twenty_minutes

    found = twenty_minutes(folder, seconds)
    news = found["with"]["news"].values()
    return {**found, "good": found["fps_kept"] > 0.95 and max(news) <= 10}


if __name__ == "__main__":
    sys.exit(main())
