"""How many matches are wrong, without a truth: the association is asked about meetings that cannot have happened.

    T   matches confirmed on the passages as they were
    K   matches confirmed after the cameras' clocks were moved against each other by more than 2 · max_s of every link:
        nobody who left one camera can be among those who now enter the next in time, so all K are wrong
    wrong among the T:   at most K / T,   about F / T with F = K (N − T) / (N − K)

Wrong matches among the T meet by the same chance as those among the K, but compete with the right ones, so K / T is an
upper bound, the looser the denser the traffic. F leaves out of N, the passages that a link leads to, those that were
matched rightly, T − F of them: they are not wrong too, while among the decoys nobody is right. One in K / N of the
others is then wrong, F = K / N · (N − T + F). Over the twelve worlds of
tests/edge_app/associate/test_decoys.py (-m long) with 1006 matches K is 111, F 26, wrong are 21.

Time is moved round inside each period, so that as many meet as before and traffic keeps its hours.

What was learned is frozen for both counts: learned from the true times first, it says how alike one vehicle and two are
and how long a link takes. Else the decoys would teach themselves.

Related: the target-decoy estimate of proteomics, Elias and Gygi, "Target-decoy search strategy for increased confidence
in large-scale protein identifications by mass spectrometry", Nature Methods 4 (2007).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_app.associate import online
from edge_app.associate.draft import Rules
from edge_app.associate.facts import Fact, standing_matches
from edge_app.associate.settings import PREFERENCES, AssociateSettings, LinkSettings, SimilarityPrior, TransitSettings
from edge_app.associate.state import State
from edge_app.contract.similarity import Certain
from edge_app.types import Floats, Tracklet

MOVED = 2.1  # times the longest max_s, against the camera at the other end of each link
TICK_S = 2.0  # of capture time from one step of the association to the next, while something is undecided
LEAST_STD = 0.02  # of a prior: two bins of the calibration

Period = tuple[float, float]  # capture times of its begin and end


@dataclass(frozen=True, slots=True)
class Visit:
    """A passage as far as the association asks."""

    id: str
    camera: str
    class_name: str
    entered_at_s: float
    left_at_s: float
    embeddings: Floats  # (M, D) float32, unit rows


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the two counts came to."""

    matches: tuple[tuple[str, str], ...]  # the T, by id: who left, who entered
    decoy: int  # K
    entries: int  # N, passages that a link leads to
    passages: int
    left_out: int  # passages in periods too short to be moved, or in none
    sure: tuple[float, ...] = ()  # posteriors of the T
    decoys_sure: tuple[float, ...] = ()  # posteriors of the K

    def at(self, least: float) -> Estimate:
        """Of the matches that are at least so probable."""
        kept = tuple(match for match, p in zip(self.matches, self.sure, strict=True) if p >= least)
        return replace(self, matches=kept, decoy=sum(p >= least for p in self.decoys_sure), sure=(), decoys_sure=())

    @property
    def target(self) -> int:
        """T"""
        return len(self.matches)

    @property
    def decoy_share(self) -> float:
        """K / T, the bound; 1 where nothing was confirmed: nothing is known to be right."""
        return self.decoy / self.target if self.target else 1.0

    @property
    def wrong_share(self) -> float:
        """F / T, the estimate, not above K / T."""
        if not self.target or self.decoy >= self.entries:
            return 1.0
        newcomers = self.decoy * (self.entries - self.target) / (self.entries - self.decoy)
        return min(newcomers / self.target, self.decoy_share)


def link(from_camera: str, to_camera: str, min_s: float, max_s: float) -> LinkSettings:
    """A way between two cameras, for those who have no configuration of a node."""
    return LinkSettings(from_camera=from_camera, to_camera=to_camera, transit=TransitSettings(min_s=min_s, max_s=max_s))


def estimate_visits(
    visits: Sequence[Visit], links: Sequence[LinkSettings], pairs: Certain, periods: Sequence[Period]
) -> Estimate:
    """`estimate` of matches that are nearly sure, with a prior fitted to this embedder: embedders differ in scale, and
    another's prior would favour those that are like it. `pairs`: what is certain among the visits."""
    settings = AssociateSettings(similarity=prior_of(pairs), prefer="precision")
    return estimate([_tracklet(visit) for visit in visits], links, settings, periods)


def prior_of(pairs: Certain) -> SimilarityPrior:
    """Where the calibration starts: impostors as they are; one vehicle somewhere between them and a track's own thirds,
    since on a link it is less alike than itself a moment later, by how much is not known yet."""
    default = SimilarityPrior()
    if not len(pairs.genuine) or not len(pairs.impostor):
        return default
    high, low = float(pairs.genuine.mean()), float(pairs.impostor.mean())
    wide = max(high - low, 0.0) / 3
    return default.model_copy(
        update={
            "genuine_mean": high - wide,
            "genuine_std": max(float(pairs.genuine.std()), wide, LEAST_STD),
            "impostor_mean": low,
            "impostor_std": max(float(pairs.impostor.std()), LEAST_STD),
        }
    )


def estimate(
    tracklets: Sequence[Tracklet],
    links: Sequence[LinkSettings],
    settings: AssociateSettings,
    periods: Sequence[Period],
) -> Estimate:
    """Three runs of the association over the tracklets of one embedder: one that learns, T, K.

    `periods` do not overlap; each should hold whole traffic. One that is shorter than its cameras are moved is left
    out of all three. Cost: that of three replays of the association.
    """
    rules = Rules("decoys", "1", tuple(links), settings, lambda time_s, content: f"{time_s!r}|{content}")
    moves, least_s = _moves(links), least_period_s(links)
    long = sorted(period for period in periods if period[1] - period[0] > least_s)
    kept = [(tracklet, found) for tracklet in tracklets if (found := _period_of(tracklet, long)) is not None]
    true = [tracklet for tracklet, _ in kept]
    moved = [_moved(tracklet, moves.get(tracklet.camera, 0.0), period) for tracklet, period in kept]
    learned, _ = _play(true, rules, State())
    target, decoy = (standing_matches(_play(each, rules, learned, frozen=True)[1]) for each in (true, moved))
    matches = tuple((match.from_.track, match.to.track) for match in target)
    entries = sum(tracklet.camera in rules.into for tracklet in true)
    sure, decoys_sure = (tuple(match.posterior for match in each) for each in (target, decoy))
    return Estimate(matches, len(decoy), entries, len(true), len(tracklets) - len(true), sure, decoys_sure)


def least_period_s(links: Sequence[LinkSettings]) -> float:
    """A period must be longer: everybody is moved out of every link's time, and not back into it round the end."""
    return max(_moves(links).values(), default=0.0) + 2.0 * _longest_s(links)


def told(tracklets: Sequence[Tracklet], links: Sequence[LinkSettings], settings: AssociateSettings) -> list[str]:
    """What a recording says of its own precision, in a line; nothing where nothing can match."""
    if not links or not tracklets:
        return []
    period = min(one.entry_time_s for one in tracklets), max(one.exit_time_s for one in tracklets)
    if period[1] - period[0] <= (least_s := least_period_s(links)):
        return [
            f"how many matches are wrong can be told without a truth from {least_s:.0f} s on, not from this recording"
        ]
    found = estimate(tracklets, links, settings, [period])
    if not found.target:
        return []
    return [
        f"without a truth: about {found.wrong_share:.1%} of the matches are wrong, {found.decoy_share:.1%} at most; "
        f"{found.decoy} were confirmed among meetings that cannot have happened, {found.target} among those that can",
        *_curve(tracklets, links, settings, period),
    ]


def _curve(
    tracklets: Sequence[Tracklet], links: Sequence[LinkSettings], settings: AssociateSettings, period: Period
) -> list[str]:
    """The same for each preference, a line each: one estimate of all matches that are worth saying to anybody."""
    every = estimate(tracklets, links, settings.model_copy(update={"prefer": min(PREFERENCES.values())}), [period])
    lines = []
    for name, least in sorted(PREFERENCES.items(), key=lambda each: each[1]):
        one = every.at(least)
        lines.append(
            f"  prefer: {name:9} ({least:g}) {one.target:6} matches, about {one.wrong_share:.1%} of them wrong"
        )
    return lines


def _tracklet(visit: Visit) -> Tracklet:
    """Without a path: where in the picture it was says nothing to the association."""
    return Tracklet(
        id=visit.id,
        node="decoys",
        camera=visit.camera,
        class_name=visit.class_name,
        entry_time_s=visit.entered_at_s,
        exit_time_s=visit.left_at_s,
        time_sigma_s=0.0,
        entry_zone="",
        exit_zone="",
        heading_rad=float("nan"),
        embeddings=visit.embeddings,
        qualities=np.ones(len(visit.embeddings), np.float32),
        embedding_version="judged",
        path_times_s=np.zeros(0),
        path_boxes=np.zeros((0, 4), np.float32),
    )


def _longest_s(links: Sequence[LinkSettings]) -> float:
    return max((link.transit.max_s for link in links), default=0.0)


def _moves(links: Sequence[LinkSettings]) -> dict[str, float]:
    """Seconds by which each camera's clock is moved, different for the two ends of every link: colours of the graph."""
    colours: dict[str, int] = {}
    for camera in sorted({end for link in links for end in (link.from_camera, link.to_camera)}):
        ends = [(link.from_camera, link.to_camera) for link in links if camera in (link.from_camera, link.to_camera)]
        taken = {colours[end] for pair in ends for end in pair if end in colours}
        colours[camera] = next(colour for colour in range(len(taken) + 1) if colour not in taken)
    return {camera: colour * MOVED * _longest_s(links) for camera, colour in colours.items()}


def _period_of(tracklet: Tracklet, periods: Sequence[Period]) -> Period | None:
    """Of ascending periods the one in which it entered."""
    place = bisect_right(periods, tracklet.entry_time_s, key=lambda period: period[0]) - 1
    return periods[place] if place >= 0 and tracklet.entry_time_s < periods[place][1] else None


def _moved(tracklet: Tracklet, by_s: float, period: Period) -> Tracklet:
    """The same passage later; what would leave the period comes in again at its begin."""
    begin, end = period
    entry_s = begin + (tracklet.entry_time_s - begin + by_s) % (end - begin)
    exit_s = entry_s + tracklet.exit_time_s - tracklet.entry_time_s
    return replace(tracklet, entry_time_s=entry_s, exit_time_s=exit_s)


def _play(
    tracklets: Sequence[Tracklet], rules: Rules, known: State, *, frozen: bool = False
) -> tuple[State, list[Fact]]:
    """The association over finished tracklets, from what is known until everything is decided."""
    state, facts = _only_learned(State(), known), list[Fact]()
    waiting = sorted(tracklets, key=lambda one: (one.exit_time_s, one.id), reverse=True)
    now = 0.0
    while waiting or _undecided(state):
        now = now + TICK_S if _undecided(state) else max(now, waiting[-1].exit_time_s)
        arrived = []
        while waiting and waiting[-1].exit_time_s <= now:
            arrived.append(waiting.pop())
        state, said = online.step(state, arrived, now, {}, rules)
        facts += said
        if frozen:
            state = _only_learned(state, known)
    return state, facts


def _only_learned(state: State, known: State) -> State:
    """The passages of one state with what another has learned."""
    return replace(state, links=known.links, cameras=known.cameras, means=known.means, calibrations=known.calibrations)


def _undecided(state: State) -> bool:
    return any(passage.decided == "pending" for passage in state.passages.values())
