"""Counts and travel times of a run beside the truth: what was confirmed, and what is expected.

Trips are by first and last camera; `a → a` and `b → b` were seen there and nowhere else: they stayed. Speeds are those
of the I-95 rule (I-95 Corridor Coalition, Vehicle Probe Project, validation of 2008 on): per interval the mean travel
time of the link is a speed, AASE the mean of the absolute differences, SEB of the signed ones, by band of the true
speed. The drawn link is as long as its median vehicle drives at 50 km/h.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from edge_cases import Run
from numpy.typing import NDArray

from edge_app.associate.facts import Match, Unmatched, standing_matches
from edge_app.associate.settings import LinkSettings
from edge_app.delivery.counting import Counted, Link, Table, origin_destination
from edge_app.delivery.expected import expected_on, expected_trips
from edge_app.judge.truth import Truth

INTERVAL_S = 300.0
BANDS_MPH = (0, 30, 45, 60, 1000)
KMH, MPH = 3.6, 3.6 / 1.609344


def counted(run: Run, truth: Truth, links: Sequence[LinkSettings]) -> dict[str, Any]:
    """[true, confirmed, expected, low, high] of each trip, and the quantiles of the travel times."""
    table = table_of(run)
    everybody = list(table.passages.values())
    link = Link(links[0].id, links[0].from_camera, links[0].to_camera, links[0].transit.max_s)
    patience = dict.fromkeys((link.from_camera, link.to_camera), 0.0)
    probable = {
        ends: np.sum([*each.values()], axis=0)
        for ends, each in expected_trips(everybody, table, patience, 1e18).items()
    }
    confirmed = {
        (row["origin"], row["destination"]): sum(row["counts"].values())
        for row in origin_destination(everybody, table, patience, 1e18)
    }
    pairs = truth.pairs(links)
    true = true_trips(truth, pairs)
    fields = expected_on(link, everybody, table)
    transits = np.array([pair.transit_s for pair in pairs])
    return {
        "trips": {
            f"{a} → {b}": [true[a, b], confirmed.get((a, b), 0), *map(float, probable.get((a, b), (0, 0, 0)))]
            for a, b in true
        },
        "travel": {
            "true": [float(value) for value in np.quantile(transits, (0.1, 0.5, 0.9))] if len(transits) else [],
            "expected": [fields[f"expected_{name}_s"] for name in ("p10", "median", "p90")],
        },
        "speeds": speeds(everybody, table, pairs, link),
    }


def table_of(run: Run) -> Table:
    """As the aggregates keep it, at the end of the run."""
    came: dict[str, Any] = {}
    for fact in run.facts:
        if isinstance(fact, Unmatched) or (isinstance(fact, Match) and fact.state == "confirmed"):
            came[fact.to.track] = fact.came
    parents = {match.to.track: match.from_.track for match in standing_matches(run.facts)}
    table = Table()
    for one in run.tracklets:
        passage = Counted(one.id, one.camera, one.class_name, one.entry_time_s, one.exit_time_s, one.entry_zone,
                          one.exit_zone, True, parents.get(one.id), came.get(one.id, ()))  # fmt: skip
        table.put(passage)
    table.next = {before: after for after, before in parents.items()}
    return table


def true_trips(truth: Truth, pairs: Sequence[Any]) -> dict[tuple[str, str], int]:
    """Every true passage begins a trip, but those that continue one."""
    onward = {id(pair.from_): pair.to for pair in pairs}
    continues = {id(pair.to) for pair in pairs}
    found: Counter[tuple[str, str]] = Counter()
    for passage in truth.passages:
        if id(passage) in continues:
            continue
        last = passage
        while id(last) in onward:
            last = onward[id(last)]
        found[passage.camera, last.camera] += 1
    return dict(found)


def speeds(everybody: Sequence[Counted], table: Table, pairs: Sequence[Any], link: Link) -> list[tuple[float, float]]:
    """True and measured speed of each interval with both, km/h."""
    true: dict[int, list[float]] = defaultdict(list)
    for pair in pairs:
        true[int(pair.from_.exit_time_s // INTERVAL_S)].append(pair.transit_s)
    length_m = float(np.median([pair.transit_s for pair in pairs])) * 50.0 / KMH if pairs else 0.0
    left: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for one in everybody:
        if one.camera == link.from_camera:
            left[int(one.exit_s // INTERVAL_S)] += [(to.entry_s - one.exit_s, p) for to, p in table.onward(one)]
    found = []
    for interval, seconds in sorted(true.items()):
        measured = np.array(left.get(interval, [])).reshape(-1, 2)
        if measured[:, 1].sum() >= 1.0:
            mean_s = float(measured[:, 0] @ measured[:, 1] / measured[:, 1].sum())
            found.append((KMH * length_m / float(np.mean(seconds)), KMH * length_m / mean_s))
    return found


def told(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of several runs together. Their intervals' halves add as variances do."""
    lines = []
    for ends in rows[0]["trips"]:
        parts = np.array([row["trips"].get(ends, [0] * 5) for row in rows], np.float64)
        true, confirmed, n = parts[:, :3].sum(axis=0)
        half = float(np.sqrt((((parts[:, 4] - parts[:, 3]) / 2) ** 2).sum()))
        inside = int(((parts[:, 0] >= parts[:, 3]) & (parts[:, 0] <= parts[:, 4])).sum())
        lines.append(
            f"  trips {ends}: {true:.0f}, confirmed {confirmed:.0f} ({_off(confirmed, true)}), expected {n:.1f} "
            f"[{n - half:.1f}, {n + half:.1f}] ({_off(n, true)}); inside in {inside} of {len(rows)} runs"
        )
    true_s, found_s = (np.array([row["travel"][which] for row in rows]).mean(axis=0) for which in ("true", "expected"))
    off = ", ".join(
        f"{name} {_off(b, a)}" for name, a, b in zip(("p10", "median", "p90"), true_s, found_s, strict=True)
    )
    lines.append(f"  travel times: median {true_s[1]:.2f} s, by probability {found_s[1]:.2f} s; {off}")
    both: NDArray[np.float64] = np.array([each for row in rows for each in row["speeds"]]).reshape(-1, 2)
    for low, high in pairwise(BANDS_MPH):
        mph = both[:, 0] / KMH * MPH
        band = both[(mph >= low) & (mph < high)]
        if len(band):
            error = (band[:, 1] - band[:, 0]) / KMH * MPH
            lines.append(f"  {low} to {high} mph: AASE {np.abs(error).mean():.2f} mph, SEB {error.mean():+.2f} mph, "
                         f"{len(band)} intervals")  # fmt: skip
    return lines


def _off(value: float, true: float) -> str:
    return f"{(value - true) / true:+.1%}" if true else f"{value:+.1f}"
