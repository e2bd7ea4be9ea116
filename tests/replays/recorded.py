"""Three recorded runs, whose facts are kept beside this file and compared field by field.

    python tests/replays/recorded.py --why "a sentence that says why the facts moved"      renews what is kept
    python tests/replays/recorded.py                                                       only says what differs

`town-detections` is the simulated town without networks, `town-drawn` the same through both of the demo's models,
`terrace` a real recording (see `tests/README.md`) through YOLOX-nano and OSNet. A file says what `edge-app replay`
writes, apart from the configuration's digest, which knows where the models lie.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "integration")]

from real_clips import first_of_terrace  # noqa: E402, the paths above come first

from edge_app.config import Site  # noqa: E402
from edge_app.demo.play import Play, site_config  # noqa: E402
from edge_app.replay import replay_site  # noqa: E402

Line = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """How to play it, and how far a number may be off, absolutely or of its size, on another processor."""

    config: Callable[[Path, Path], Site]  # folder of real data, scratch folder
    tolerance: float
    needs_data: bool = False


def _terrace(data: Path, scratch: Path) -> Site:
    config = first_of_terrace(data, scratch)
    cameras = tuple(camera.model_copy(update={"fps": 5.0}) for camera in config.cameras)
    return config.model_copy(update={"cameras": cameras})


RUNS = {
    "town-detections": Recorded(lambda _, scratch: site_config(Play(seconds=150.0), scratch / "town.db"), 1e-5),
    "town-drawn": Recorded(
        lambda _, scratch: site_config(Play(seconds=30.0, fidelity="frames"), scratch / "town.db"), 0.02
    ),
    "terrace": Recorded(_terrace, 0.02, needs_data=True),
}


def play(name: str, data: Path, scratch: Path) -> list[Line]:
    """The facts that `edge-app replay` writes; what it counts from them has tests of its own."""
    out = scratch / f"{name}.jsonl"
    replay_site(RUNS[name].config(data, scratch), out)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if "/agg/" not in line.get("topic", "")]
    for line in lines:
        line.get("payload", {}).pop("config_digest", None)
    return lines


def kept(name: str) -> list[Line]:
    return [json.loads(line) for line in _file(name).read_text(encoding="utf-8").splitlines()]


def differences(now: list[Line], before: list[Line], tolerance: float) -> Iterator[str]:
    """What is not as it was, a line for each field."""
    if len(now) != len(before):
        yield f"{len(now)} facts, {len(before)} are kept"
    for index, (one, other) in enumerate(zip(now, before, strict=False), 1):
        yield from _fields(f"fact {index}", one, other, tolerance)


def _fields(place: str, now: Any, before: Any, tolerance: float) -> Iterator[str]:
    if isinstance(now, dict) and isinstance(before, dict):
        for key in sorted(now.keys() | before.keys()):
            if key not in now or key not in before:
                yield f"{place}.{key}: {'new' if key in now else 'gone'}"
            else:
                yield from _fields(f"{place}.{key}", now[key], before[key], tolerance)
    elif isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        for index, pair in enumerate(zip(now, before, strict=True)):
            yield from _fields(f"{place}.{index}", *pair, tolerance)
    elif not _same(now, before, tolerance):
        yield f"{place}: {now!r}, kept is {before!r}"


def _same(now: Any, before: Any, tolerance: float) -> bool:
    if isinstance(now, float) and isinstance(before, int | float) and not isinstance(before, bool):
        return math.isclose(now, before, rel_tol=tolerance, abs_tol=tolerance)
    return bool(type(now) is type(before) and now == before)


def _file(name: str) -> Path:
    return HERE / f"{name}.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--why", help="renew what differs, and add this sentence to README.md")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("CROSSLANE_DATA") or ROOT / ".." / "shared" / "data"
    )
    arguments = parser.parse_args()
    renewed = []
    for name, run in RUNS.items():
        if run.needs_data and not arguments.data.is_dir():
            print(f"{name}: skipped, no real data at {arguments.data}")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            now = play(name, arguments.data.resolve(), Path(scratch))
        found = list(differences(now, kept(name), run.tolerance)) if _file(name).exists() else ["nothing is kept"]
        print(f"{name}: {len(now)} facts, {len(found)} differences", *found[:20], sep="\n  ")
        if found and arguments.why:
            text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in now)
            _file(name).write_text(text, encoding="utf-8")
            renewed.append(name)
    if renewed:
        with (HERE / "README.md").open("a", encoding="utf-8") as page:
            page.write(f"- {date.today()}, {', '.join(renewed)}: {arguments.why}\n")


if __name__ == "__main__":
    main()
