"""Camera-aware proxies: every cluster split by camera, for the methods that keep one memory row per (cluster, camera).

Method: CAP (arXiv 2012.10674) and O2CAP (arXiv 2201.05820), section "proxy generation". For cluster k ascending, for
camera c ascending among its crops, the next proxy number; outliers have none (−1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of one clustering of N crops into M proxies."""

    labels: NDArray[np.int64]  # (N,) int64, proxy of each crop, −1 = outlier
    clusters: NDArray[np.int64]  # (M,) int64, cluster of each proxy, ascending
    cameras: NDArray[np.int64]  # (M,) int64, camera of each proxy

    def __len__(self) -> int:
        return len(self.clusters)


def split_by_camera(labels: NDArray[np.int64], cameras: NDArray[np.int64]) -> Proxies:
    """Split clusters (N,) int64, −1 = outlier, by cameras (N,) int64; `DataError` where a clustered crop has none."""
    if labels.shape != cameras.shape:
        raise DataError(f"labels {labels.shape} and cameras {cameras.shape} must have one entry per crop")
    clustered = np.flatnonzero(labels >= 0)
    unknown = clustered[cameras[clustered] < 0]
    if len(unknown):
        raise DataError(
            f"{len(unknown)} clustered crops have no camera number (the first is crop {unknown[0]}): camera-aware "
            "proxies need one for every crop; name the cameras, or train a method that does without"
        )
    proxies = np.full(len(labels), -1, np.int64)
    pairs, inverse = np.unique(np.stack([labels[clustered], cameras[clustered]]), axis=1, return_inverse=True)
    proxies[clustered] = inverse.reshape(-1)
    return Proxies(proxies, pairs[0].astype(np.int64), pairs[1].astype(np.int64))
