"""Tracks of one camera beside the truth: IDF1, and into how many pieces a passage falls; against plain ByteTrack.

    python tests/benchmarks/tracks.py --json tracks.json          the drawn town, and real vehicles

IDF1 (E. Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", ECCVW 2016) of
passages: truth and passages are matched one to one so that most frames agree (IoU ≥ 0.5); 2 · IDTP / (truth + found).
A passage's box between two points of its path is on the line between them. Plain is the tracker alone: no riders, no
joined pieces, nobody who is waited for while hidden.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import real_site
import real_traffic
from edge_cases import run_node
from numpy.typing import NDArray

from edge_app.boxes import intersection_over_union, read_boxes
from edge_app.config import parse
from edge_app.contract.whole import whole
from edge_app.demo.play import Play, raw_config
from edge_app.simulation.world import World
from edge_app.types import Tracklet

PLAIN = {"track": {"two_wheelers": []}, "tracklets": {"pieces": False, "hidden": {"longest_s": 0}}}
WAYS: dict[str, dict[str, Any]] = {"crosslane": {}, "plain ByteTrack": PLAIN}
SAME_IOU = 0.5
SEEN = 0.3  # of a box that is hidden or outside more than 1 − this nobody can say anything
Moments = Mapping[str, Sequence[tuple[float, NDArray[Any], list[Any]]]]  # camera → time, (N, 4) boxes, whose


def identity_f1(tracklets: Sequence[Tracklet], truth: Moments) -> dict[str, int]:
    """Counts of frames, and of pieces. O(frames · boxes), and one assignment of each camera."""
    from scipy.optimize import linear_sum_assignment

    total: Counter[str] = Counter()
    for camera, moments in truth.items():
        here = [one for one in tracklets if one.camera == camera]
        names = sorted({name for *_, whose in moments for name in whose}, key=str)
        agree = np.zeros((len(names), len(here)), np.int64)
        found = np.zeros(len(here), np.int64)
        for time_s, boxes, whose in moments:
            there = [k for k, one in enumerate(here) if one.entry_time_s <= time_s <= one.exit_time_s]
            found[there] += 1
            total["truth"] += len(whose)
            if there and len(whose):
                overlap = intersection_over_union(boxes, np.stack([_box_at(here[k], time_s) for k in there]))
                for row, column in zip(*np.nonzero(overlap >= SAME_IOU), strict=True):
                    agree[names.index(whose[row]), there[column]] += 1
        total["found"] += int(found.sum())
        rows, columns = linear_sum_assignment(agree, maximize=True)
        total["idtp"] += int(agree[rows, columns].sum())
        shows = agree.argmax(axis=0)[agree.max(axis=0, initial=0) >= np.maximum(found, 1) / 2]
        total["passages"] += len(np.unique(shows))
        total["pieces"] += len(shows) - len(np.unique(shows))
        total["all passages"] += len(names)
    return dict(total)


def _box_at(one: Tracklet, time_s: float) -> NDArray[np.float32]:
    columns = [np.interp(time_s, one.path_times_s, one.path_boxes[:, side]) for side in range(4)]
    return np.array(columns, np.float32)


def town(seed: int) -> dict[str, Any]:
    play = Play("town", seed, 0.5, 120.0, "detections")
    world = play.world()
    rows = {}
    for name, changes in WAYS.items():
        with tempfile.TemporaryDirectory() as scratch:
            raw = raw_config(play, Path(scratch) / "node.db", None)
            run = run_node(parse(raw | changes, Path(scratch) / "site.yaml"))
        rows[name] = identity_f1(run.tracklets, drawn(world, raw["cameras"]))
    return rows


def drawn(world: World, cameras: Sequence[Mapping[str, Any]]) -> Moments:
    """What of the simulated vehicles is to be seen, in the part of the picture that counts, ten times a second."""
    found: dict[str, list[tuple[float, NDArray[Any], list[Any]]]] = defaultdict(list)
    for camera, raw in zip(world.cameras, cameras, strict=True):
        top_px = camera.height_px * (raw["area"][0][1] if "area" in raw else 0.0)
        for time_s in np.arange(world.start_s, world.end_s, 0.1):
            seen = world.visible(camera.id, float(time_s))
            if not len(seen):
                continue
            kept = (seen.occluded <= 1 - SEEN) & (seen.cut <= 1 - SEEN) & (seen.boxes[:, 3] >= top_px)
            whose = [passage for passage, keep in zip(seen.passages, kept, strict=True) if keep]
            found[camera.id].append((float(time_s), seen.boxes[kept], whose))
    return found


def road(seed: int, half: str, detector: bool) -> dict[str, Any]:
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plan = real_traffic.Plan(seed, half)
        real_traffic.record(folder, real_traffic.visits(real_site.DATA, plan), seed)
        boxes = {"recorded": str(folder / "truth.jsonl")}
        config = real_site.site(folder, plan, real_site.YOLOX if detector else boxes)
        truth = read_boxes(folder / "truth.jsonl", real_traffic.CAMERAS)
        moments: Moments = {
            camera: [
                (frame / real_traffic.FPS, each.boxes[each.of(frame)], each.ids[each.of(frame)].tolist())
                for frame in np.unique(each.frames).tolist()
            ]
            for camera, each in truth.items()
        }
        for name, changes in WAYS.items():
            raw = json.loads(config.model_dump_json())
            raw |= {room: {**raw[room], **each} for room, each in changes.items()}
            rows[name] = identity_f1(run_node(parse(raw, folder / "site.yaml")).tracklets, moments)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="rows are kept here; what is there is not run again")
    parser.add_argument("--town", type=int, nargs="*", default=[41, 42, 43, 44, 45], help="seeds of the drawn town")
    parser.add_argument("--road", type=int, nargs="*", default=[1, 2], help="seeds of the road with real vehicles")
    parser.add_argument("--half", choices=real_traffic.HALVES, default="judge")
    given = parser.parse_args()
    rows: dict[str, Any] = json.loads(given.json.read_text()) if given.json.exists() else {}
    plans = [("the drawn town's detections", seed, town) for seed in given.town]
    for boxes in (False, True):
        name = f"real vehicles, {given.half}, {'YOLOX-nano' if boxes else 'perfect boxes'}"
        plans += [(name, seed, lambda seed, boxes=boxes: road(seed, given.half, boxes)) for seed in given.road]
    for name, seed, play in plans:
        if f"{name}/{seed}" not in rows:
            rows[f"{name}/{seed}"] = play(seed)
            with whole(given.json) as file:
                file.write(json.dumps(rows, indent=1).encode())
    for name in dict.fromkeys(name for name, *_ in plans):
        print(name)
        for way in WAYS:
            counts = sum((Counter(row[way]) for key, row in rows.items() if key.rpartition("/")[0] == name), Counter())
            f1 = 2 * counts["idtp"] / max(counts["truth"] + counts["found"], 1)
            print(f"  {way:16} IDF1 {f1:.3f}, {counts['passages']} of {counts['all passages']} passages seen, "
                  f"{counts['pieces']} further pieces of them")  # fmt: skip


if __name__ == "__main__":
    main()
