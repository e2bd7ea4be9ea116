"""The labelling step of every clustering method: neighbours → Jaccard graph → DBSCAN → report of the quality.

With capture times it clusters twice: what the first clusters say about the ways between cameras moves the distances of
the second (`trainer.clustering.transit`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from trainer.clustering.dbscan import DbscanSettings, dbscan
from trainer.clustering.jaccard import Graph, JaccardSettings, jaccard_graph
from trainer.clustering.knn import NeighbourSettings, nearest
from trainer.clustering.quality import EpsChoice, EpsTrial, Quality, choose_eps, measure
from trainer.clustering.site import Spans, kept_apart
from trainer.clustering.transit import Transits, by_time, learn_transits, reach_before
from trainer.clustering.ways import Windows
from trainer.settings import Settings

HIGHEST_EPS = 0.8  # of a widened range; beyond, chance pairs chain everything together


class ClusterSettings(Settings):
    """One clustering of all crops."""

    neighbours: NeighbourSettings = NeighbourSettings()
    """The search for nearest neighbours."""
    jaccard: JaccardSettings = JaccardSettings()
    """The neighbourhoods of the Jaccard distance."""
    dbscan: DbscanSettings = DbscanSettings()
    """Density; its eps is not used where eps_candidates are given."""
    eps_candidates: tuple[float, ...] = ()
    """When given, eps is chosen among these values, without labels, by the silhouette. A choice at an end of the range
    widens it by a step there."""
    workers: int | None = Field(default=None, ge=1)
    """Threads; by default one per core."""

    @model_validator(mode="after")
    def _candidates_are_distances(self) -> ClusterSettings:
        bad = [eps for eps in self.eps_candidates if not 0 < eps < 1]
        if bad:
            raise ValueError(f"eps_candidates must lie between 0 and 1, got {bad}")
        return self


@dataclass(frozen=True, slots=True)
class Clustering:
    """Labels of all crops, how good they are, and what they cost."""

    labels: NDArray[np.int64]  # (N,) int64 from 0, −1 = outlier
    eps: float
    quality: Quality
    trials: tuple[EpsTrial, ...]  # empty where eps was given
    seconds: dict[str, float]  # per stage
    graph: Graph  # what was clustered
    settings: ClusterSettings  # by which, with the range of eps as it was widened
    transits: Transits | None = None  # what time said about its pairs; None without times


class Stages:
    """A stopwatch: the seconds of each stage, all its turns together."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def end(self, stage: str) -> None:
        """All since the last stage ended was this one."""
        last, self._last = self._last, time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + self._last - last


def cluster(
    features: NDArray[np.float32],
    settings: ClusterSettings,
    cameras: NDArray[np.int64] | None = None,
    apart: Spans | None = None,
    times_s: NDArray[np.float64] | None = None,
    *,
    ways: Windows | None = None,
) -> Clustering:
    """Cluster (N, D) float32 unit rows. `cameras` (N,) int64, −1 = unknown, are used with `times_s` and by the quality
    report. Pairs that `apart` says one camera saw together are taken out of the graph before it is clustered;
    `times_s` (N,) float64, nan = unknown, weigh its pairs, `ways` (`ways.windows`) from the start."""
    stages = Stages()
    neighbours = nearest(features, settings.jaccard.k1, settings.neighbours)
    stages.end("neighbours")
    while True:
        reach = max(settings.eps_candidates, default=settings.dbscan.eps)
        far = reach if times_s is None else reach_before(reach)
        graph = jaccard_graph(features, neighbours, settings.jaccard, far, settings.workers)
        if apart is not None:
            graph = kept_apart(graph, apart)
        stages.end("jaccard")
        transits = None
        if times_s is not None and cameras is not None:
            labels = partial(_labels, settings=settings)
            transits = learn_transits(graph, labels, cameras, times_s, ways)
            graph = by_time(graph, transits, reach)
        choice = _choice(graph, settings)
        stages.end("dbscan")
        if (further := wider(settings, choice.eps)) is None:
            break
        settings = further  # beyond the graph's reach
    quality = measure(choice.labels, graph.both(), cameras)
    stages.end("quality")
    return Clustering(choice.labels, choice.eps, quality, choice.trials, stages.seconds, graph, settings, transits)


def _choice(graph: Graph, settings: ClusterSettings) -> EpsChoice:
    """Clusters at the given eps, or at the one of the candidates that the silhouette prefers."""
    if settings.eps_candidates:
        return choose_eps(graph, settings.eps_candidates, settings.dbscan.min_samples)
    return EpsChoice(settings.dbscan.eps, dbscan(graph, settings.dbscan), ())


def _labels(graph: Graph, settings: ClusterSettings) -> NDArray[np.int64]:
    return _choice(graph, settings).labels


def wider(settings: ClusterSettings, eps: float) -> ClusterSettings | None:
    """With one candidate more at the upper end, where that end was chosen."""
    candidates = sorted(settings.eps_candidates)
    if len(candidates) < 2 or eps < candidates[-1]:
        return None
    further = round(2 * candidates[-1] - candidates[-2], 6)
    return settings.model_copy(update={"eps_candidates": (*candidates, further)}) if further <= HIGHEST_EPS else None
