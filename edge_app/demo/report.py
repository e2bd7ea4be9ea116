"""What the demo measured: as a dict for summary.json, as tables, and as pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge_app.associate.facts import standing_matches
from edge_app.demo.baselines import baseline_global_cosine
from edge_app.demo.judgement import Judgement, judge
from edge_app.demo.play import Play
from edge_app.demo.received import Mail
from edge_app.demo.score import LinkScore, Score
from edge_app.judge.shares import Share
from edge_app.pictures.album import Album
from edge_app.pictures.sheet import Look, Pair, contact_sheet, pairs_of
from edge_app.pictures.timeline import timeline
from edge_app.types import Tracklet


@dataclass
class Run:
    """What the application did, as far as the demo looked into it."""

    boot_id: str
    cameras: list[str]
    album: Album
    frames: int = 0
    wall_s: float = 0.0  # from the first step to the last frame
    until_s: float = 0.0  # capture time of the last frame
    stopped: bool = False  # before the end of the recordings
    tracklets: list[Tracklet] = field(default_factory=list)
    facts_said: int = 0  # matches and revisions that were written to the outbox
    stage_s: dict[str, float] = field(default_factory=dict)
    engine_s: dict[str, float] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)


def summarise(play: Play, run: Run, mail: Mail, began_s: float) -> tuple[dict[str, Any], Judgement]:
    """Everything in summary.json except versions and broker. Shares of nothing are null."""
    world = play.world()
    span_s = (world.start_s, run.until_s if run.stopped else world.end_s)
    matches = standing_matches(mail.facts())
    judgement = judge(world, run.tracklets, matches, span_s)
    baseline = baseline_global_cosine(world, run.tracklets, span_s=span_s)
    total, other = judgement.score.total, baseline.score.total
    busy_s = sum(run.stage_s.values())
    engines_s = sum(run.engine_s.values())
    confirmed = mail.matches("confirmed")
    summary: dict[str, Any] = {
        "frames": run.frames,
        "fps": _ratio(run.frames, run.wall_s),
        "pipeline_fps": _ratio(run.frames, busy_s),
        "tracklets": len(run.tracklets),
        "messages_received": len(mail.received),
        "messages_by_kind": mail.kinds,
        "messages_repeated": mail.repeats,
        "facts_said": run.facts_said,
        "facts_received": len(mail.facts()),
        "matches_confirmed": len(matches),
        "matches_taken_back": len(confirmed) - len(matches),
        **_shares("link", total),
        "link_seen_recall": _number(total.seen_recall.value),
        **_shares("baseline", other),
        "baseline_threshold": baseline.threshold,
        "baseline_threshold_chosen_with_truth": baseline.oracle,
        "decision_delay_p50_s": _number(judgement.score.decision_delay_p50_s),
        "decision_delay_p95_s": _number(judgement.score.decision_delay_p95_s),
        "delivery_p50_s": _percentile(mail, 50),
        "delivery_p95_s": _percentile(mail, 95),
        "first_match_after_s": round(confirmed[0].received_at_s - began_s, 2) if confirmed else None,
        "outside_engine_share": _number(1 - engines_s / busy_s) if run.engine_s and busy_s else None,
        "busy_s": round(busy_s, 3),
        "engine_s": {name: round(spent, 3) for name, spent in run.engine_s.items()},
        "stage_s": {name: round(spent, 3) for name, spent in run.stage_s.items()},
        "wall_s": round(run.wall_s, 2),
        "links": [{"link": link.link, **_shares("link", link)} for link in judgement.score.links],
        "site": play.site,
        "cameras": run.cameras,
        "seed": play.seed,
        "difficulty": play.difficulty,
        "seconds": play.seconds,
        "stopped_after_s": round(run.until_s - world.start_s, 1) if run.stopped else None,
        "fidelity": play.fidelity,
        "models": run.models,
    }
    return summary, judgement


def print_opening(play: Play, cameras: list[str], address: str, own_broker: bool) -> None:
    lines = Text.assemble(
        (f"{len(cameras)} simulated cameras  ", "bold"),
        ("  ".join(cameras), "cyan"),
        (f"\n{play.seconds:g} s of traffic, as fast as this machine can; seed {play.seed}, ", "default"),
        (f"difficulty {play.difficulty:g}\n", "default"),
        ("embedded broker at " if own_broker else "broker at ", "default"),
        (address, "cyan"),
        ("; below is what an independent subscriber receives from it", "default"),
    )
    Console(highlight=False).print(Panel(lines, title="[bold]Crosslane[/]", border_style="dim", expand=False))


def print_report(summary: dict[str, Any], score: Score) -> None:
    console = Console(highlight=False)
    facts = Table(title="What happened", title_justify="left", title_style="bold", show_header=False, box=None)
    facts.add_column(style="dim")
    facts.add_column(justify="right", style="bold")
    facts.add_column(style="dim")
    for row in _fact_rows(summary):
        facts.add_row(*row)
    links = Table(title="How good it was", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    links.add_column("", style="bold")
    for name in ("precision", "recall"):
        links.add_column(name, justify="right")
        links.add_column("95 %", style="dim")
        links.add_column("", style="dim", justify="right")
    links.add_row("one cosine threshold", *_baseline_cells(summary), style="yellow")
    links.add_row("Crosslane", *_share_cells(score.total), style="green")
    for link in score.links:
        links.add_row(f"  {link.link.replace('--', ' → ')}", *_share_cells(link))
    console.print()
    console.print(facts)
    console.print()
    console.print(links)


def _fact_rows(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    lost = summary["facts_said"] - summary["facts_received"]
    share = summary["outside_engine_share"]
    return [
        (
            "frames processed",
            f"{summary['frames']}",
            f"{_words(summary['fps'], '{:.0f}')} per second, as the clock on the wall goes",
        ),
        ("pipeline alone", f"{_words(summary['pipeline_fps'], '{:.0f}')}", "frames per second of its own busy time"),
        ("outside the engines", _words(share, "{:.1%}"), "of that busy time"),
        ("tracklets", f"{summary['tracklets']}", "passages of single cameras"),
        (
            "messages received",
            f"{summary['messages_received']}",
            f"{lost} facts lost, {summary['messages_repeated']} repeats",
        ),
        (
            "matches confirmed",
            f"{summary['matches_confirmed']}",
            f"{summary['matches_taken_back']} more were taken back",
        ),
        (
            "decided after",
            _words(summary["decision_delay_p50_s"], "{:.1f} s"),
            "median, after the entry at the second camera",
        ),
        ("", _words(summary["decision_delay_p95_s"], "{:.1f} s"), "95th percentile"),
        ("first match", _words(summary["first_match_after_s"], "{:.1f} s"), "after the demo was started"),
    ]


def _baseline_cells(summary: dict[str, Any]) -> list[str]:
    cells = []
    for name in ("precision", "recall"):
        hits, count = summary[f"baseline_{name}_counts"]
        cells += _cells(Share(hits, count))
    return cells


def _share_cells(link: LinkScore) -> list[str]:
    return _cells(link.precision) + _cells(link.recall)


def _cells(share: Share) -> list[str]:
    if not share.count:
        return ["–", "", "0/0"]
    low, high = share.interval
    return [f"{share.value:.3f}", f"{low:.2f}–{high:.2f}", f"{share.hits}/{share.count}"]


def draw(out: Path, summary: dict[str, Any], run: Run, mail: Mail, judgement: Judgement) -> None:
    """matches.png and timeline.png."""
    matches = standing_matches(mail.facts())
    pairs = pairs_of(matches, run.album, judgement.verdicts) + _missed_pairs(run, judgement.missed)
    seconds = summary["stopped_after_s"] or summary["seconds"]
    line = f"simulated {summary['site']}, {len(run.cameras)} cameras, seed {summary['seed']}, {seconds:g} s"
    score = (
        f"{len(matches)} confirmed · precision {_words(summary['link_precision'], '{:.3f}')} · "
        f"recall {_words(summary['link_recall'], '{:.3f}')}"
    )
    contact_sheet(pairs, out / "matches.png", "The same vehicle, on the next camera", f"{score} · {line}")
    timeline(
        out / "timeline.png",
        run.cameras,
        run.tracklets,
        matches,
        verdicts=judgement.verdicts,
        missed=judgement.missed,
        title="Who went where",
        subtitle=f"{score} · {line}",
    )


def _missed_pairs(run: Run, missed: list[tuple[str, str]]) -> list[Pair]:
    tracklets = {tracklet.id: tracklet for tracklet in run.tracklets}
    pairs = []
    for ends in missed:
        first, second = (tracklets[track] for track in ends)
        looks = (
            Look(first.camera, first.exit_time_s, run.album.picture(first.id)),
            Look(second.camera, second.entry_time_s, run.album.picture(second.id)),
        )
        pairs.append(Pair(*looks, class_name=second.class_name, verdict="missed"))
    return pairs


def _shares(name: str, link: LinkScore) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for what, share in (("precision", link.precision), ("recall", link.recall)):
        found[f"{name}_{what}"] = _number(share.value)
        found[f"{name}_{what}_interval"] = [round(bound, 4) for bound in share.interval]
        found[f"{name}_{what}_counts"] = [share.hits, share.count]
    return found


def _percentile(mail: Mail, percent: float) -> float | None:
    """From handing a message to the broker until the subscriber had it, by the clock of this machine."""
    delays = [each.received_at_s - each.message.published_at_s for each in mail.received]
    return _number(float(np.percentile(delays, percent))) if delays else None


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _ratio(count: float, by: float) -> float | None:
    return round(count / by, 2) if by else None


def _words(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
