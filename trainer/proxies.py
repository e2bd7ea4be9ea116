"""Camera-aware proxies in memory: what CAP (arXiv 2012.10674) and O2CAP (arXiv 2201.05820) share.

Symbols: f_i unit feature, M proxies with unit rows K_p, one per (cluster, camera) pair that has a crop, y_i proxy of
crop i, s_i = K·f_i / τ, P_i proxies that crop i should be near to, Q_i hard negatives, B_c crops of the batch from
camera c.

    l(i) = −1/|P_i| Σ_{p ∈ P_i} log( exp(s_i[p]) / Σ_{j ∈ P_i ∪ Q_i} exp(s_i[j]) )        `association_nce`
    L = Σ_c 1/|B_c| Σ_{i ∈ B_c} l(i)                                                      `over_cameras`

l is cross entropy with the target 1/|P_i| on P_i: at least log|P_i|, which is 0 for one proxy only. In L a crop weighs
1/|B_c|, and L grows with the number of cameras in the batch, so losses of different batches do not compare, and the sum
over a batch in pieces (`accumulate`) is not that over the whole; the mean over the batch is free of both.
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


def association_nce(logits: Tensor, positives: Tensor, ranking: Tensor, count: int) -> Tensor:
    """(B,) losses l above, for logits (B, M) = s and positives (B, M) bool = P, at least one in every row.

    Q are the `count` proxies outside P that are largest in `ranking` (B, M), fewer where there are no more; −inf keeps
    a proxy out of Q. The sets carry no gradient. Offline association: P all proxies of the crop's cluster, ranking =
    logits.
    """
    outside = ranking.detach().masked_fill(positives, -torch.inf)
    hardest = outside.topk(min(count, outside.shape[1]), dim=1)
    negatives = torch.zeros_like(positives).scatter(1, hardest.indices, hardest.values > -torch.inf)
    chosen = logits.masked_fill(~(positives | negatives), -torch.inf)
    return chosen.logsumexp(1) - (logits * positives).sum(1) / positives.sum(1)


def offline_nce(logits: Tensor, labels: Tensor, bank: Bank, settings: ProxySettings) -> Tensor:
    """(B,) offline losses, for logits (B, M) = s and the crops' proxies (B,) int64."""
    return association_nce(logits, bank.siblings(labels), logits, settings.hard_negatives)


def online_nce(logits: Tensor, labels: Tensor, bank: Bank, settings: OnlineSettings) -> Tensor:
    """(B,) online losses, for logits (B, M) = s and the crops' proxies (B,) int64; the bank as it is now."""
    blend = blended(logits, bank.memory.logits(bank.memory.rows[labels]), settings.instance_weight)
    positives = online_positives(blend, bank.cameras, settings.online_positives)
    ranking = blend.masked_fill(bank.siblings(labels), -torch.inf) if settings.exclude_siblings else blend
    return association_nce(logits, positives, ranking, settings.hard_negatives)


def blended(logits: Tensor, between: Tensor, weight: float) -> Tensor:
    """b (B, M) of the crops' logits (B, M) and of those of their proxies; no gradient."""
    return weight * logits.detach() + (1 - weight) * between.detach()


def online_positives(blend: Tensor, cameras: Tensor, count: int) -> Tensor:
    """P (B, M) bool: in every row of b (B, M) the best proxy of each of the `count` best cameras.

    `cameras` (M,) int64 from 0 without gaps. Fewer where there are fewer cameras; the first of equals.
    """
    known = int(cameras.max()) + 1
    best = blend.new_full((len(blend), known), -torch.inf)
    best = best.scatter_reduce(1, cameras.expand_as(blend), blend, "amax")  # (B, C) b[t_c]
    chosen = best.topk(min(count, known), dim=1).indices  # (B, k) cameras
    elsewhere = chosen[:, :, None] != cameras  # (B, k, M)
    picks = blend[:, None, :].masked_fill(elsewhere, -torch.inf).argmax(2)  # (B, k) proxies
    return torch.zeros_like(blend, dtype=torch.bool).scatter(1, picks, True)


def over_cameras(losses: Tensor, cameras: Tensor, rule: Aggregation) -> Tensor:
    """Losses (B,) of crops from cameras (B,) int64 → the scalar L above, or their mean; 0 of no crop."""
    if rule == "batch_mean":
        return losses.sum() / max(1, len(losses))
    sizes = (cameras[:, None] == cameras).sum(1)  # (B,) |B_c| of each crop's camera
    return (losses / sizes).sum()
