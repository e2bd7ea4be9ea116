"""Mutated manifests and archives against the reader of bundles: none may crash it, none that changed may pass.

python tests/benchmarks/bundle_fuzz.py --json fuzz.json --mutants 10000
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
from tiny_bundle import Mutants  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the result is written")
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    sound = TESTS / "edge_app" / "contract" / "golden" / "bundle-1.bundle"
    counts: Counter[str] = Counter()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        mutants = Mutants(sound, Path(folder))
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.mutants):
            try:
                counts[mutants.try_one(seed)] += 1
            except Exception:  # whatever is no refusal is a crash, and the next one is wanted too
                counts["crashed"] += 1
                print(f"seed {seed}:\n{traceback.format_exc()}", file=sys.stderr)
    result = {"mutants": arguments.mutants, "seconds": round(time.perf_counter() - begin, 1), **counts}
    result.setdefault("crashed", 0)
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(counts["crashed"] > 0)


if __name__ == "__main__":
    main()
