"""Real vehicle pictures on a drawn road through the whole application: matches, losses and counts beside the truth.

    python tests/benchmarks/real_site.py --json real.json                          the judged half, perfect boxes
    python tests/benchmarks/real_site.py --json real.json --detector               the same through YOLOX-nano
    python tests/benchmarks/real_site.py --json real.json --flip vehicles          classes that camera b gets wrong
    python tests/benchmarks/real_site.py --json choose.json --half choose          the half that settings are chosen by

Pictures, models and real travel times lie in the folder `CROSSLANE_DATA` (see `tests/README.md`): 300 vehicles, one
picture in each of two cameras, of which every second of each class is for choosing settings and the others for judging.
The embedder has seen persons only. A case is one seed of `real_traffic.Plan`; cases that the file has are not run
again. Beside it, from the same tracklets: the best cosine with the threshold that the truth says is best, one Hungarian
assignment of cosines within the link's times (as it is, and with the threshold that the truth says is best), and one of
travel times alone.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import real_counts
import real_traffic
from edge_cases import run_node
from numpy.typing import NDArray

from edge_app.app import Node
from edge_app.associate.facts import standing_matches
from edge_app.config import Site, parse
from edge_app.contract.whole import whole
from edge_app.judge.shares import Share
from edge_app.judge.truth import Truth, Watched
from edge_app.judge.verdict import Standard, judge
from edge_app.replay import true_passages
from edge_app.types import Tracklet

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CROSSLANE_DATA", ROOT.parent / "shared" / "data"))
TRANSIT = {
    "log-normal": {"min_s": 5, "typical_s": 20, "max_s": 60},
    "hcmc": {"min_s": 2, "typical_s": 10, "max_s": 40},
}
WEIGHTS = DATA / "weights"
EMBEDDER = {
    "path": str(WEIGHTS / "osnet_x0_25_msmt17.onnx"),
    "input": {"width_px": 128, "height_px": 256, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}
YOLOX_INPUT = {"channel_order": "BGR", "scale": 1, "resize": "letterbox", "letterbox_align": "top-left"}
YOLOX = {
    "path": str(WEIGHTS / "yolox_nano.onnx"),
    "input": {"width_px": 416, "height_px": 416, **YOLOX_INPUT},
    "classes": ["car", "motorcycle", "bus", "truck"],
}


FLIPS = {"vehicles": {"car": "truck", "truck": "bus", "bus": "car"}, "riders": {"motorcycle": "person"}}


def site(folder: Path, plan: real_traffic.Plan, detector: dict[str, Any], typical_s: float | None = None) -> Site:
    """A node with two cameras, the link between them, and defaults for everything else."""
    transit = TRANSIT[plan.transit] | ({"typical_s": typical_s} if typical_s else {})
    raw: dict[str, Any] = {
        "site": "road",
        "node": "edge-1",
        "cameras": [{"id": camera, "source": str(folder / f"{camera}.mp4")} for camera in real_traffic.CAMERAS],
        "links": [{"from_camera": "a", "to_camera": "b", "transit": transit}],
        "detector": detector,
        "embedder": EMBEDDER,
        "ticks": {"mode": "lockstep", "speed": None},
        "store": {"path": str(folder / "node.db")},
    }
    return parse(raw, folder / "site.yaml")


def played(config: Site, truth: Path) -> dict[str, Any]:
    """One run of the node, beside the truth and beside what is compared with it."""
    beside = true_passages(config, truth)
    run = run_node(config, lambda node: _watch(node, beside))
    matches = standing_matches(run.facts)
    standard = Standard(config.links, config.associate, config.tracklets.minimum_observations)
    verdict = judge(beside, run.tracklets, matches, standard)
    shown = {one.id: beside.shown_by(one) for one in run.tracklets}
    pairs = beside.pairs(config.links)
    true = {(pair.from_, pair.to) for pair in pairs}
    found = {(shown[match.from_.track], shown[match.to.track]) for match in matches}

    def right(ends: Sequence[tuple[str, str]]) -> int:
        return len({(shown[first], shown[last]) for first, last in ends} & true)

    return {
        "pairs": len(pairs),
        "crosslane": [verdict.links[0].precision.hits, verdict.links[0].precision.count, verdict.links[0].recall.hits],
        "said": [[one.posterior, float((shown[one.from_.track], shown[one.to.track]) in true)] for one in matches],
        "found": dict(Counter(pair.from_.class_name for pair in pairs if (pair.from_, pair.to) in found)),
        "lost": {reason: sum(places.values()) for reason, places in verdict.lost.items()},
        "cameras": [asdict(one) for one in verdict.cameras],
        **compared(config, run.tracklets, right),
        "counts": real_counts.counted(run, beside, config.links),
        "fps": run.speed["fps"],
    }


def flipped(truth: Path, names: dict[str, str]) -> Path:
    """The same boxes, of which camera b calls some by the name of another class."""
    rows = [json.loads(line) for line in truth.read_text().splitlines()]
    for row in rows:
        row["class"] = names.get(row["class"], row["class"]) if row["camera"] == "b" else row["class"]
    target = truth.with_name("boxes.jsonl")
    target.write_text("\n".join(map(json.dumps, rows)))
    return target


def _watch(node: Node, truth: Truth) -> None:
    node.perception.detector = Watched(node.detector, truth)


def compared(
    config: Site, tracklets: list[Tracklet], right: Callable[[Sequence[tuple[str, str]]], int]
) -> dict[str, list[int]]:
    """What others would make of the same tracklets: [right, said, found] each."""
    from scipy.optimize import linear_sum_assignment

    before, after = (
        [one for one in tracklets if one.camera == camera and len(one.embeddings)] for camera in real_traffic.CAMERAS
    )
    if not before or not after:
        return {}
    cosines = _means(before) @ _means(after).T  # (N, M)
    transit_s = np.array([[to.entry_time_s - one.exit_time_s for to in after] for one in before])
    limits = config.links[0].transit
    gated = (transit_s >= limits.min_s) & (transit_s <= limits.max_s)
    times = -np.abs(np.log(np.maximum(transit_s, 1e-3) / limits.median_s))

    def ends(rows: NDArray[Any], columns: NDArray[Any]) -> list[tuple[str, str]]:
        return [(before[row].id, after[column].id) for row, column in zip(rows, columns, strict=True)]

    def assigned(score: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        rows, columns = linear_sum_assignment(np.where(gated, score, -1e3), maximize=True)
        kept = gated[rows, columns]
        return rows[kept], columns[kept]

    def counted(pairs: list[tuple[str, str]]) -> list[int]:
        return [right(pairs), len(pairs), right(pairs)]

    def with_best_threshold(rows: NDArray[Any], columns: NDArray[Any]) -> list[int]:
        values = cosines[rows, columns]
        found = [counted(ends(rows[values >= least], columns[values >= least])) for least in np.unique(values)]
        return max(found, key=lambda one: 2 * one[0] / (one[1] + right_ones), default=[0, 0, 0])

    rows, columns = assigned(cosines)
    right_ones = right([(one.id, other.id) for one in before for other in after])
    best = np.where(transit_s > 0, cosines, -1.0).argmax(axis=0)
    return {
        "cosine": with_best_threshold(best, np.arange(len(after))),
        "hungarian": counted(ends(rows, columns)),
        "hungarian, best threshold": with_best_threshold(rows, columns),
        "times alone": counted(ends(*assigned(times))),
    }


def _means(tracklets: list[Tracklet]) -> NDArray[Any]:
    means = np.stack([one.embeddings.mean(0) for one in tracklets]).astype(np.float64)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="rows are kept here; what is there is not run again")
    parser.add_argument("--half", choices=real_traffic.HALVES, default="judge")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--transit", choices=tuple(TRANSIT), default="log-normal")
    parser.add_argument("--detector", action="store_true", help="YOLOX-nano instead of perfect boxes")
    parser.add_argument("--flip", choices=tuple(FLIPS), help="what camera b calls every vehicle of some classes")
    parser.add_argument("--typical-s", type=float, help="another guess of the transit")
    given = parser.parse_args()
    rows: dict[str, Any] = json.loads(given.json.read_text()) if given.json.exists() else {}
    boxes = "detector" if given.detector else "perfect boxes"
    name = f"{given.half}, {given.transit}, {boxes}" + (f", guess {given.typical_s:g} s" if given.typical_s else "")
    name += f", camera b flips {given.flip}" if given.flip else ""
    for seed in given.seeds:
        if f"{name}/{seed}" in rows:
            continue
        plan = real_traffic.Plan(seed, given.half, given.transit)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            real_traffic.record(folder, real_traffic.visits(DATA, plan), seed)
            truth = folder / "truth.jsonl"
            recorded = flipped(truth, FLIPS[given.flip]) if given.flip else truth
            config = site(folder, plan, YOLOX if given.detector else {"recorded": str(recorded)}, given.typical_s)
            rows[f"{name}/{seed}"] = played(config, truth)
        with whole(given.json) as file:
            file.write(json.dumps(rows, indent=1).encode())
        print(told(f"seed {seed}", [rows[f"{name}/{seed}"]]), flush=True)
    print(told(name, [rows[f"{name}/{seed}"] for seed in given.seeds]))


def told(name: str, rows: list[dict[str, Any]]) -> str:
    pairs = sum(row["pairs"] for row in rows)
    lines = [f"{name}: {pairs} true pairs"]
    for method in ("crosslane", "hungarian", "hungarian, best threshold", "cosine", "times alone"):
        right, said, found = (sum(row[method][index] for row in rows if method in row) for index in range(3))
        lines.append(f"  {method:26} precision {Share(right, said)}, recall {Share(found, pairs)}")
    lost: Counter[str] = Counter()
    found: Counter[str] = sum((Counter(row["found"]) for row in rows), Counter())
    lines.append(f"  found by class: {', '.join(f'{name} {count}' for name, count in sorted(found.items()))}")
    for row in rows:
        lost.update({reason: count for reason, count in row["lost"].items() if count})
    lines += [f"  {count:6} lost: {reason}" for reason, count in lost.items()]
    said = np.array([each for row in rows for each in row["said"]]).reshape(-1, 2)
    lines.append(f"  said with {said[:, 0].mean():.3f} on average, right {said[:, 1].mean():.3f}; ECE {ece(said):.3f}")
    lines += real_counts.told([row["counts"] for row in rows if "counts" in row])
    return "\n".join(lines)


def ece(said: NDArray[Any]) -> float:
    """Expected calibration error over ten bins of equal width, of (N, 2) probability and outcome."""
    bins = np.minimum((said[:, 0] * 10).astype(int), 9)
    parts = [said[bins == each] for each in range(10) if (bins == each).any()]
    return float(sum(len(part) * abs(part[:, 0].mean() - part[:, 1].mean()) for part in parts) / max(len(said), 1))


if __name__ == "__main__":
    main()
