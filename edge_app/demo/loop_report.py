"""What the loop tells: a line for every stage with its numbers, a table at the end, summary.json and pictures."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from edge_app.demo.loop_sites import Embedder, Folders
from edge_app.demo.play import Play
from edge_app.demo.score import LinkScore
from edge_app.judge.shares import Share
from edge_app.pictures import style

NAMES = {
    "before": "generic, as the site began",
    "after": "adapted by the site, no labels",
    "labelled": "trained with labels",
}
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What came to the store."""

    shards: int
    crops: int
    passages: int
    bytes: int

    def __str__(self) -> str:
        size = f"{self.shards} shards, {self.bytes / 1e6:.1f} MB"
        return f"{self.crops} crops of {self.passages} passages are at the store, in {size}"


@dataclass(frozen=True, slots=True)
class Loop:
    """The trainer's round, and the embedder that it made; None where the model in force stays."""

    round: dict[str, Any]
    after: Embedder | None
    gate: dict[str, Any]  # what the site's file says of it
    strict: dict[str, Any]  # the verdict by a real site's bounds; empty where nothing was trained

    def __str__(self) -> str:
        done = self.round["done"]
        chosen, clusters = done.get("choose", {}), done.get("cluster", {})
        lines = [
            f"learned from {chosen.get('crops', 0)} crops of {chosen.get('passages', 0)} passages, judged by "
            f"{chosen.get('judged_passages', 0)} passages that were not learned from",
            f"{clusters.get('clusters', 0)} clusters at first",
        ]
        judged = done.get("judge", {})
        if self.after is not None:  # why not otherwise is the round's reason
            lines += [f"gate: {one['name']} {one['outcome']}: {one['sentence']}" for one in judged["measures"]]
        lines += [f"gate: {note}" for note in judged.get("notes", ())]
        lines.append(
            f"gate, as the site's file asks: {', '.join(f'{name} {value}' for name, value in self.gate.items())}"
        )
        if self.strict:
            lines.append(f"gate, by a real site's bounds: {self.strict['sentence']}")
        if self.after is None:
            lines.append(f"the model in force stays: {self.round['reason']}")
        elif bundle := done.get("export"):
            lines.append(f"signed bundle: {bundle['precision']}, {bundle['bytes'] / 1e6:.1f} MB")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Judged:
    """One embedder on the judged traffic; the ceiling is that of its own tracklets."""

    score: LinkScore
    ceiling: LinkScore
    facts_said: int
    facts_received: int
    repeats: int

    def __str__(self) -> str:
        return f"precision {self.score.precision}, recall {self.score.recall}"


class Report:
    """Says it as it happens."""

    def __init__(self, headless: bool) -> None:
        self._console = Console(highlight=False, force_terminal=False if headless else None)

    def opening(self, play: Play, sessions: int, learn_s: float) -> None:
        self._say(
            f"[bold]Crosslane: a site that learns from its own crops[/]  town, seed {play.seed}, "
            f"{sessions} × {learn_s:g} s of traffic to learn from, {play.seconds:g} s of other traffic to judge by"
        )

    def stage(self, name: str, work: Callable[[], Found]) -> Found:
        """Does the work of a stage; says its name, what came of it, and how long it took."""
        began_s = time.monotonic()
        self._say(f"[cyan]{STAGES[name]}[/]")
        found = work()
        for line in str(found).split("\n"):
            self._console.print(f"  {line}", markup=False, soft_wrap=True)
        self._console.print(f"  {time.monotonic() - began_s:.0f} s", style="dim")
        return found

    def trainer_says(self, line: str) -> None:
        self._console.print(f"  trainer: {line}", style="dim", markup=False, soft_wrap=True)

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    def end(
        self, play: Play, uploaded: Uploaded, loop: Loop, judged: dict[str, Judged], spent: tuple[float, float]
    ) -> dict[str, Any]:
        """The table, and everything for summary.json."""
        summary = summarise(play, uploaded, loop, judged, spent)
        table = Table(title="What the loop was worth", title_justify="left", title_style="bold", box=None)
        for name in ("", "precision", "", "recall", ""):
            table.add_column(name, justify="right" if name else "left")
        for name, one in judged.items():
            cells = [f"{value:.3f}|{hits}/{count}" for share in (one.score.precision, one.score.recall)
                     for value, hits, count in [(share.value, share.hits, share.count)]]  # fmt: skip
            table.add_row(NAMES[name], *(part for cell in cells for part in cell.split("|")))
        self._console.print()
        self._console.print(table)
        gained = summary["gained_share"]
        self._say(
            f"of what labels would gain, the site gained {'–' if gained is None else f'{gained:.0%}'} without any; "
            f"{summary['facts_lost']} facts lost, {summary['facts_doubled']} doubled; {summary['seconds']:.0f} s, "
            f"{summary['cpu_seconds']:.0f} s of processor time"
        )
        return summary

    def write(self, out: Path, summary: dict[str, Any], folders: Folders) -> None:
        """summary.json, loop.png, and the trainer's page for the site's owner."""
        (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        draw(out / "loop.png", summary)
        written = [out / "summary.json", out / "loop.png"]
        for page in sorted(folders.trainer.glob("town/rounds/*/report/index.html"))[-1:]:
            shutil.copyfile(page, out / "adaptation.html")
            written.append(out / "adaptation.html")
        for path in written:
            self._console.print(str(path), markup=False, soft_wrap=True)


STAGES = {
    "collect": "1  the node runs with the generic embedder, and its crops go up",
    "adapt": "2  the trainer takes them in, learns, and judges itself",
    "before": "3  other traffic, with the generic embedder",
    "after": "4  the same traffic, with the site's own bundle",
    "labelled": "5  the same traffic, with the embedder that was trained with labels",
}


def summarise(
    play: Play, uploaded: Uploaded, loop: Loop, judged: dict[str, Judged], spent: tuple[float, float]
) -> dict[str, Any]:
    """Shares of nothing are null."""
    found: dict[str, Any] = {}
    for what in ("recall", "precision"):
        for name, one in judged.items():
            share: Share = getattr(one.score, what)
            found[f"{what}_{name}"] = _number(share.value)
            found[f"{what}_{name}_counts"] = [share.hits, share.count]
            ceiling: Share = getattr(one.ceiling, what)
            found[f"ceiling_{what}_{name}_counts"] = [ceiling.hits, ceiling.count]
    runs = {id(one): one for one in judged.values()}.values()  # where nothing was accepted, after is before
    done = loop.round["done"]
    return {
        **found,
        "gained_share": gained_share(*(judged[name].score.recall for name in ("before", "after", "labelled"))),
        "facts_lost": sum(one.facts_said - one.facts_received for one in runs),
        "facts_doubled": sum(one.repeats for one in runs),
        "seconds": round(spent[0], 1),
        "cpu_seconds": round(spent[1], 1),
        "decision": loop.round["decision"],
        "reason": loop.round["reason"],
        "crops": uploaded.crops,
        "passages": uploaded.passages,
        "crops_trained": done.get("choose", {}).get("crops", 0),
        "passages_judged": done.get("choose", {}).get("judged_passages", 0),
        "clusters": done.get("cluster", {}).get("clusters"),
        "gate": done.get("judge", {}),
        "gate_settings": loop.gate,
        "gate_by_default_bounds": loop.strict,
        "bundle": done.get("export", {}),
        "seed": play.seed,
        "difficulty": play.difficulty,
        "fps": play.fps,
    }


def gained_share(before: Share, after: Share, labelled: Share) -> float | None:
    """(after − before) / (labelled − before); None where labels gain nothing."""
    room = labelled.value - before.value
    return _number((after.value - before.value) / room) if room > 0 else None


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def draw(path: Path, summary: dict[str, Any]) -> None:
    """Recall and precision of the three as bars. Raises StoreError."""
    figure, axes = style.pixel_canvas(900, 420)
    style.write(axes, (40, 52), "A site that learns from its own crops", 28, weight="bold")
    said = (
        f"simulated town, seed {summary['seed']}; {summary['crops']} crops, {summary['clusters']} clusters, no labels"
    )
    style.write(axes, (40, 82), f"{said}; on traffic that made no crops", 15, style.MUTED)
    colours = {"before": style.MISSED, "after": style.RIGHT, "labelled": style.NEUTRAL}
    for column, what in enumerate(("recall", "precision")):
        left = 40 + 430 * column
        style.write(axes, (left, 130), what, 18, style.MUTED)
        for row, (name, colour) in enumerate(colours.items()):
            value, y = summary[f"{what}_{name}"] or 0.0, 160 + 80 * row
            axes.barh(y + 22, 390, 30, left=left, color=style.PANEL)
            axes.barh(y + 22, 390 * value, 30, left=left, color=colour)
            hits, count = summary[f"{what}_{name}_counts"]
            style.write(axes, (left, y), f"{NAMES[name]}   {value:.3f}  ({hits}/{count})", 14)
    style.save(figure, path)
