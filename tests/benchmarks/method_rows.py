"""The rows of `methods.py`: a JSON file that grows by whole rows, and its Markdown tables."""

from __future__ import annotations

import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any

from edge_app.contract.whole import whole
from trainer.methods.table import CARDS

Row = dict[str, Any]
NOT_MEASURED = "not measured"
KEYS = ("kind", "method", "seed", "case")  # what makes a row the same measurement


def read(file: Path) -> list[Row]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def add(file: Path, row: Row) -> None:
    """Append a row; the file is the old one or the new one, whenever the program is stopped."""
    rows = [*read(file), row]
    with whole(file) as written:
        written.write((json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())


def has(rows: list[Row], wanted: Row) -> bool:
    """Whether this measurement is there already."""
    return any(all(row.get(key) == wanted.get(key) for key in KEYS) for row in rows)


def spread(values: list[float], digits: int = 1) -> str:
    """Mean ± standard deviation over the seeds; the mean alone of one."""
    if not values:
        return NOT_MEASURED
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def cases(rows: list[Row], kind: str) -> list[dict[str, Any]]:
    """The different cases of one kind, in the order in which they were begun."""
    found: list[dict[str, Any]] = []
    for row in rows:
        if row["kind"] == kind and row["case"] not in found:
            found.append(row["case"])
    return found


def accuracy_table(rows: list[Row], case: dict[str, Any] | None, variants: dict[str, str]) -> list[str]:
    """Lines of Markdown: the start, a row per method, and variants that were run (name → title). Methods that were not
    are named below, or, where nothing was run, in the table."""
    lines = ["| method | mAP | R1 | clusters | minutes | seeds | cameras |", "|---|---|---|---|---|---|---|"]
    chosen = [row for row in rows if row["case"] == case and "after" in row]
    failed = [row["method"] for row in rows if row["case"] == case and "failed" in row]
    start = [row for row in chosen if row["kind"] == "start"]
    scores = [spread([row["after"][name] for row in start]) for name in ("mAP", "R1")]
    lines.append(f"| without adaptation | {' | '.join(scores)} | – | – | – | – |")
    titles = {
        name: f"{card.title} (a reading)" * (card.code == "reading") or card.title for name, card in CARDS.items()
    }
    titles |= {name: title for name, title in variants.items() if any(row["method"] == name for row in chosen)}
    left_out: list[str] = []
    for name, title in titles.items():
        runs = [row for row in chosen if row["method"] == name]
        if chosen and not runs and name not in failed:
            left_out.append(title)
            continue
        scores = [spread([row["after"][score] for row in runs]) for score in ("mAP", "R1")]
        clusters = spread([row["clusters"] for row in runs], 0)
        minutes = spread([row["minutes"] for row in runs])
        seeds = (str(len(runs)) if runs else "–") + f", {failed.count(name)} failed" * (name in failed)
        cameras = CARDS[name].cameras.partition(":")[0] if name in CARDS else ""
        lines.append(f"| {title} | {' | '.join(scores)} | {clusters} | {minutes} | {seeds} | {cameras} |")
        with_term = [row["with_camera_term"] for row in runs if row.get("with_camera_term")]
        if with_term:
            scores = [spread([one[score] for one in with_term]) for score in ("mAP", "R1")]
            lines.append(f"| {title}, camera term at the test | {' | '.join(scores)} | | | | camera numbers at test |")
    return [*lines, "", f"{NOT_MEASURED.capitalize()}: {', '.join(left_out)}."] if left_out else lines


def step_table(rows: list[Row], case: dict[str, Any] | None) -> list[str]:
    """Lines of Markdown: milliseconds of a step, and what they are beside the plain loops and the network alone."""
    lines = [
        "| method | step, ms | plain loops, ms | times faster | own part, ms | times faster | own part / network |",
        "|---|---|---|---|---|---|---|",
    ]
    found = {row["method"]: row for row in rows if row["kind"] == "step" and row["case"] == case}
    for name, card in CARDS.items():
        row = found.get(name)
        if row is None:
            lines.append(f"| {card.title} | {NOT_MEASURED} | | | | | |")
            continue
        times = [f"{1000 * row[key]:.1f}" for key in ("ours_s", "plain_s", "own_s")]
        ratios = [f"{row['ratio']:.2f}", f"{row['own_ratio']:.1f}", f"{row['overhead']:.1%}"]
        cells = (times[0], times[1], ratios[0], times[2], ratios[1], ratios[2])
        lines.append(f"| {card.title} | {' | '.join(cells)} |")
    return lines


def describe(case: dict[str, Any]) -> str:
    """One line for a table's head."""
    parts = {key: value for key, value in case.items() if value not in (None, [], "")}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in parts.items())


def markdown(rows: list[Row], variants: dict[str, str]) -> str:
    """All tables; without rows, empty ones. `variants` are named rows beside the methods."""
    lines: list[str] = []
    accuracy = partial(accuracy_table, variants=variants)
    for kind, table in (("run", accuracy), ("step", step_table)):
        for case in cases(rows, kind) or [None]:
            lines += [describe(case) + ":" if case else NOT_MEASURED.capitalize() + " yet:", "", *table(rows, case), ""]
    return "\n".join(lines).strip()
