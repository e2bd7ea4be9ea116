"""Good and bad updates through deploy/jetson/install.sh, on a machine of its own (tests/deploy/install_machine.py).

    sudo python tests/benchmarks/installer.py --json FILE [--real]

The tests play one kind of bad release; here are all. `--real`: every release gets what its lock names, by the network.
Each update goes on from the one before, so a run that was stopped begins anew; its rows so far are in the file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "deploy")]

from install_machine import BAD, PACKAGES, Machine, copy_checkout, git, lacking, python_for_everybody, taken  # noqa: E402

from edge_app.contract.whole import whole  # noqa: E402
from edge_app.demo.play import Play, raw_config  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("installer.json"))
    parser.add_argument("--real", action="store_true", help="install what the locks name")
    options = parser.parse_args()
    if reason := lacking():
        sys.exit(f"installer.py: {reason}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_checkout(folder / "clone")
        site = folder / "site.yaml"
        site.write_text(
            yaml.safe_dump(raw_config(Play(seconds=7200.0, speed=4.0), Path("/var/lib/crosslane/node.db"), None))
        )
        machine = Machine(folder, python_for_everybody(), None if options.real else PACKAGES)
        rows: list[dict[str, object]] = []
        try:
            for one in played(machine, site):
                rows.append(one)
                with whole(options.json) as file:
                    file.write(json.dumps(rows, indent=1).encode() + b"\n")
        finally:
            machine.close()
    return 0 if all(row["as_expected"] for row in rows) else 1


def played(machine: Machine, site: Path):
    """One row per update: how long it took, what was said last, and whether the node is as it should be."""
    yield row(machine, site, "first installation", True)
    yield row(machine, site, "the same again", True)
    machine.change("NEWS", "second\n", "second")
    yield row(machine, site, "a good update", True)
    for kind, (code, _) in BAD.items():
        machine.breaks(kind, code)
        yield row(machine, site, f"a bad update: {kind}", False)
        git(machine.clone, "reset", "--quiet", "--hard", "HEAD~1")
    machine.change("NEWS", "third\n", "third")
    yield row(machine, site, "a good update after it", True)


def row(machine: Machine, site: Path, what: str, good: bool) -> dict[str, object]:
    fresh = machine.run("test -e /opt/crosslane/current").returncode != 0
    before, step = (None, 0.0) if fresh else (machine.current(), taken(machine))
    began_s = time.monotonic()
    done = machine.install(site, WAIT_S="60" if good else "25", SETTLE_S="5")
    seconds = round(time.monotonic() - began_s, 1)
    time.sleep(2.0)
    active, goes_on = machine.property("ActiveState") == "active", taken(machine) > step
    stays = good or machine.current() == before
    as_expected = (done.returncode == 0) == good and active and goes_on and stays
    said = done.stderr.strip().splitlines()[-1 if good else -2 if "goes back too" not in done.stderr else -3]
    print(f"{what:40} {seconds:6} s  {'as it should' if as_expected else 'WRONG':12}  {said}", flush=True)
    return {"what": what, "seconds": seconds, "exit": done.returncode, "said": said, "as_expected": as_expected}


if __name__ == "__main__":
    sys.exit(main())
