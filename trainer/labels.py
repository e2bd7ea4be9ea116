"""Pseudo labels at the start of an epoch: what all clustering methods here do alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.clustering.recluster import Clustering, ClusterSettings, cluster
from trainer.clustering.site import spans_of, track_pulled
from trainer.clustering.tracks import cluster_tracks, tracks_of
from trainer.clustering.ways import Way, windows
from trainer.data.records import Crops
from trainer.errors import DataError
from trainer.settings import Settings


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
        return cluster_tracks(tracks, settings.clustering, ways)
    spans = spans_of(crops.tracklets, crops.cameras, crops.times_s) if settings.keep_apart else None
    times_s = crops.times_s if timed else None
    return cluster(features, settings.clustering, crops.cameras, spans, times_s, ways=ways)


def pseudo_labels(features: NDArray[np.float32], crops: Crops, settings: LabelSettings) -> Clustering:
    """`clusters`, but a `DataError` when there are fewer than two: nothing can be learned from them."""
    result = clusters(features, crops, settings)
    count, total = int(result.labels.max(initial=-1)) + 1, len(features)
    if count < 2:
        outliers = f"{np.mean(result.labels < 0):.0%} of {total} crops are outliers"
        advice = ("raise eps, lower min_samples, or give more crops", "lower eps, or give crops of more identities")[
            count
        ]
        raise DataError(
            f"clustering found {count} cluster{'s' * (count != 1)} at eps {result.eps} ({outliers}), "
            f"at least 2 are needed: {advice}"
        )
    return result


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
    return {**quality, "eps": result.eps, "clustering_s": sum(result.seconds.values())}
