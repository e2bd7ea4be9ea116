"""What a site knows about its crops without looking at them: tracks and time.

Crops of one track show one identity; two tracks that one camera sees at the same time show two. The first pulls the
crops of a track together before they are compared; the second takes pairs out of the graph before it is clustered.
Both leave everything as it is where tracklets or times are unknown.

Related: camera-tracklet-aware contrastive learning (CTACL, arXiv 2109.06401) puts tracklets into the loss;
here they shape the neighbour graph, so that every clustering method gains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.clustering.jaccard import Graph, Rows

Integers = NDArray[np.int64]


def track_pulled(features: NDArray[np.float32], tracklets: Integers, weight: float) -> NDArray[np.float32]:
    """Unit rows normalize((1 − weight)·f_i + weight·mean of i's tracklet) of (N, D) float32 unit rows; rows of crops
    without a tracklet (−1) stay as they are. O(N·D)."""
    known = np.flatnonzero(tracklets >= 0)
    if not len(known) or not weight:
        return features
    _, place, sizes = np.unique(tracklets[known], return_inverse=True, return_counts=True)
    means = np.zeros((len(sizes), features.shape[1]), np.float32)
    np.add.at(means, place, features[known])
    means /= sizes[:, None]
    pulled = (1 - weight) * features[known] + weight * means[place]
    result = features.copy()
    result[known] = pulled / np.maximum(np.linalg.norm(pulled, axis=1, keepdims=True), 1e-12)
    return result


@dataclass(frozen=True, slots=True)
class Spans:
    """From when to when each crop's track was seen."""

    tracklets: Integers  # (N,) −1 = unknown
    cameras: Integers  # (N,) −1 = unknown
    begins_s: NDArray[np.float64]  # (N,) of the crop's tracklet; nan = unknown
    ends_s: NDArray[np.float64]  # (N,)

    def seen_together(self, first: Integers, second: Integers) -> NDArray[np.bool_]:
        """For pairs of crop numbers (E,): whether one camera saw their two tracks at the same time."""
        same_camera = (self.cameras[first] == self.cameras[second]) & (self.cameras[first] >= 0)
        two_tracks = (self.tracklets[first] != self.tracklets[second]) & (self.tracklets[first] >= 0)
        two_tracks &= self.tracklets[second] >= 0
        overlap = (self.begins_s[first] <= self.ends_s[second]) & (self.begins_s[second] <= self.ends_s[first])
        return same_camera & two_tracks & overlap  # comparisons with nan are false


def spans_of(tracklets: Integers, cameras: Integers, times_s: NDArray[np.float64]) -> Spans:
    """Spans of crops (N,) from their capture times; a track of which one time is unknown has no span."""
    begins, ends = np.full(len(tracklets), np.nan), np.full(len(tracklets), np.nan)
    known = np.flatnonzero(tracklets >= 0)
    if len(known):
        _, place = np.unique(tracklets[known], return_inverse=True)
        first, last = np.full(place.max() + 1, np.inf), np.full(place.max() + 1, -np.inf)
        np.fmin.at(first, place, times_s[known])
        np.fmax.at(last, place, times_s[known])
        untimed = np.bincount(place, np.isnan(times_s[known])) > 0
        first[untimed] = last[untimed] = np.nan
        begins[known], ends[known] = first[place], last[place]
    return Spans(tracklets, cameras, begins, ends)


def kept_apart(graph: Graph, spans: Spans) -> Graph:
    """The graph without the pairs that cannot be one identity. O(pairs). A chain of other pairs may still join them."""
    half = graph.half
    rows = np.repeat(np.arange(len(half)), np.diff(half.starts))
    kept = ~spans.seen_together(rows, half.columns.astype(np.int64))
    sizes = np.bincount(rows[kept], minlength=len(half))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(half.starts.dtype)
    return Graph(Rows(starts, half.columns[kept], half.values[kept]), graph.reach)
