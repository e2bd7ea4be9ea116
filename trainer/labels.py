"""Pseudo labels at the start of an epoch: what all clustering methods here do alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.clustering.recluster import Clustering, ClusterSettings, cluster
from trainer.clustering.site import spans_of, track_pulled
from trainer.clustering.tracks import cluster_tracks, tracks_of
from trainer.clustering.ways import Way, windows
from trainer.data.records import Crops
from trainer.errors import LabelsError
from trainer.settings import Settings

# Chosen by the adjusted Rand index, as the limits of `trainer.judge`, which says on which crops.
STANDS_APART = 0.4  # silhouette
FAR_BETTER, LARGE = 0.2, 4  # by so much finer clusters must be better, unless the median cluster has so many crops
FINER = ((20, 4, 2), (10, 2, 2))  # k1, k2, min_samples


class LabelSettings(Settings):
    """From features to pseudo labels."""

    clustering: ClusterSettings = ClusterSettings()
    """Neighbours, Jaccard distance, DBSCAN."""
    camera_centred: bool = False
    """Subtract each camera's mean feature first, so that clusters do not split one identity by camera. Uses camera
    numbers."""
    track_weight: float = Field(default=0.0, ge=0, le=1)
    """Weight of the mean of a crop's tracklet in its feature. Uses tracklets, where they are known."""
    keep_apart: bool = False
    """Take pairs of crops out of the graph whose tracks one camera saw at the same time. Uses tracklets and times."""
    transits: bool = False
    """Learn from the clusters how long the ways between cameras take, and cluster again by it. Uses cameras and times,
    where they are known."""
    fit: bool = False
    """Fit k1, k2 and min_samples to the crops: where clusters hardly stand apart (silhouette under 0.4), or are small
    and finer ones stand far better apart, an identity has fewer crops than they ask for, so fewer neighbours and
    smaller clusters are taken; k1 is at most a quarter of the crops, which is all that it does to `tracks`."""
    tracks: bool = False
    """Cluster tracks rather than crops: the crops of one stay together, tracks that one camera saw at the same time
    never meet in a cluster, not over others either. `track_weight` and `keep_apart` are then without effect."""
    ways: tuple[Way, ...] = ()
    """How long the ways between cameras take, where somebody knows: `transits` begins with them."""


def without_effect(crops: Crops, settings: LabelSettings) -> list[str]:
    """One line for each setting that changes nothing, because these crops lack what it needs."""
    timed, tracked = bool(np.isfinite(crops.times_s).any()), bool((crops.tracklets >= 0).any())
    seen = bool((crops.cameras >= 0).any())
    needs = {
        "camera_centred": (settings.camera_centred, {"cameras": seen}),
        "track_weight": (settings.track_weight > 0, {"tracklets": tracked}),
        "keep_apart": (settings.keep_apart, {"cameras": seen, "tracklets": tracked, "capture times": timed}),
        "transits": (settings.transits, {"cameras": seen, "capture times": timed}),
    }
    lacking = {
        name: [what for what, known in about.items() if not known] for name, (wanted, about) in needs.items() if wanted
    }
    return [
        f"{name} has no effect: the crops have no {' and no '.join(what)}" for name, what in lacking.items() if what
    ]


def clusters(features: NDArray[np.float32], crops: Crops, settings: LabelSettings) -> Clustering:
    """Cluster (N, D) float32 unit rows of the crops, with what is known of cameras, tracklets and times."""
    timed = settings.transits and bool(np.isfinite(crops.times_s).any())
    ways = windows(settings.ways) if timed else None
    if not settings.tracks:
        features = track_pulled(features, crops.tracklets, settings.track_weight)
    if settings.camera_centred:
        features = camera_centred(features, crops.cameras)
    if settings.tracks:
        tracks = tracks_of(features, crops.tracklets, crops.cameras, crops.times_s)
        bounded = next(fitting(settings.clustering, len(tracks))) if settings.fit else settings.clustering
        return cluster_tracks(tracks, bounded, ways)
    spans = spans_of(crops.tracklets, crops.cameras, crops.times_s) if settings.keep_apart else None
    times_s = crops.times_s if timed else None

    def once(each: ClusterSettings) -> Clustering:
        return cluster(features, each, crops.cameras, spans, times_s, ways=ways)

    return _fitted(once, fitting(settings.clustering, len(features))) if settings.fit else once(settings.clustering)


def fitting(settings: ClusterSettings, items: int) -> Iterator[ClusterSettings]:
    """These settings, then finer ones, none of which asks for more neighbours than a quarter of the crops or tracks."""
    most = max(2, items // 4)
    given = (settings.jaccard.k1, settings.jaccard.k2, settings.dbscan.min_samples)
    for k1, k2, min_samples in (given, *(each for each in FINER if each[0] < given[0])):
        jaccard = settings.jaccard.model_copy(update={"k1": min(k1, most), "k2": min(k2, most)})
        dbscan = settings.dbscan.model_copy(update={"min_samples": min(min_samples, given[2])})
        yield settings.model_copy(update={"jaccard": jaccard, "dbscan": dbscan})


def _fitted(once: Callable[[ClusterSettings], Clustering], finer: Iterable[ClusterSettings]) -> Clustering:
    """The coarsest clusters that stand apart, or else the finest; far better ones of finer settings instead, where the
    coarser are small."""
    kept = None
    for each in finer:
        result = once(each)
        quality = result.quality
        if kept is not None and quality.silhouette < kept.quality.silhouette + FAR_BETTER:
            return kept
        kept = result if quality.silhouette >= STANDS_APART else None
        if kept is not None and quality.size_median >= LARGE:
            break
    return result


def pseudo_labels(features: NDArray[np.float32], crops: Crops, settings: LabelSettings) -> Clustering:
    """`clusters`, but a `LabelsError` when there are fewer than two: nothing can be learned from them."""
    result = clusters(features, crops, settings)
    count, total = result.quality.clusters, len(features)
    if count < 2:
        raise LabelsError(
            f"clustering found {count} cluster{'s' * (count != 1)} at eps {result.eps:g} "
            f"({result.quality.outlier_share:.0%} of {total} crops are outliers), at least 2 are needed: "
            f"{_advice(count, total, result.settings.jaccard.k1)}"
        )
    return result


def _advice(clusters: int, crops: int, k1: int) -> str:
    """With k1 near the number of crops everything is everybody's neighbour, whatever eps is."""
    if 2 * k1 > crops:
        return f"k1 {k1} takes more than half of the crops for neighbours: give more crops, or lower k1"
    if clusters:
        return "lower eps, or give crops of more identities"
    return "raise eps, lower min_samples, or give more crops"


def camera_centred(features: NDArray[np.float32], cameras: NDArray[np.int64]) -> NDArray[np.float32]:
    """Unit rows with the mean of their camera moved to the mean of all; crops without a camera number count as one
    camera."""
    result = features.copy()
    overall = features.mean(0)
    for camera in np.unique(cameras):
        rows = cameras == camera
        result[rows] += overall - features[rows].mean(0)
    lengths = np.linalg.norm(result, axis=1, keepdims=True)
    return np.where(lengths > 1e-6, result / np.maximum(lengths, 1e-6), features).astype(np.float32)


def outliers_alone(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels (N,) in which every outlier (−1) is a label of its own, after the clusters, in order."""
    labels, outliers = labels.copy(), labels < 0
    labels[outliers] = labels.max(initial=-1) + 1 + np.arange(outliers.sum())
    return labels


def facts_of(result: Clustering) -> dict[str, float]:
    """The numbers of a clustering that belong into the log of a run."""
    quality = {name: value for name, value in result.quality.as_dict().items() if value is not None}
    tried = [trial.eps for trial in result.trials] or [result.eps]
    used = result.settings
    return {
        **quality,
        "eps": result.eps,
        "eps_lowest": min(tried),
        "eps_highest": max(tried),
        "k1": used.jaccard.k1,
        "min_samples": used.dbscan.min_samples,
        "clustering_s": sum(result.seconds.values()),
    }
