"""What `edge.py` measures, one function per kind of case; plain values out."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from real_clips import clip_config, first_of_terrace

from edge_app import app
from edge_app.associate import online
from edge_app.associate.draft import Rules
from edge_app.associate.facts import Fact, Match, Revision, Unmatched, standing_matches
from edge_app.associate.settings import AssociateSettings
from edge_app.associate.state import State
from edge_app.config import Site
from edge_app.contract.envelope import uuid7
from edge_app.demo.baselines import baseline_global_cosine, ceiling_hungarian
from edge_app.demo.play import Play, site_config
from edge_app.demo.score import LinkScore, passages_of, score_pairs
from edge_app.simulation.tracklets import simulated_tracklets
from edge_app.simulation.world import World
from edge_app.types import Tracklet

CURVE_SECONDS = 600.0
SCALE_SECONDS = 300.0
THRESHOLDS = ((0.9, 0.5001), (0.95, 0.7), (0.97, 0.85), (0.98, 0.9), (0.99, 0.95), (0.998, 0.99))
STEP_S, LAG_S = 0.5, 1.0  # of the association without a pipeline: a tracklet is known a second after its exit


@dataclass
class Run:
    """What one run said and what it cost."""

    tracklets: list[Tracklet] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    speed: dict[str, Any] = field(default_factory=dict)


def run_node(config: Site, prepare: Callable[[app.Node], None] = lambda _: None) -> Run:
    """The whole application without a broker, as fast as it can. `prepare` is done to the opened node."""
    run, frames = Run(), 0
    with app.Node(config, lineage="benchmark") as node:
        prepare(node)
        engines = [part.engine for part in (node.detector, node.embedder) if hasattr(part, "engine")]
        before_s, began_s = sum(engine.busy_s for engine in engines), time.perf_counter()
        for step in node.steps(threading.Event()):
            frames += len(step.frames)
            run.tracklets += step.tracklets
            run.facts += step.facts
        wall_s = time.perf_counter() - began_s
        engine_s, busy_s = sum(engine.busy_s for engine in engines) - before_s, node.meter.busy_s
        app.raise_for(node.failed_cameras())
        run.speed = {
            "frames": frames,
            "fps": frames / wall_s,
            "pipeline_fps": frames / busy_s,
            "outside_engine_share": 1 - engine_s / busy_s if engines else None,
            "stage_ms_per_frame": {name: 1000 * spent / frames for name, spent in node.meter.total.items()},
            "engine_ms_per_frame": 1000 * engine_s / frames if engines else None,
        }
    return run


def play(seed: int, fidelity: str, seconds: float, difficulty: float) -> dict[str, Any]:
    """The demo's measurement: the town, judged by the truth."""
    settings = Play("town", seed, difficulty, seconds, fidelity)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as scratch:
        run = run_node(site_config(settings, Path(scratch) / "benchmark.db"))
    world = settings.world()
    return {**run.speed, **judged(world, run), "statements": statements(world, run)}


def judged(world: World, run: Run) -> dict[str, Any]:
    """Score, baseline and ceiling of the same tracklets, delays, revisions, travel times."""
    matches, shown = standing_matches(run.facts), passages_of(world, run.tracklets)
    pairs = [(match.from_.track, match.to.track) for match in matches]
    score = score_pairs(world, shown, pairs)
    delays = [match.decision_delay_s for match in matches]
    confirmed = {f.event_id for f in run.facts if isinstance(f, Match) and f.state == "confirmed"}
    revised = {e for f in run.facts if isinstance(f, Revision) for e in f.revises if e in confirmed}
    return {
        "tracklets": len(run.tracklets),
        "confirmed": len(confirmed),
        "revised": len(revised),
        "crosslane": counts(score.total),
        "baseline": counts(baseline_global_cosine(world, run.tracklets).score.total),
        "ceiling": counts(ceiling_hungarian(world, run.tracklets).total),
        "delays_s": [round(delay, 3) for delay in delays],
        "travel_time_errors_s": travel_time_errors(world, run, matches),
    }


def counts(link: LinkScore) -> dict[str, list[int]]:
    shares = {"precision": link.precision, "recall": link.recall, "seen_recall": link.seen_recall}
    return {name: [share.hits, share.count] for name, share in shares.items()}


def travel_time_errors(world: World, run: Run, matches: list[Match]) -> list[float]:
    """By link: median transit of the matches against the median of all that really happened and were seen, absolute.

    Both by the tracklets' own times: a vehicle is seen a little after it entered and until a little before it left.
    """
    tracklet = {
        passage: one for one, passage in zip(run.tracklets, passages_of(world, run.tracklets).values(), strict=True)
    }
    errors = []
    for link in sorted({match.link for match in matches}):
        found = [match.transit_s for match in matches if match.link == link]
        true = [
            tracklet[one.to].entry_time_s - tracklet[one.from_].exit_time_s
            for one in world.true_links()
            if one.link == link and one.from_ in tracklet and one.to in tracklet
        ]
        if true:
            errors.append(abs(float(np.median(found) - np.median(true))))
    return errors


def statements(world: World, run: Run) -> list[list[float]]:
    """[probability, 1 or 0] of everything said: provisional and confirmed matches, and "no match"."""
    shown = passages_of(world, run.tracklets)
    true = {(link.from_, link.to) for link in world.true_links()}
    continued = {to for from_, to in true if from_ in set(shown.values())}
    said = []
    for fact in run.facts:
        if isinstance(fact, Match):
            said.append([fact.posterior, float((shown[fact.from_.track], shown[fact.to.track]) in true)])
        elif isinstance(fact, Unmatched):
            said.append([fact.posterior, float(shown[fact.to.track] not in continued)])
    return said


def clip(name: str, data: Path) -> dict[str, Any]:
    """A recording: nobody knows the truth, so how fast, how many, and how sure."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        first = name == "terrace-first"
        run = run_node(first_of_terrace(data, folder) if first else clip_config(name, data, folder / "clip.db"))
    matches = standing_matches(run.facts)
    durations = [tracklet.exit_time_s - tracklet.entry_time_s for tracklet in run.tracklets]
    return {
        **run.speed,
        "tracklets": len(run.tracklets),
        "without_embedding": sum(not len(tracklet.embeddings) for tracklet in run.tracklets),
        "duration_p50_s": float(np.median(durations)),
        "classes": dict(Counter(tracklet.class_name for tracklet in run.tracklets)),
        "matches_by_link": dict(Counter(match.link for match in matches)),
        "delays_s": [match.decision_delay_s for match in matches],
    }


def curve(seeds: list[int], confirm: float, accept: float) -> dict[str, Any]:
    """Ten minutes of the town per seed, as tracklets, with other thresholds."""
    settings = AssociateSettings(confirm_posterior=confirm, accept_posterior=accept)
    results = []
    for seed in seeds:
        world = World("town", seed=seed, seconds=CURVE_SECONDS)
        run, _ = associate(world, settings)
        results.append({**judged_matches(world, run), "statements": statements(world, run)})
    return {"seeds": results}


def judged_matches(world: World, run: Run) -> dict[str, Any]:
    matches = standing_matches(run.facts)
    pairs = [(match.from_.track, match.to.track) for match in matches]
    score = score_pairs(world, passages_of(world, run.tracklets), pairs)
    return {"crosslane": counts(score.total), "delays_s": [round(match.decision_delay_s, 3) for match in matches]}


def scale(cameras: int) -> dict[str, Any]:
    """Cost of the association alone on a grid of cameras with the same traffic each."""
    world = World(f"grid-{cameras}", seed=1, seconds=SCALE_SECONDS)
    run, cost = associate(world, AssociateSettings())
    half = len(cost) // 2  # the first half fills the site
    spent = np.array([[step["seconds"], step["arrivals"], step["open"]] for step in cost[half:]])
    return {
        "tracklets": len(run.tracklets),
        "open_tracklets": float(spent[:, 2].mean()),
        "ms_per_tracklet": float(1000 * spent[:, 0].sum() / max(spent[:, 1].sum(), 1)),
        "step_p95_ms": float(1000 * np.percentile(spent[:, 0], 95)),
        **judged_matches(world, run),
    }


def associate(world: World, settings: AssociateSettings) -> tuple[Run, list[dict[str, float]]]:
    """The simulation's tracklets through the association alone; and what each step cost."""
    tracklets, _ = simulated_tracklets(world, "edge-1")
    config = site_config(Play(world.site.name, world.demand.seed), Path("unused.db"))
    rules = Rules("edge-1", "1", config.links, settings, lambda time_s, content: uuid7(time_s, content.encode()))
    state, run, cost = State(), Run(tracklets), []
    for now, arrivals in arriving(tracklets, world):
        watermarks = {camera.id: now - LAG_S for camera in world.cameras}
        began_s = time.process_time()
        state, facts = online.step(state, arrivals, now, watermarks, rules)
        spent_s = time.process_time() - began_s
        cost.append({"seconds": spent_s, "arrivals": float(len(arrivals)), "open": float(len(state.passages))})
        run.facts += facts
    return run, cost


def arriving(tracklets: list[Tracklet], world: World) -> Iterator[tuple[float, list[Tracklet]]]:
    """Steps of half a second, and two minutes at the end in which everything is decided."""
    waiting = sorted(tracklets, key=lambda tracklet: tracklet.exit_time_s)
    place = 0
    for now in np.arange(world.start_s, world.end_s + 120.0, STEP_S):
        first = place
        while place < len(waiting) and waiting[place].exit_time_s + LAG_S <= now:
            place += 1
        yield float(now), waiting[first:place]
