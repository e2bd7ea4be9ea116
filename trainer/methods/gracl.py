"""GRACL: two proxies per cluster, chosen by a crop's relation to all others ("global relation-aware contrastive
learning", TCSVT 2022, doi 10.1109/TCSVT.2022.3194084).

This is a reading of a paper without code, of its abstract alone, set on Cluster-Contrast (Dai et al., ACCV 2022).

Symbols: f_i unit feature, y_i pseudo label, K clusters, n_k crops of cluster k, T_k sum of their f, n = Σ n_k,
T = Σ T_k, P (K, D) proxies, τ temperature, μ momentum of the old row.

    r_inter(i) = f_i·(T − T_k) / (n − n_k), mean similarity to the crops of other clusters
    r_intra(i) = (f_i·T_k − 1) / (n_k − 1), mean similarity to the other members of k = y_i; 1 where n_k = 1
    P_inter[k] = f of the member with the smallest r_inter,   P_intra[k] = f of the one with the smallest r_intra

    L = w1 · mean_i −log softmax(f_i·P_inter / τ)[y_i] + w2 · mean_i −log softmax(f_i·P_intra / τ)[y_i]

After the step, for every label of the batch: P_inter[k] ← normalize(μ·P_inter[k] + (1 − μ)·f_b), b the crop of k in
the batch with the smallest mean similarity to the other clusters' P_inter; P_intra the same, b the crop with the
smallest mean similarity to the other crops of k in the batch. O(N·D) per epoch, one K×D product more per step.

Weak point by construction: the intra proxy is the member most likely to be wrong. The log of every epoch therefore
says which share of the intra proxies are no DBSCAN cores and how they relate to their clusters; `guard` passes the
worst members over. Relations that agree to five decimals are equal, and the first crop of equals is chosen.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from trainer.clustering.dbscan import DbscanSettings, core_crops
from trainer.data.batch import Batch, Epoch
from trainer.data.records import Crops
from trainer.data.samplers import SamplerSettings, plan_batches
from trainer.data.transforms import Augment, AugmentSettings, Transform
from trainer.labels import LabelSettings, facts_of, pseudo_labels
from trainer.memory import Memory, label_means
from trainer.methods.base import Extract
from trainer.models.embedder import Embedder
from trainer.parallel import gather
from trainer.settings import Settings


class GraclSettings(Settings):
    """GRACL; each choice names the default first."""

    name: Literal["gracl"] = "gracl"
    temperature: float = Field(default=0.05, gt=0)
    """τ."""
    momentum: float = Field(default=0.1, ge=0, lt=1)
    """μ, the weight of the old proxy."""
    inter_weight: float = Field(default=0.5, ge=0)
    """w1; with one half each, two banks of centroids give Cluster-Contrast's loss."""
    intra_weight: float = Field(default=0.5, ge=0)
    """w2."""
    guard: float = Field(default=0.0, ge=0, lt=1)
    """Share of a cluster's members with the smallest r_intra that may not be its intra proxy, such as 0.1; 0 = none."""
    update: Literal["relation", "sequential", "hardest"] = "relation"
    """How proxies follow the batch: as above, by every crop (CM), by the crop least similar to the proxy (CM_Hard)."""
    labels: LabelSettings = LabelSettings()
    """The pseudo labels of an epoch."""
    sampler: SamplerSettings = SamplerSettings()
    """The batches of an epoch."""
    augment: AugmentSettings = AugmentSettings()
    """The view that is trained on."""

    @property
    def batch(self) -> int:
        """Crops per step."""
        return self.sampler.batch

    @property
    def whole_batches(self) -> None:
        """Pieces of a batch do."""


class Out(NamedTuple):
    """One step's features."""

    features: Tensor  # (B, D) float32 unit rows


class Gracl:
    """The method as `trainer.methods.base.Method` asks for it."""

    def __init__(self, network: Embedder, crops: Crops, settings: GraclSettings, seed: int) -> None:
        self.network = network
        self.crops = crops
        self.settings = settings
        self.seed = seed
        empty = torch.zeros(0, network.dimension, device=network.neck.weight.device)
        self.inter, self.intra = self._memory(empty), self._memory(empty)

    def views(self) -> tuple[Transform, ...]:
        return (Augment(self.settings.augment),)

    def start_epoch(self, epoch: int, extract: Extract) -> Epoch:
        features, settings = extract(), self.settings
        result = pseudo_labels(features, self.crops, settings.labels)
        members = np.flatnonzero(result.labels >= 0)
        rows = torch.from_numpy(features[members]).to(self.inter.rows.device)
        labels = torch.from_numpy(result.labels[members]).to(rows.device)
        inter, intra = inter_relations(rows, labels), intra_relations(rows, labels)
        far_out, far_in = lowest(inter, labels), lowest(intra, labels, settings.guard)
        self.inter, self.intra = self._memory(rows[far_out]), self._memory(rows[far_in])
        facts = {
            "intra_proxies_relation": float(intra[far_in].mean()),
            "inter_proxies_relation": float(inter[far_out].mean()),
        }
        if not settings.labels.tracks:  # DBSCAN alone knows cores
            density = DbscanSettings(eps=result.eps, min_samples=settings.labels.clustering.dbscan.min_samples)
            core = core_crops(result.graph, density)[members[far_in.cpu().numpy()]]
            facts["intra_proxies_not_core"] = float(1 - core.mean())
        generator = np.random.default_rng((self.seed, epoch))
        batches = plan_batches(result.labels, self.crops.cameras, settings.sampler, generator)
        return Epoch(result.labels, batches, {**facts_of(result), **facts})

    def forward(self, batch: Batch) -> Out:
        return Out(gather(self.network(batch.views[0])))

    def losses(self, out: Out, batch: Batch) -> dict[str, Tensor]:
        settings, labels = self.settings, batch.label
        return {
            "inter": settings.inter_weight * cross_entropy(self.inter.logits(out.features), labels),
            "intra": settings.intra_weight * cross_entropy(self.intra.logits(out.features), labels),
        }

    def after_step(self, out: Out, batch: Batch) -> None:
        settings, features, labels = self.settings, out.features.detach(), batch.label
        if settings.update != "relation":
            self.inter.update(features, labels, settings.update)
            self.intra.update(features, labels, settings.update)
            return
        present, place = labels.unique(return_inverse=True)
        far_out = lowest(inter_to_proxies(features, labels, self.inter.rows), place)
        far_in = lowest(intra_relations(features, place), place, settings.guard)
        self.inter.update(features[far_out], present, "sequential")
        self.intra.update(features[far_in], present, "sequential")

    def embedder(self) -> Embedder:
        return self.network

    def trained(self) -> Embedder:
        return self.network

    def state(self) -> dict[str, Any]:
        return {"inter": self.inter.rows, "intra": self.intra.rows}

    def load_state(self, state: dict[str, Any]) -> None:
        device = self.inter.rows.device
        self.inter, self.intra = (self._memory(state[name].to(device)) for name in ("inter", "intra"))

    def _memory(self, rows: Tensor) -> Memory:
        return Memory(rows, self.settings.temperature, self.settings.momentum)


def inter_relations(features: Tensor, labels: Tensor) -> Tensor:
    """r_inter (n,) of (n, D) unit rows with labels (n,) int64, each of 0…K-1 present; 0 everywhere where K is 1."""
    sizes = torch.bincount(labels).to(features.dtype)
    sums = label_means(features, labels, len(sizes)) * sizes[:, None]
    outside = (features @ sums.sum(0)) - (features * sums[labels]).sum(1)
    return outside / (sizes.sum() - sizes)[labels].clamp(min=1) * (len(sizes) > 1)


def inter_to_proxies(features: Tensor, labels: Tensor, proxies: Tensor) -> Tensor:
    """r_inter (B,) of a batch: mean similarity to the proxies (K, D) of other clusters; 0 everywhere where K is 1."""
    if len(proxies) == 1:
        return torch.zeros_like(features[:, 0])
    similarity = features @ proxies.T
    own = torch.arange(len(proxies), device=labels.device) == labels[:, None]
    return similarity.masked_fill(own, 0).sum(1) / (len(proxies) - 1)


def intra_relations(features: Tensor, labels: Tensor) -> Tensor:
    """r_intra (n,) of (n, D) unit rows with labels (n,) int64, each of 0…K-1 present."""
    sizes = torch.bincount(labels)
    sums = label_means(features, labels, len(sizes)) * sizes[:, None]
    mates = (sizes - 1)[labels]
    inside = ((features * sums[labels]).sum(1) - 1) / mates.clamp(min=1)
    return torch.where(mates == 0, torch.ones_like(inside), inside)


def lowest(relations: Tensor, labels: Tensor, guard: float = 0.0) -> Tensor:
    """(K,) number of the crop of each label with the smallest relation (n,); labels (n,) int64, each of 0…K-1 present.
    Of n_k crops, the ⌈guard·(n_k − 1)⌉ smallest are passed over."""
    order = torch.argsort(relations.round(decimals=5), stable=True)
    order = order[torch.argsort(labels[order], stable=True)]
    sizes = torch.bincount(labels)
    skipped = (guard * (sizes - 1).double() - 1e-9).ceil().long()  # 1e-9: 0.1·30 is 3, not 3.0000000000000004
    return order[sizes.cumsum(0) - sizes + skipped]
