"""Camera-aware proxies in memory: what CAP (arXiv 2012.10674), O2CAP (arXiv 2201.05820) and our own method share. The
losses are each method's own.

Symbols: M proxies with unit rows K_p, one per (cluster, camera) pair that has a crop, τ temperature, μ momentum of the
old row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from trainer.clustering.camera import Proxies
from trainer.clustering.dbscan import DbscanSettings
from trainer.clustering.jaccard import JaccardSettings
from trainer.clustering.recluster import ClusterSettings
from trainer.data.samplers import ProxySamplerSettings
from trainer.data.transforms import AugmentSettings
from trainer.errors import DataError
from trainer.labels import LabelSettings
from trainer.memory import Memory, label_means
from trainer.settings import Settings

Aggregation = Literal["camera_sum", "batch_mean"]
PUBLISHED_CLUSTERS = ClusterSettings(jaccard=JaccardSettings(k1=20, k2=6), dbscan=DbscanSettings(eps=0.5))


class ProxySettings(Settings):
    """What CAP and O2CAP set alike, with the values of their released code."""

    temperature: float = Field(default=0.07, gt=0)
    """τ."""
    momentum: float = Field(default=0.2, ge=0, lt=1)
    """μ, the weight of the old memory row."""
    hard_negatives: int = Field(default=50, ge=1)
    """Largest size of Q; all other proxies where there are fewer."""
    aggregation: Aggregation = "camera_sum"
    """`camera_sum` as published; `batch_mean` weighs all crops alike."""
    labels: LabelSettings = LabelSettings(clustering=PUBLISHED_CLUSTERS)
    """The clusters of an epoch, before they are split by camera."""
    sampler: ProxySamplerSettings = ProxySamplerSettings()
    """The batches of an epoch."""
    augment: AugmentSettings = AugmentSettings()
    """The view that is trained on."""

    @property
    def batch(self) -> int:
        """Crops per step."""
        return self.sampler.batch

    @property
    def whole_batches(self) -> str | None:
        """A sum over cameras of means is not that of its pieces."""
        return None if self.aggregation == "batch_mean" else "aggregation camera_sum: set method.aggregation=batch_mean"


class OnlineSettings(ProxySettings):
    """What the methods with an online association set alike."""

    instance_weight: float = Field(default=0.15, ge=0, le=1)
    """w, the weight of the crop's own similarities beside those of its proxy."""
    online_positives: int = Field(default=3, ge=1)
    """k_pos. At most one per camera that has proxies, so two cameras never give more than two."""
    exclude_siblings: bool = False
    """Keep proxies of the own cluster out of the online Q, so that the two losses never pull in opposite directions."""


@dataclass(frozen=True, slots=True)
class Bank:
    """The M proxies of an epoch. `memory.rows` moves, the rest stays."""

    memory: Memory  # (M, D) float32 unit rows
    clusters: Tensor  # (M,) int64
    cameras: Tensor  # (M,) int64, cameras that have proxies, numbered from 0 without gaps

    def siblings(self, labels: Tensor) -> Tensor:
        """Proxies (B,) int64 → (B, M) bool: the proxies of the same cluster, the own one included."""
        return self.clusters[labels][:, None] == self.clusters

    def beside(self, labels: Tensor) -> Tensor:
        """Proxies (B,) int64 → (B, M) bool: the proxies of the same camera, the own one included."""
        return self.cameras[labels][:, None] == self.cameras

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"memory": self.memory.rows, "clusters": self.clusters, "cameras": self.cameras}


def bank_of(features: NDArray[np.float32], proxies: Proxies, settings: ProxySettings, device: torch.device) -> Bank:
    """The bank of (N, D) float32 unit rows: every row of the memory is the normalised mean of its proxy's crops."""
    clustered = proxies.labels >= 0
    members, labels = torch.from_numpy(features[clustered]), torch.from_numpy(proxies.labels[clustered])
    rows = normalize(label_means(members, labels, len(proxies)), dim=1)
    cameras = np.unique(proxies.cameras, return_inverse=True)[1].reshape(-1)
    state = {"memory": rows, "clusters": torch.from_numpy(proxies.clusters), "cameras": torch.from_numpy(cameras)}
    return bank_from(state, settings, device)


def bank_from(state: dict[str, Tensor], settings: ProxySettings, device: torch.device) -> Bank:
    """The bank that `Bank.state` was taken from."""
    rows, clusters, cameras = (state[name].to(device) for name in ("memory", "clusters", "cameras"))
    return Bank(Memory(rows, settings.temperature, settings.momentum), clusters, cameras)


def empty_bank(dimension: int, settings: ProxySettings, device: torch.device) -> Bank:
    """Before the first epoch."""
    none = torch.zeros(0, dtype=torch.int64)
    return bank_from({"memory": torch.zeros(0, dimension), "clusters": none, "cameras": none}, settings, device)


def need_cameras(cameras: NDArray[np.int64]) -> None:
    """`DataError` unless every crop (N,) has a camera: said before the first epoch, not in the first one that clusters
    such a crop."""
    unknown = np.flatnonzero(cameras < 0)
    if len(unknown):
        raise DataError(
            f"{len(unknown)} of {len(cameras)} crops have no camera number (the first is crop {unknown[0]}), and "
            "camera-aware proxies need one for every crop: name the cameras, or train a method that does without"
        )


def proxy_facts(proxies: Proxies, cameras: NDArray[np.int64]) -> dict[str, float]:
    """For the log: proxies, cameras (of all crops (N,)) that have none, and of offline association the mean |P| and the
    mean floor log|P| of a crop's loss, in which every proxy counts once, as in the batches."""
    siblings = np.bincount(proxies.clusters)[proxies.clusters]
    empty = np.setdiff1d(cameras, proxies.cameras)
    return {
        "proxies": float(len(proxies)),
        "empty_cameras": float(len(empty)),
        "offline_positives": float(siblings.mean()),
        "offline_floor": float(np.log(siblings).mean()),
    }
