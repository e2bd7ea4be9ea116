"""How good are the matches, given the truth: precision and recall per directed link, with their uncertainty.

Definitions
    predicted     a confirmed match that no later fact took back
    correct       the two tracklets are a true link's two passages (same vehicle, consecutive, along the link)
    precision     correct / predicted
    recall        distinct true links found / true links whose two passages lie wholly inside the observed time
    seen recall   the same, only over true links whose two passages both became tracklets: what the association
                  could have found, given the detector and the tracker
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_app.judge.shares import Share
from edge_app.judge.truth import most_shown
from edge_app.simulation.detections import best_overlap
from edge_app.simulation.traffic import Passage, TrueLink
from edge_app.simulation.world import World
from edge_app.types import Floats, Tracklet


@dataclass(frozen=True, slots=True)
class LinkScore:
    """The score of one directed link, or of all together."""

    link: str
    precision: Share
    recall: Share
    seen_recall: Share


@dataclass(frozen=True, slots=True)
class Score:
    """The score of a run."""

    total: LinkScore
    links: tuple[LinkScore, ...]
    decision_delay_p50_s: float  # nan without a match
    decision_delay_p95_s: float
    wrong: tuple[tuple[str, str], ...] = field(repr=False)  # (from tracklet, to tracklet) of each wrong match


def passage_of(world: World, tracklet: Tracklet) -> Passage | None:
    """The passage that most path points show (IoU ≥ 0.3), None when the majority shows nothing."""

    def at(time_s: float, box: Floats) -> Passage | None:
        truth = world.visible(tracklet.camera, time_s)
        best = best_overlap(box, truth)
        return None if best is None else truth.passages[best]

    return most_shown(tracklet, at)


def passages_of(world: World, tracklets: Iterable[Tracklet]) -> dict[str, Passage | None]:
    """Tracklet id → the true passage it shows."""
    return {tracklet.id: passage_of(world, tracklet) for tracklet in tracklets}


def score_pairs(
    world: World,
    shown: dict[str, Passage | None],
    pairs: Sequence[tuple[str, str]],
    delays_s: Sequence[float] = (),
    span_s: tuple[float, float] | None = None,
) -> Score:
    """Score (from tracklet, to tracklet) pairs, with `shown` from `passages_of`.

    Raises ValueError for a pair whose tracklets are not in `shown`.
    """
    missing = {track for pair in pairs for track in pair if track not in shown}
    if missing:
        raise ValueError(f"matches name {len(missing)} tracklets that were not given, such as {min(missing)!r}")
    begin, end = span_s or (world.start_s, world.end_s)
    links = world.true_links()
    whole = [link for link in links if begin <= link.from_.entry_time_s and link.to.exit_time_s <= end]
    true = {(link.from_, link.to) for link in links}
    ends = [(shown[first], shown[second]) for first, second in pairs]
    names = [None, *(f"{link.from_}--{link.to}" for link in world.links)]
    rows = [_link_score(name, ends, true, whole, set(shown.values())) for name in names]
    delays = np.array(delays_s, np.float64)
    p50, p95 = np.percentile(delays, [50, 95]) if len(delays) else (math.nan, math.nan)
    wrong = tuple(pair for pair, passages in zip(pairs, ends, strict=True) if passages not in true)
    return Score(rows[0], tuple(rows[1:]), float(p50), float(p95), wrong)


def _link_score(
    name: str | None,
    ends: list[tuple[Passage | None, Passage | None]],
    true: set[tuple[Passage, Passage]],
    whole: list[TrueLink],
    seen: set[Passage | None],
) -> LinkScore:
    """The row of one link, or of all when `name` is None. A match of nothing counts in the total's precision only."""

    def belongs(first: Passage | None, second: Passage | None) -> bool:
        return name is None or (first is not None and second is not None and f"{first.camera}--{second.camera}" == name)

    predicted = [pair for pair in ends if belongs(*pair)]
    correct = [pair for pair in predicted if pair in true]
    wanted = {(link.from_, link.to) for link in whole if belongs(link.from_, link.to)}
    found = wanted & set(correct)
    possible = {pair for pair in wanted if pair[0] in seen and pair[1] in seen}
    return LinkScore(
        name or "all",
        Share(len(correct), len(predicted)),
        Share(len(found), len(wanted)),
        Share(len(found & possible), len(possible)),
    )
