"""Each match beside the truth: which are right, which are wrong, and which are missing. For pictures and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge_app.associate.facts import Match
from edge_app.demo.score import Score, passages_of, score_pairs
from edge_app.simulation.traffic import Passage
from edge_app.simulation.world import World
from edge_app.types import Tracklet

Ends = tuple[str, str]  # from tracklet, to tracklet


@dataclass(frozen=True)
class Judgement:
    """`missed` are pairs of tracklets that show a true link which no match found; it counts in `score` too."""

    score: Score
    verdicts: dict[Ends, Literal["right", "wrong"]]
    missed: list[Ends]


def judge(
    world: World, tracklets: Sequence[Tracklet], matches: Sequence[Match], span_s: tuple[float, float]
) -> Judgement:
    """`matches` are those that stand. Raises ValueError when one names a tracklet that was not given."""
    shown = passages_of(world, tracklets)
    pairs = [(match.from_.track, match.to.track) for match in matches]
    score = score_pairs(world, shown, pairs, [match.decision_delay_s for match in matches], span_s)
    wrong = set(score.wrong)
    found = {(shown[first], shown[second]) for first, second in pairs}
    tracks = _tracks_by_passage(tracklets, shown)
    missed = [
        (tracks[link.from_], tracks[link.to])
        for link in world.true_links()
        if span_s[0] <= link.from_.entry_time_s
        and link.to.exit_time_s <= span_s[1]
        and link.from_ in tracks
        and link.to in tracks
        and (link.from_, link.to) not in found
    ]
    return Judgement(score, {pair: "wrong" if pair in wrong else "right" for pair in pairs}, missed)


def _tracks_by_passage(tracklets: Sequence[Tracklet], shown: dict[str, Passage | None]) -> dict[Passage, str]:
    """The tracklet that shows most of each passage."""
    best: dict[Passage, Tracklet] = {}
    for tracklet in tracklets:
        passage = shown[tracklet.id]
        if passage is not None and (passage not in best or _length_s(tracklet) > _length_s(best[passage])):
            best[passage] = tracklet
    return {passage: tracklet.id for passage, tracklet in best.items()}


def _length_s(tracklet: Tracklet) -> float:
    return tracklet.exit_time_s - tracklet.entry_time_s
