"""Crosslane: our own method, made of what the papers' methods do best and of what a site knows and benchmarks hide.

Symbols: N crops, f_i unit feature, K (M, D) one unit row per proxy, y_i proxy of crop i, τ temperature, s_i = K·f_i /
τ, μ momentum of the old row, w instance weight, k_pos online positives, λ weight of the online term. Both losses are
−1/|P| Σ_{p ∈ P} log( exp(s_i[p]) / Σ_{j ∈ P ∪ Q} exp(s_i[j]) ), on sets of their own:

    l_off(i): P_i = the proxies of crop i's cluster, its own included;   Q_i = the 50 largest of s_i outside P_i
    l_on(i):  b_i = w s_i + (1 − w) K·K[y_i] / τ;   P_i = the best proxy of each of the k_pos best cameras, in b_i
              Q_i = the 50 largest of b_i outside P_i and outside crop i's cluster
    L = mean_i l_off(i) + λ l_on(i);    after the step, crop by crop: K[y_i] ← normalize(μ·K[y_i] + (1 − μ)·f_i)

What is taken, and what is new:

- From CAP and O2CAP: one row per cluster and camera, batches balanced over them, offline and online association.
- Proxies of the own cluster are never pushed away online (in O2CAP the two losses pull many of them both ways), and
  every crop weighs the same (there, a crop of a camera that is rare in the batch weighs most).
- From SpCL: a crop without a cluster keeps a row of its own. It is something to stay away from, and may be found as an
  online positive; so a third of the crops is not lost while the clusters are still poor.
- Labels: each camera's mean is taken away before crops are compared; eps is chosen anew in every epoch, without labels,
  by the silhouette, and k1, k2 and min_samples by how many crops an identity seems to have; crops of one tracklet are
  pulled together, and tracks that one camera saw at the same time are kept apart (`trainer.clustering.site`); how long
  the ways between cameras take is learned from the clusters, which are then found anew with what time says
  (`trainer.clustering.transit`).

Everything falls back: crops without a camera number count as one camera more; without tracklets and times the labels
come from the pictures alone.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from trainer.clustering.camera import split_by_camera
from trainer.clustering.jaccard import JaccardSettings
from trainer.clustering.recluster import ClusterSettings
from trainer.data.batch import Batch, Epoch
from trainer.data.records import Crops
from trainer.data.samplers import ProxySamplerSettings, plan_proxy_batches
from trainer.data.transforms import Augment, Transform
from trainer.labels import LabelSettings, facts_of, outliers_alone, pseudo_labels
from trainer.methods.base import Extract
from trainer.models.embedder import Embedder
from trainer.parallel import gather
from trainer.proxies import (
    Aggregation,
    Bank,
    OnlineSettings,
    bank_from,
    bank_of,
    empty_bank,
    proxy_facts,
)

CLUSTERS = ClusterSettings(
    jaccard=JaccardSettings(k1=30, k2=6), eps_candidates=(0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
)


class CrosslaneSettings(OnlineSettings):
    """Our method."""

    name: Literal["crosslane"] = "crosslane"
    labels: LabelSettings = LabelSettings(
        clustering=CLUSTERS, camera_centred=True, track_weight=0.25, keep_apart=True, transits=True, fit=True
    )
    """The clusters of an epoch, before they are split by camera."""
    sampler: ProxySamplerSettings = ProxySamplerSettings(proxies=16, crops=4, steps="crops")
    """The batches of an epoch."""
    aggregation: Aggregation = "batch_mean"
    """`batch_mean` weighs all crops alike; `camera_sum` as CAP and O2CAP."""
    online_weight: float = Field(default=1.0, ge=0)
    """λ; 0 leaves the online term out."""
    exclude_siblings: bool = True
    """Keep proxies of the own cluster out of the online Q."""
    singles: bool = True
    """Keep a row for every crop without a cluster. Such crops are not drawn."""


class Out(NamedTuple):
    """One step's features."""

    features: Tensor  # (B, D) float32 unit rows


class Crosslane:
    """The method as `trainer.methods.base.Method` asks for it."""

    def __init__(self, network: Embedder, crops: Crops, settings: CrosslaneSettings, seed: int) -> None:
        self.network = network
        self.crops = crops
        self.settings = settings
        self.seed = seed
        self.device = network.neck.weight.device
        self.cameras = np.where(crops.cameras < 0, crops.cameras.max() + 1, crops.cameras)
        self.bank = empty_bank(network.dimension, settings, self.device)

    def views(self) -> tuple[Transform, ...]:
        return (Augment(self.settings.augment),)

    def start_epoch(self, epoch: int, extract: Extract) -> Epoch:
        features = extract()
        result = pseudo_labels(features, self.crops, self.settings.labels)
        proxies = rows = split_by_camera(result.labels, self.cameras)
        if self.settings.singles:  # they come after the proxies, whose numbers stay
            rows = split_by_camera(outliers_alone(result.labels), self.cameras)
        self.bank = bank_of(features, rows, self.settings, self.device)
        generator = np.random.default_rng((self.seed, epoch))
        batches = plan_proxy_batches(proxies.labels, self.settings.sampler, generator)
        return Epoch(proxies.labels, batches, {**facts_of(result), **proxy_facts(proxies, self.cameras)})

    def forward(self, batch: Batch) -> Out:
        return Out(gather(self.network(batch.views[0])))

    def losses(self, out: Out, batch: Batch) -> dict[str, Tensor]:
        settings, bank = self.settings, self.bank
        logits = bank.memory.logits(out.features)
        offline = offline_nce(logits, batch.label, bank, settings)
        losses = {"offline": over_cameras(offline, batch.camera, settings.aggregation)}
        if settings.online_weight:
            online = online_nce(logits, batch.label, bank, settings)
            losses["online"] = settings.online_weight * over_cameras(online, batch.camera, settings.aggregation)
        return losses

    def after_step(self, out: Out, batch: Batch) -> None:
        self.bank.memory.update(out.features, batch.label, "sequential")

    def embedder(self) -> Embedder:
        return self.network

    def trained(self) -> Embedder:
        return self.network

    def state(self) -> dict[str, Any]:
        return self.bank.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.bank = bank_from(state, self.settings, self.device)


def association_nce(logits: Tensor, positives: Tensor, ranking: Tensor, count: int) -> Tensor:
    """(B,) losses on the sets P and Q above, for logits (B, M) = s and positives (B, M) bool = P, one at least.

    Q are the `count` proxies outside P that are largest in `ranking` (B, M), fewer where there are no more; −inf keeps
    a proxy out of Q. The sets carry no gradient. At least log|P|, which is 0 for one positive only.
    """
    outside = ranking.detach().masked_fill(positives, -torch.inf)
    hardest = outside.topk(min(count, outside.shape[1]), dim=1)
    negatives = torch.zeros_like(positives).scatter(1, hardest.indices, hardest.values > -torch.inf)
    chosen = logits.masked_fill(~(positives | negatives), -torch.inf)
    return chosen.logsumexp(1) - (logits * positives).sum(1) / positives.sum(1)


def offline_nce(logits: Tensor, labels: Tensor, bank: Bank, settings: CrosslaneSettings) -> Tensor:
    """(B,) offline losses, for logits (B, M) = s and the crops' proxies (B,) int64."""
    return association_nce(logits, bank.siblings(labels), logits, settings.hard_negatives)


def online_nce(logits: Tensor, labels: Tensor, bank: Bank, settings: CrosslaneSettings) -> Tensor:
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
    """Losses (B,) of crops from cameras (B,) int64 → their mean, or CAP's sum over cameras of means; 0 of no crop."""
    if rule == "batch_mean":
        return losses.sum() / max(1, len(losses))
    sizes = (cameras[:, None] == cameras).sum(1)  # (B,) |B_c| of each crop's camera
    return (losses / sizes).sum()
