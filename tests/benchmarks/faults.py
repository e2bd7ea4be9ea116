"""The faults found in version 0.1.0, each tried again: what it did, what happens now, and whether it is mended.

    python tests/benchmarks/faults.py --json faults.json               all of them, some minutes
    python tests/benchmarks/faults.py --json faults.json --only B3 --only D

The cases lie in `fault_cases/`, a file per kind; each goes through the real commands or classes in a folder of its own.
Leaves with 1 when a fault is back.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from edge_app.contract.whole import whole  # noqa: E402
from tests.benchmarks.fault_case import Case  # noqa: E402, both folders must be known first


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("faults.json"), help="one row per case (default %(default)s)")
    parser.add_argument("--only", action="append", default=[], help="faults whose name begins so, as B or B3")
    arguments = parser.parse_args()
    rows = []
    for case in cases():
        if arguments.only and not case.fault.startswith(tuple(arguments.only)):
            continue
        row = tried(case)
        rows.append(row)
        mark = "mended" if row["mended"] else "NOT MENDED"
        print(
            f"{case.fault:4} {mark:10} {case.title}\n     before: {case.before}\n     now:    {row['now']}", flush=True
        )
    with whole(arguments.json) as file:
        file.write((json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())
    mended = sum(row["mended"] for row in rows)
    print(f"{mended} of {len(rows)} mended → {arguments.json}")
    return 0 if mended == len(rows) else 1


def cases() -> list[Case]:
    """All cases, by section and number."""
    found: list[Case] = []
    for path in sorted((HERE / "fault_cases").glob("*.py")):
        found += importlib.import_module(f"tests.benchmarks.fault_cases.{path.stem}").CASES
    return sorted(found, key=lambda case: (case.fault[0], int("".join(c for c in case.fault if c.isdigit()) or 0)))


def tried(case: Case) -> dict[str, object]:
    """A case that raises is not mended, and says what it raised."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"fault-{case.fault}-") as folder:
        try:
            now, mended = case.run(Path(folder))
        except Exception as error:
            traceback.print_exc()
            now, mended = f"the case itself failed: {type(error).__name__}: {error}", False
    seconds = round(time.monotonic() - began_s, 1)
    return {
        "fault": case.fault,
        "title": case.title,
        "before": case.before,
        "now": now,
        "mended": mended,
        "seconds": seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
