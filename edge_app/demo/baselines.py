"""What the association is compared with in the same run, scored by the same function.

one global cosine threshold    each tracklet continues the most similar earlier tracklet of any other camera, at
                               whatever time gap, when their cosine is above one threshold. Without a threshold
                               given, the one with the best F1 *against the truth* is taken: an oracle's choice,
                               so the baseline is shown at its best.
Hungarian with true transits   offline, one assignment over the whole recording, with the densities of transit and
                               of appearance fitted to the truth: the ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_app.demo.score import Score, passages_of, score_pairs
from edge_app.simulation.sites import LinkSpec
from edge_app.simulation.traffic import Passage
from edge_app.simulation.world import World
from edge_app.types import Tracklet

_MAXIMUM_THRESHOLDS = 200
_LATEST_S = 120.0  # of a vehicle that parked on its way
_FLOOR = 1e-4  # smallest transit density, so that a late vehicle is unlikely but not impossible


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline's score and the threshold it used; `oracle` says that the threshold was chosen with the truth."""

    score: Score
    threshold: float
    oracle: bool


def baseline_global_cosine(
    world: World,
    tracklets: Sequence[Tracklet],
    threshold: float | None = None,
    span_s: tuple[float, float] | None = None,
) -> Baseline:
    """See the module's docstring. Tracklets without embeddings are left out of the matching. `span_s`: see `score`."""
    shown = passages_of(world, tracklets)
    pairs, cosines = _most_similar_earlier(tracklets)
    if threshold is not None:
        kept = [pair for pair, cosine in zip(pairs, cosines, strict=True) if cosine >= threshold]
        return Baseline(score_pairs(world, shown, kept, span_s=span_s), threshold, oracle=False)
    candidates = np.unique(cosines)
    if len(candidates) > _MAXIMUM_THRESHOLDS:
        candidates = np.quantile(candidates, np.linspace(0, 1, _MAXIMUM_THRESHOLDS))
    found = [Baseline(score_pairs(world, shown, [], span_s=span_s), 1.0, oracle=True)]
    for value in candidates:
        kept = [pair for pair, cosine in zip(pairs, cosines, strict=True) if cosine >= value]
        found.append(Baseline(score_pairs(world, shown, kept, span_s=span_s), float(value), oracle=True))
    return max(found, key=lambda baseline: _f1(baseline.score))


def ceiling_hungarian(world: World, tracklets: Sequence[Tracklet]) -> Score:
    """See the module's docstring."""
    from scipy.optimize import linear_sum_assignment

    shown = passages_of(world, tracklets)
    embedded = [tracklet for tracklet in tracklets if len(tracklet.embeddings)]
    if not embedded:
        return score_pairs(world, shown, [])
    gains = _gains(world, embedded, shown)
    # One private no-match column per tracklet: gain 0.
    padded = np.concatenate([gains, np.where(np.eye(len(embedded), dtype=bool), 0.0, -1e6)], 1)
    rows, columns = linear_sum_assignment(padded, maximize=True)
    chosen = [(embedded[c].id, embedded[r].id) for r, c in zip(rows, columns, strict=True) if c < len(embedded)]
    return score_pairs(world, shown, chosen)


def _gains(world: World, tracklets: list[Tracklet], shown: dict[str, Passage | None]) -> NDArray[np.float64]:
    """(N to, N from) log odds of each possible match against none; very negative where no road leads."""
    count = len(tracklets)
    similarity = _similarities(tracklets)
    camera = np.array([tracklet.camera for tracklet in tracklets])
    vehicle = [shown[tracklet.id] for tracklet in tracklets]
    number = np.array([-1 - i if p is None else p.vehicle for i, p in enumerate(vehicle)])
    entry = np.array([tracklet.entry_time_s for tracklet in tracklets])
    leave = np.array([tracklet.exit_time_s for tracklet in tracklets])
    gains = np.full((count, count), -1e5)
    for link in world.links:
        to, from_ = np.flatnonzero(camera == link.to), np.flatnonzero(camera == link.from_)
        block = similarity[np.ix_(to, from_)]
        same = number[to][:, None] == number[from_][None]
        if same.sum() < 3 or (~same).sum() < 3:
            continue
        appearance = np.clip(_log_normal(block, block[same]) - _log_normal(block, block[~same]), -8.0, 8.0)
        transit = entry[to][:, None] - leave[from_][None]
        density = _transit_density(transit, same, link)
        rate = len(from_) / world.demand.seconds  # of unrelated vehicles that could be mistaken for this one
        with np.errstate(divide="ignore"):
            gains[np.ix_(to, from_)] = np.maximum(appearance + np.log(density) + np.log(link.share / rate), -1e5)
    return gains


def _transit_density(transit_s: NDArray[np.float64], same: NDArray[np.bool_], link: LinkSpec) -> NDArray[np.float64]:
    """(N to, N from) log-normal density, fitted to the vehicles that are the same.

    Fitted, not the simulator's own: a tracker that begins late or ends early shifts every transit.
    """
    known = np.where(transit_s > 0, transit_s, 1.0)
    logs = np.log(known[same & (transit_s > 0)])
    middle, spread = float(np.log(link.median_s)), link.sigma
    if len(logs):
        middle = float(np.median(logs))
        spread = max(1.4826 * float(np.median(np.abs(logs - middle))), spread)
    density = np.exp(-0.5 * ((np.log(known) - middle) / spread) ** 2) / (known * spread * np.sqrt(2 * np.pi))
    floored = np.where(transit_s < _LATEST_S, np.maximum(density, _FLOOR), density)
    return np.where(transit_s > 0, floored, 0.0)


def _log_normal(values: NDArray[np.float64], sample: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = max(float(sample.std()), 0.02)
    density: NDArray[np.float64] = -0.5 * ((values - sample.mean()) / spread) ** 2 - np.log(spread)
    return density


def _similarities(tracklets: Sequence[Tracklet]) -> NDArray[np.float64]:
    """(N, N) cosine of the tracklets' mean embeddings."""
    means = np.stack([tracklet.embeddings.mean(0) for tracklet in tracklets]).astype(np.float64)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    cosines: NDArray[np.float64] = means @ means.T
    return cosines


def _most_similar_earlier(tracklets: Sequence[Tracklet]) -> tuple[list[tuple[str, str]], NDArray[np.float64]]:
    """For each tracklet that has one: (earlier, this), and their cosine."""
    embedded = [tracklet for tracklet in tracklets if len(tracklet.embeddings)]
    if not embedded:
        return [], np.zeros(0)
    camera = np.array([tracklet.camera for tracklet in embedded])
    entry = np.array([tracklet.entry_time_s for tracklet in embedded])
    leave = np.array([tracklet.exit_time_s for tracklet in embedded])
    allowed = (camera[:, None] != camera[None]) & (leave[None] < entry[:, None])
    similarity = np.where(allowed, _similarities(embedded), -np.inf)
    best = similarity.argmax(1)
    rows = np.flatnonzero(allowed.any(1))
    return [(embedded[best[row]].id, embedded[row].id) for row in rows], similarity[rows, best[rows]]


def _f1(score: Score) -> float:
    precision, recall = score.total.precision, score.total.recall
    if not precision.hits or not recall.hits:
        return 0.0
    return 2 * precision.value * recall.value / (precision.value + recall.value)
