"""Clusters of tracks rather than of crops: what a site knows about who can be who, as rules that hold.

    must link     the crops of a track are one item, the mean of their features, so that they always share a label
    cannot link   tracks that one camera saw at the same time are never in one cluster, not over others either
    time          waits between cameras weigh the pairs, as written down and as learned (`trainer.clustering.transit`)

The graph is that of the crops' clustering, over tracks: nearest neighbours, Jaccard distance. DBSCAN would chain over
whatever pair is left and knows no "never", so groups are made by average linkage (`trainer.clustering.linkage`); one
tree serves all values of eps.

Cost law, for T tracks of N crops: N·D for the means, T²·D for the exact neighbours, then linear in T and in the pairs
of the graph, times a logarithm. Pairs that must stay apart are listed only among tracks of one camera that the graph
connects: T times the tracks that such a camera holds at once. Memory law: 4·T·D bytes and about 3 kB per track.

Related: camera-tracklet-aware contrastive learning (CTACL, arXiv 2109.06401).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from trainer.clustering.jaccard import Graph, Rows, jaccard_graph
from trainer.clustering.knn import nearest
from trainer.clustering.linkage import Merges, average_linkage, in_order
from trainer.clustering.quality import EpsChoice, best_eps, measure, silhouettes
from trainer.clustering.recluster import Clustering, ClusterSettings, Stages, wider
from trainer.clustering.site import spans_of
from trainer.clustering.transit import Transits, by_time, learn_transits, reach_before
from trainer.clustering.ways import Windows

Integers = NDArray[np.int64]
Seconds = NDArray[np.float64]
USUAL_LENGTH = 90  # per cent of the tracks are shorter; ways are measured from their middles


@dataclass(frozen=True, slots=True)
class Tracks:
    """T tracks and the N crops they are made of; a crop without a track is one by itself."""

    of_crop: Integers  # (N,) the track of each crop
    features: NDArray[np.float32]  # (T, D) unit rows
    cameras: Integers  # (T,) −1 = unknown
    begins_s: Seconds  # (T,) capture time of the first crop; nan = unknown
    ends_s: Seconds  # (T,)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def crops(self) -> Integers:
        """(T,) crops of each track."""
        return np.bincount(self.of_crop, minlength=len(self))

    @property
    def middles_s(self) -> Seconds:
        return (self.begins_s + self.ends_s) / 2


def tracks_of(features: NDArray[np.float32], tracklets: Integers, cameras: Integers, times_s: Seconds) -> Tracks:
    """The tracks of crops: unit rows (N, D) float32, tracklets (N,), −1 = none, cameras (N,), −1 = unknown, and times
    (N,), nan = unknown. A track of which one time is unknown has none. O(N·D)."""
    alone = tracklets < 0
    names = np.where(alone, tracklets.max(initial=-1) + 1 + np.cumsum(alone), tracklets)
    _, first, of_crop = np.unique(names, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), features.shape[1]), np.float32)
    np.add.at(sums, of_crop, features)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    means = np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), features[first])
    spans = spans_of(names, cameras, times_s)
    return Tracks(of_crop, means.astype(np.float32), cameras[first], spans.begins_s[first], spans.ends_s[first])


def cluster_tracks(tracks: Tracks, settings: ClusterSettings, ways: Windows | None = None) -> Clustering:
    """Labels of the crops, those of one track alike; −1 where a cluster has fewer crops than `dbscan.min_samples`.

    `ways`: usual waits between cameras, {} where none is known; None leaves time out. The graph of the result is that
    of the tracks."""
    stages = Stages()
    neighbours = nearest(tracks.features, settings.jaccard.k1, settings.neighbours)
    stages.end("neighbours")
    while True:
        reach = max(settings.eps_candidates, default=settings.dbscan.eps)
        far = reach if ways is None else reach_before(reach)
        graph = jaccard_graph(tracks.features, neighbours, settings.jaccard, far, settings.workers)
        stages.end("jaccard")
        transits = None
        if ways is not None:
            transits = _transits(graph, tracks, settings, ways)
            graph = by_time(graph, transits, reach)
        choice = _choice(graph, tracks, settings)
        stages.end("linkage")
        if (further := wider(settings, choice.eps)) is None:
            break
        settings = further  # beyond the graph's reach
    labels, crops = choice.labels[tracks.of_crop], len(tracks.of_crop)
    none = Rows(np.zeros(crops + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    separation = float(silhouettes(choice.labels, graph.both()).mean())  # of tracks: crops have no graph here
    quality = replace(measure(labels, none, tracks.cameras[tracks.of_crop]), silhouette=separation)
    stages.end("quality")
    return Clustering(labels, choice.eps, quality, choice.trials, stages.seconds, graph, settings, transits)


def seen_together(tracks: Tracks, graph: Graph) -> tuple[Integers, Integers]:
    """The pairs of tracks (P,), (P,) that one camera saw at the same time and that the graph connects, by any way: no
    others could ever meet in a cluster."""
    half = graph.half
    links = csr_array((np.ones(len(half.columns), np.int8), half.columns, half.starts), (len(graph), len(graph)))
    part = connected_components(links, directed=False)[1].astype(np.int64)
    known = np.flatnonzero((tracks.cameras >= 0) & np.isfinite(tracks.begins_s))
    _, group = np.unique(np.stack([part[known], tracks.cameras[known]]), axis=1, return_inverse=True)
    order = known[np.lexsort((tracks.begins_s[known], group.reshape(-1)))]
    group = np.sort(group.reshape(-1))
    begins, ends = tracks.begins_s[order], tracks.ends_s[order]
    begin_s = begins.min(initial=np.inf)
    stride_s = ends.max(initial=begin_s) - begin_s + 1 if len(order) else 1.0
    line = group * stride_s + (begins - begin_s)  # groups one after another, so that one search serves all
    until = np.searchsorted(line, group * stride_s + (ends - begin_s), side="right")
    later = np.maximum(until - np.arange(len(order)) - 1, 0)  # the tracks that begin while this one is seen
    first = np.repeat(np.arange(len(order)), later)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(later) - later, later)
    return order[first], order[second]


def _transits(graph: Graph, tracks: Tracks, settings: ClusterSettings, ways: Windows) -> Transits:
    """What the clusters say about waits between the tracks' middles: usual ones are longer by a track."""
    usual = {pair: (low, high + _length_s(tracks)) for pair, (low, high) in ways.items()}
    return learn_transits(
        graph, lambda one: _choice(one, tracks, settings).labels, tracks.cameras, tracks.middles_s, usual
    )


def _choice(graph: Graph, tracks: Tracks, settings: ClusterSettings) -> EpsChoice:
    """Clusters of tracks (T,) at the given eps, or at the one of the candidates that the silhouette prefers."""
    candidates = tuple(sorted(settings.eps_candidates)) or (settings.dbscan.eps,)
    merges = average_linkage(graph, seen_together(tracks, graph), candidates[-1])
    least = settings.dbscan.min_samples
    if not settings.eps_candidates:
        return EpsChoice(settings.dbscan.eps, _large(merges, settings.dbscan.eps, tracks, least), ())
    return best_eps(graph.both(), candidates, lambda eps: _large(merges, eps, tracks, least))


def _large(merges: Merges, eps: float, tracks: Tracks, min_crops: int) -> Integers:
    """The groups that have enough crops, in order; −1 = none."""
    groups = merges.cut(eps)
    crops = np.bincount(groups, tracks.crops)
    return in_order(np.where(crops[groups] >= min_crops, groups, -1))


def _length_s(tracks: Tracks) -> float:
    """How long tracks usually are, 0 where no time is known."""
    lengths = (tracks.ends_s - tracks.begins_s)[np.isfinite(tracks.begins_s)]
    return float(np.percentile(lengths, USUAL_LENGTH)) if len(lengths) else 0.0
