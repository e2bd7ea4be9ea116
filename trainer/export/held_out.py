"""The crops of an export: some measure the INT8 ranges, others, never the same, judge the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.preprocess import InputSpec
from trainer.data import layouts
from trainer.data.cache import Cached, cached
from trainer.data.images import said_of
from trainer.data.records import Crops, FixedTest, Labelled, spread
from trainer.data.summary import told
from trainer.errors import DataError
from trainer.evaluate import random_gallery
from trainer.export.verify import Judges
from trainer.metrics.retrieval import Truth

LARGEST_CALIBRATION = 20_000  # training crops that are decoded to choose from
EARLIEST_S = 365 * 86_400.0  # what lies before is no time of a calendar


@dataclass(frozen=True, slots=True)
class ExportCrops:
    """Pictures of the network's size, in its channel order."""

    spare: Crops  # for calibration
    spare_pixels: NDArray[np.uint8]  # (M, H, W, 3)
    held: NDArray[np.uint8]  # (N, H, W, 3)
    held_crops: Crops  # (N,) their cameras, times and tracks
    truth: Truth  # (N,) of the held-out crops; identities −1 where nobody knows them
    query: NDArray[np.int64]  # rows of the held-out crops
    gallery: NDArray[np.int64]
    labelled: bool


def gather(
    data: Path,
    layout: str | None,
    cache: Path,
    spec: InputSpec,
    limit: int,
    *,
    pattern: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ExportCrops:
    """Calibration crops from the training part, at most `limit` held-out ones from the labelled test part; without one,
    every fifth track of the training part is held out, or every fifth crop where there are no tracks. `say` is told
    what was found and what is left out. `DataError` when there are too few crops."""
    dataset, cache = layouts.read(data, layout, pattern), cache.expanduser()
    for line in told(dataset):
        say(line)
    if dataset.test is None:
        if len(dataset.train) < 10:
            raise DataError(f"{data} has {len(dataset.train)} crops; ranges need at least 10, a gate that judges 300")
        tracks = tracks_apart(dataset.train)
        fifth = tracks % 5 == 0
        held = dataset.train.take(np.isin(tracks, identities_within(tracks[fifth], tracks[fifth], limit)))
        spare = dataset.train.take(~fifth)
        own = _decoded(held, spec, cache, say)
        truth = Truth(np.full(len(own.crops), -1, np.int64), own.crops.cameras)
        everyone = np.arange(len(own.crops))
        calibration = _decoded(_few_of(spare), spec, cache, say)
        held_out = own.pixels, own.crops, truth, everyone, everyone
        return ExportCrops(calibration.crops, calibration.pixels, *held_out, False)
    if isinstance(dataset.test, FixedTest):
        query, gallery = dataset.test.query, dataset.test.gallery
        wanted = identities_within(np.concatenate([query.identities, gallery.identities]), query.identities, limit)
        query, gallery = (part.take(np.isin(part.identities, wanted)) for part in (query, gallery))
        both = _joined(query, gallery)
        asks = np.arange(len(both)) < len(query)
    else:
        both = dataset.test.crops
        both = both.take(np.isin(both.identities, identities_within(both.identities, both.identities, limit)))
        asks = np.ones(len(both), np.bool_)
        asks[random_gallery(both.identities, np.random.default_rng(0))] = False
    own = _decoded(both.crops, spec, cache, say)
    truth, asks = both.take(own.kept).truth, asks[own.kept]
    spare = dataset.train if len(dataset.train) else both.crops
    calibration = _decoded(_few_of(spare), spec, cache, say)
    held_out = own.pixels, own.crops, truth, np.flatnonzero(asks), np.flatnonzero(~asks)
    return ExportCrops(calibration.crops, calibration.pixels, *held_out, True)


def tracks_apart(crops: Crops) -> NDArray[np.int64]:
    """(N,) int64: numbers 0, 1, … that crops of one track share; a crop of no track has its own, and so has every crop
    where there are fewer than five of these."""
    own = np.arange(len(crops)) + crops.tracklets.max(initial=-1) + 1
    names, numbers = np.unique(np.where(crops.tracklets >= 0, crops.tracklets, own), return_inverse=True)
    return numbers.astype(np.int64) if len(names) >= 5 else np.arange(len(crops))


def judges(crops: ExportCrops, float_rows: NDArray[np.float32]) -> Judges | None:
    """Who is who among the held-out crops: their labels, or clusters of the float rows; None where these find nobody
    again."""
    if crops.labelled:
        return Judges(crops.truth, crops.query, crops.gallery, False)
    from trainer.clustering.recluster import ClusterSettings, cluster

    labels = cluster(float_rows, ClusterSettings(), crops.truth.cameras).labels
    if labels.max() < 1:
        return None  # one cluster tells nobody apart
    alone = labels < 0
    identities = np.where(alone, -1 - np.arange(len(labels)), labels)  # an outlier is nobody else
    cameras = crops.truth.cameras
    if (cameras >= 0).all():
        seen = np.unique(np.stack([identities, cameras]), axis=1)[0]
        if len(np.unique(seen)) == len(seen):
            return None  # no cluster is on two cameras
        return Judges(Truth(identities, cameras), crops.query, crops.gallery, True)
    gallery = random_gallery(identities, np.random.default_rng(0))
    query = np.setdiff1d(np.flatnonzero(~alone), gallery)
    return Judges(Truth(identities, cameras), query, gallery, True) if len(query) else None


def identities_within(everyone: NDArray[np.int64], asked: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """The identities, evenly spread over those that are asked for, of which all crops together are at most `limit`;
    one at least."""
    known, counts = np.unique(everyone, return_counts=True)
    known, counts = known[np.isin(known, asked)], counts[np.isin(known, asked)]
    order = np.argsort(np.arange(len(known)) * 0.6180339887498949 % 1, kind="stable")  # golden ratio: spread everywhere
    fitting = max(1, int((np.cumsum(counts[order]) <= limit).sum()))
    return np.sort(known[order[:fitting]])


def window(crops: Crops) -> tuple[float, float] | None:
    """Capture times of the first and the last crop; None when no crop has one, or only one of a research set's own
    clock, which begins at 0."""
    times = crops.times_s[crops.times_s > EARLIEST_S]  # a comparison with nan is false
    return (float(times.min()), float(times.max())) if len(times) else None


def _few_of(spare: Crops) -> Crops:
    """Those that are decoded to choose the calibration crops from."""
    return spare.take(spread(len(spare), LARGEST_CALIBRATION))


def _decoded(crops: Crops, spec: InputSpec, cache: Path, say: Callable[[str], None]) -> Cached:
    found = cached(crops, spec, cache)
    for line in said_of(found.bad):
        say(line)
    return found


def _joined(first: Labelled, second: Labelled) -> Labelled:
    columns = [
        np.concatenate([getattr(first.crops, name), getattr(second.crops, name)])
        for name in ("cameras", "times_s", "tracklets")
    ]
    crops = Crops(first.crops.paths + second.crops.paths, *columns)
    return Labelled(crops, np.concatenate([first.identities, second.identities]))
