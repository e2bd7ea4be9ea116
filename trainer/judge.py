"""Can anything be learned from these crops, and was it? Answers without labels. Pure: features and crops in, facts out.

Clusters get crisper by being trained on, right or wrong: of vehicles with two pictures each the silhouette rose from
0.29 to 0.53 in 12 epochs while mAP fell. So what decides first is something that the network never sees, tracks and
time: one camera's nearest crops come from one passage more often than by chance. Where neither is known, clusters must
stand apart, and hold more than pairs: at two crops for each identity a clustering that needs four joins strangers.

company       share of crops whose nearest crop of the same camera is of the same track, or was seen within `NEAR_S`,
              minus what chance would give
silhouette    of `SITE`'s clusters, see `trainer.clustering.quality`
rank          exp(−Σ p ln p), p: shares of the features' variance along their principal axes; 1 = collapsed
camera_share  share of the variance that lies between the means of cameras

Figures behind the limits, of OSNet x0.25 (MSMT17), whose truth chose nothing but these limits: company, silhouette,
crops in the median cluster, and the adjusted Rand index that they stand for.

    khoa_vehicles, two pictures each           –     0.62  2  0.42   trained: mAP falls; silhouette 0.53 of 19 crops
    market_dev                                 0.77  0.45  8  0.66
    market_dev at 128×64                       0.26  0.39  2  0.09   trained: mAP 6.5 → 38; company 0.68, rank 27 → 59
    market_dev without times                   –     0.45  8  0.50
    its persons with 2, 4, 6, 8 crops          –     0.53, 0.59, 0.45, 0.50  2, 2, 3, 3  0.31, 0.45, 0.47, 0.50
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.clustering.knn import exact_search
from trainer.clustering.recluster import ClusterSettings
from trainer.data.records import Crops, spread
from trainer.labels import STANDS_APART, LabelSettings, clusters

Floats = NDArray[np.float32]
SITE = LabelSettings(
    clustering=ClusterSettings(eps_candidates=(0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)),
    camera_centred=True,
    fit=True,
)
NEAR_S = 30.0  # two looks at one passage
COMPANY = 0.1  # above chance
MORE_THAN_PAIRS = 3  # crops in the median cluster
FEWEST_CROPS = 50  # below, clusters of strangers often look like good ones
MOST_OUTLIERS = 0.5
RANK_KEPT = 0.5
ASKED = 2000  # crops of a camera whose nearest crop is looked up
SLACK = 0.02  # of shares, between two networks


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one network makes of N crops."""

    crops: int
    company: float | None  # None where neither tracks nor times are known
    clusters: int
    outlier_share: float
    size_median: float
    silhouette: float
    rank: float
    camera_share: float

    @classmethod
    def of(cls, facts: dict[str, float]) -> Evidence:
        """What `as_dict` gave."""
        return cls(**{"company": None, **facts})  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, float]:
        """Without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def evidence_of(features: Floats, crops: Crops, labels: LabelSettings = SITE) -> Evidence:
    """Of (N, D) float32 unit rows. O(crops of a camera) for each of at most `ASKED` crops, and one to three
    clusterings."""
    quality = clusters(features, crops, labels).quality
    return Evidence(
        crops=len(features),
        company=company(features, crops),
        clusters=quality.clusters,
        outlier_share=quality.outlier_share,
        size_median=quality.size_median,
        silhouette=quality.silhouette,
        rank=effective_rank(features),
        camera_share=camera_share(features, crops.cameras),
    )


def doubts(found: Evidence) -> tuple[str, ...]:
    """Why nothing can be learned from the crops, in words; empty where something can."""
    if found.company is not None and found.company >= COMPANY:
        return ()
    if found.clusters < 2:
        what = "all crops look alike" if found.clusters else "no two crops are surely of one identity"
        return (f"{what}: {found.clusters} clusters of {found.crops} crops",)
    reasons = []
    if found.crops < FEWEST_CROPS:
        reasons.append(f"{found.crops} crops are too few to tell identities by: expected {FEWEST_CROPS} or more")
    if found.outlier_share > MOST_OUTLIERS:
        reasons.append(f"{found.outlier_share:.0%} of the crops are in no cluster")
    if found.silhouette < STANDS_APART:
        reasons.append(f"clusters hardly stand apart: silhouette {found.silhouette:.2f}, expected {STANDS_APART}")
    if found.size_median < MORE_THAN_PAIRS:
        reasons.append(f"most clusters hold {found.size_median:.0f} crops: too few looks at each identity")
    return tuple(reasons)


def losses(start: Evidence, end: Evidence) -> tuple[str, ...]:
    """Why the network at the end is no better than the one at the start, in words; empty where it is better."""
    reasons = []
    if end.rank < RANK_KEPT * start.rank:
        reasons.append(f"features collapse: effective rank {start.rank:.1f} → {end.rank:.1f}")
    if end.camera_share > start.camera_share + SLACK:
        reasons.append(
            f"features tell cameras apart: share of variance {start.camera_share:.2f} → {end.camera_share:.2f}"
        )
    if start.company is not None and end.company is not None and end.company < start.company - SLACK:
        reasons.append(f"crops of one passage are found less often: {start.company:.2f} → {end.company:.2f}")
    closer = start.company is not None and end.company is not None and end.company > start.company + SLACK
    if end.silhouette <= start.silhouette and not closer:
        reasons.append(f"clusters stand no better apart: silhouette {start.silhouette:.2f} → {end.silhouette:.2f}")
    return tuple(reasons)


def worsened(first: dict[str, float], now: dict[str, float]) -> tuple[str, ...]:
    """What of an epoch's labels (`trainer.labels.facts_of`) should worry, against those of the first epoch."""
    if "silhouette" not in first or "silhouette" not in now:
        return ()
    reasons = []
    if now["silhouette"] < first["silhouette"] - SLACK:
        reasons.append(f"silhouette {first['silhouette']:.2f} → {now['silhouette']:.2f}")
    if now["outlier_share"] > first["outlier_share"] + SLACK:
        reasons.append(f"outliers {first['outlier_share']:.0%} → {now['outlier_share']:.0%}")
    return tuple(reasons)


def company(features: Floats, crops: Crops) -> float | None:
    """See above: −1 … 1, weighed by crops; by tracks where most crops have one, else by time."""
    by_track = bool((crops.tracklets >= 0).mean() > 0.5) if len(crops) else False
    known = (crops.cameras >= 0) & ((crops.tracklets >= 0) if by_track else np.isfinite(crops.times_s))
    found, expected, asked = 0.0, 0.0, 0
    for camera in np.unique(crops.cameras[known]):
        rows = np.flatnonzero(known & (crops.cameras == camera))
        if len(rows) < 2:
            continue
        queries = spread(len(rows), ASKED)
        _, near = exact_search(features[rows[queries]], features[rows], 2)
        mates = rows[np.where(near[:, 0] == queries, near[:, 1], near[:, 0])]
        if by_track:
            together = crops.tracklets[mates] == crops.tracklets[rows[queries]]
            chance = _same(crops.tracklets[rows])
        else:
            together = np.abs(crops.times_s[mates] - crops.times_s[rows[queries]]) <= NEAR_S
            chance = _near(crops.times_s[rows])
        found, expected, asked = found + together.sum(), expected + chance * len(queries), asked + len(queries)
    return float(found - expected) / asked if asked else None


def effective_rank(features: Floats) -> float:
    """See above: 1 … D; 1 for rows that are all equal."""
    shares = np.linalg.eigvalsh(np.cov(features.T.astype(np.float64)) if len(features) > 1 else np.zeros((1, 1)))
    shares = shares[shares > 1e-12 * max(1.0, shares.max(initial=0.0))]
    shares = shares / shares.sum() if len(shares) else np.ones(1)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def camera_share(features: Floats, cameras: NDArray[np.int64]) -> float:
    """See above: 0 … 1; 0 without a second camera."""
    mean = features.mean(0)
    total = float(((features - mean) ** 2).sum())
    groups = [features[cameras == camera] for camera in np.unique(cameras)]
    between = sum(len(group) * float(((group.mean(0) - mean) ** 2).sum()) for group in groups)
    return between / total if total > 1e-9 else 0.0


def _same(tracks: NDArray[np.int64]) -> float:
    """The share of pairs that are of one track."""
    sizes = np.unique(tracks, return_counts=True)[1].astype(np.float64)
    return float((sizes * (sizes - 1)).sum() / (len(tracks) * (len(tracks) - 1)))


def _near(times_s: NDArray[np.float64]) -> float:
    """The share of pairs that lie within `NEAR_S` of each other."""
    line = np.sort(times_s)
    after = np.searchsorted(line, line + NEAR_S, side="right") - np.arange(len(line)) - 1
    return float(2 * after.sum() / (len(line) * (len(line) - 1)))
