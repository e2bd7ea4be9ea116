"""The results of `edge.py` as tables, cases of one kind put together."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from edge_app.judge.shares import Share

BINS = 10


def show(results: dict[str, Any]) -> None:
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for name, result in results.items():
        kind, _, rest = name.partition("/")
        group = f"{kind}/{rest.rpartition('/')[0]}" if kind == "play" else kind
        groups[group].append((rest, result))
    for group, found in groups.items():
        kind = group.partition("/")[0]
        if kind in SHOW:
            print(f"\n{group}")
            SHOW[kind](found)


def show_plays(found: list[tuple[str, dict[str, Any]]]) -> None:
    plays = [result for _, result in found]
    print(f"  {len(plays)} seeds, {total(plays, 'frames')} frames, {total(plays, 'tracklets')} tracklets")
    for name in ("crosslane", "baseline", "ceiling"):
        parts = [f"{what} {share(plays, name, what)}" for what in ("precision", "recall", "seen_recall")]
        print(f"  {name:10} {'   '.join(parts)}")
    show_delays(plays)
    confirmed, revised = total(plays, "confirmed"), total(plays, "revised")
    print(f"  revised {Share(revised, confirmed)} of the confirmed")
    errors = [error for one in plays for error in one["travel_time_errors_s"]]
    print(f"  travel times: median per link off by {np.median(errors):.2f} s (median), {max(errors):.2f} s (most)")
    show_calibration(plays)
    show_speed(plays)


def show_clips(found: list[tuple[str, dict[str, Any]]]) -> None:
    for name, clip in found:
        print(
            f"  {name}: {clip['frames']} frames, {clip['tracklets']} tracklets {clip['classes']}, half of them longer"
        )
        print(f"  than {clip['duration_p50_s']:.1f} s, {clip['without_embedding']} without an embedding;")
        print(f"  confirmed by link {clip['matches_by_link']}")
        show_speed([clip])


def show_curve(found: list[tuple[str, dict[str, Any]]]) -> None:
    for name, result in found:
        runs = result["seeds"]
        print(
            f"  {name}: precision {share(runs, 'crosslane', 'precision')} recall {share(runs, 'crosslane', 'recall')}"
        )
        show_delays(runs)
        show_calibration(runs)


def show_scale(found: list[tuple[str, dict[str, Any]]]) -> None:
    least = found[0][1]["ms_per_tracklet"]
    for cameras, one in found:
        print(
            f"  {cameras:>3} cameras: {one['open_tracklets']:6.0f} open tracklets, {one['ms_per_tracklet']:6.2f} ms "
            f"each (× {one['ms_per_tracklet'] / least:.2f}), precision {share([one], 'crosslane', 'precision')}, "
            f"recall {share([one], 'crosslane', 'recall')}"
        )


def show_delays(runs: list[dict[str, Any]]) -> None:
    delays = [delay for one in runs for delay in one["delays_s"]]
    if delays:
        print(f"  decided after {np.median(delays):.1f} s (median), {np.percentile(delays, 95):.1f} s (95 %)")


def show_calibration(runs: list[dict[str, Any]]) -> None:
    said = np.array([pair for one in runs for pair in one["statements"]])
    if len(said):
        error, brier = calibration(said)
        print(f"  calibration of {len(said)} statements: ECE {error:.3f}, Brier {brier:.3f}")


def calibration(said: np.ndarray) -> tuple[float, float]:
    """(N, 2) probabilities and outcomes → expected calibration error over ten bins, Brier score."""
    probability, outcome = said.T
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = [
        (place == index).mean() * abs(probability[place == index].mean() - outcome[place == index].mean())
        for index in np.unique(place)
    ]
    return float(sum(gaps)), float(((probability - outcome) ** 2).mean())


def show_speed(runs: list[dict[str, Any]]) -> None:
    fps = np.median([one["fps"] for one in runs])
    stages = {
        name: np.median([one["stage_ms_per_frame"][name] for one in runs]) for name in runs[0]["stage_ms_per_frame"]
    }
    shares = [one["outside_engine_share"] for one in runs if one["outside_engine_share"] is not None]
    outside = f"; outside the engines {np.median(shares):.1%}" if shares else ""
    print(f"  {fps:.0f} frames per second, sources included{outside}")
    print("  ms per frame: " + ", ".join(f"{name} {spent:.2f}" for name, spent in stages.items()))


def share(runs: list[dict[str, Any]], name: str, what: str) -> Share:
    hits, count = np.sum([one[name][what] for one in runs], axis=0)
    return Share(int(hits), int(count))


def total(runs: list[dict[str, Any]], name: str) -> int:
    return int(sum(one[name] for one in runs))


SHOW = {"play": show_plays, "clip": show_clips, "curve": show_curve, "scale": show_scale}
