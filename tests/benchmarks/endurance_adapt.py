"""`trainer adapt` killed (-9) again and again, anywhere between its first line and its last.

    python tests/benchmarks/endurance_adapt.py --kills 100 --json F

A tiny site, from shards on a store to a signed bundle. Each time a process adapts it and kills itself at a line drawn
at random from all that an undisturbed one goes through in the files that hold what must not be lost; the next goes on,
and the ninth is left alone. Decision, weights to the last bit, reservoir, files, and what is told to others must be
those of the undisturbed one. The gate finds every model better, so that each round goes through all stages. Begun
again, it goes on from what F says of the rounds before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / name) for name in ("trainer/adapt/stages", "trainer/adapt", "trainer", ".")]

from test_adapt import result, tiny, vehicles  # noqa: E402
from tiny_site import NOON_S, dying, lines_of, publish  # noqa: E402

from edge_app.contract.whole import whole  # noqa: E402
from trainer.adapt import rounds  # noqa: E402
from trainer.adapt.commands import command  # noqa: E402
from trainer.adapt.settings import SiteSettings  # noqa: E402
from trainer.adapt.stages.adapt import STAGES  # noqa: E402

FILES = ("run", "train", "resuming", "checkpoint", "keeping", "features", "report", "export", "data.cache")
MODULES = ("edge_app.contract", "trainer.adapt", *(f"trainer.{name}" for name in FILES))
MOST_DEATHS = 8  # of one round
NEVER = 10**12


class Trial:
    """One site, and all that was done to it."""

    def __init__(self, root: Path) -> None:
        self.site, self.settings = tiny(root, keep={"held_out": 0.3, "reservoir": 20})
        for hour in range(3):
            self.site.upload(vehicles(10 * hour, 4, NOON_S + 3600 * hour))
        self.said = root / "said"

    def adapt(self, line: int) -> bool:
        """In a process that dies at this line; whether it did."""
        died = dying(self.once, line, MODULES)
        if died:
            (self.site.objects / "town" / "lock").unlink(missing_ok=True)  # as who knows that its owner is dead
        return died

    def once(self) -> None:
        said: list[str] = []
        command.once([self.settings], said.append)
        self.said.write_text("\n".join(said), encoding="utf-8")

    @property
    def outcome(self) -> tuple[Any, ...]:
        told = json.loads((self.site.objects / "town" / "adapted").read_text(encoding="utf-8"))
        return result(self.settings), {**told, "model": "", "sha256": ""}


def stage_of(settings: SiteSettings) -> str:
    """After which stage the round was broken off."""
    one = rounds.latest(settings.folder) if settings.folder.exists() else None
    if one is None:
        return "ingest"
    return one.decision or next((name for name in STAGES if name not in one.done), "decide")


def endure(kills: int, root: Path, seed: int, before: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All that is known after each round; `before` is what was known when it was broken off."""
    deaths, runs, unequal = Counter[str](before.get("in", {})), before.get("rounds", 0), list(before.get("unequal", ()))
    begin_s = time.monotonic() - before.get("seconds", 0.0)
    undisturbed = Trial(root / "whole")
    lines = lines_of(undisturbed.once, MODULES)
    expected = undisturbed.outcome
    assert expected[0][0] == "accepted", undisturbed.said.read_text(encoding="utf-8")
    while deaths.total() < kills:
        runs += 1
        chance = random.Random(f"{seed} {runs}")
        trial = Trial(root / f"{runs}")
        for _ in range(MOST_DEATHS):
            if not trial.adapt(chance.randrange(1, lines)):
                break
            deaths[stage_of(trial.settings)] += 1
        else:
            trial.adapt(NEVER)
        if trial.outcome != expected:
            unequal.append(runs)
        yield {
            "lines": lines, "rounds": runs, "kills": deaths.total(), "in": dict(deaths), "unequal": unequal,
            "seconds": round(time.monotonic() - begin_s, 1), "cores": len(os.sched_getaffinity(0)),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    before = json.loads(chosen.json.read_text(encoding="utf-8")) if chosen.json and chosen.json.exists() else {}
    publish()
    with tempfile.TemporaryDirectory() as folder:
        for found in endure(chosen.kills, Path(folder), chosen.seed, before):
            print(found, flush=True)
            if chosen.json:
                with whole(chosen.json) as file:
                    file.write((json.dumps(found, indent=1) + "\n").encode())
    if found["unequal"]:
        sys.exit(f"rounds {found['unequal']} ended otherwise than the undisturbed one")


if __name__ == "__main__":
    main()
