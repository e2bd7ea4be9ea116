"""CAP: Wang et al., "Camera-aware Proxies for Unsupervised Person Re-Identification" (AAAI 2021), arXiv 2012.10674.

Symbols: N crops, M proxies (cluster × camera), K (M, D) one row per proxy, f_i unit feature, y_i proxy and c_i camera
of crop i, τ temperature, s_i = K·f_i / τ, μ momentum of the old row, P_i the proxies of crop i's cluster, its own
included, Q_i the 50 largest of s_i outside P_i, B_c crops of the batch from camera c.

    l_intra(i) = −log( exp(s_i[y_i]) / Σ_{p of camera c_i} exp(s_i[p]) )
    l_off(i)   = −1/|P_i| Σ_{p ∈ P_i} log( exp(s_i[p]) / Σ_{j ∈ P_i ∪ Q_i} exp(s_i[j]) )
    L = Σ_c 1/|B_c| Σ_{i ∈ B_c} ( l_intra(i) + λ l_off(i) ),   λ = 0 before epoch 5, then 0.5
    after the step, crop by crop: K[y_i] ← normalize(μ·K[y_i] + (1 − μ)·f_i)

Every epoch: extract all crops → k-reciprocal Jaccard → DBSCAN → split the clusters by camera → K_p = normalized mean of
the members → batches of 8 proxies × 4 crops, as many as the clustered crops fill. Outliers are left out, of Q as well.

Deviations from the authors' code (Terminator8758/CAP-master, 4a04fef): memories move after the optimiser's step instead
of inside backward (the same numbers: K is saved before); proxies are numbered by cluster first; camera numbers may have
gaps; fewer than 50 negatives are no error; fewer than two clusters end the run with a `DataError`; the learning rate
moves every step, not every epoch; pictures are resized bilinearly; erased rectangles are up to 1/0.3 times as high as
wide, theirs 3; the network keeps the ReLU behind its first batch norm. An epoch over fewer proxies than a batch needs
repeats proxies.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from trainer.clustering.camera import split_by_camera
from trainer.data.batch import Batch, Epoch
from trainer.data.records import Crops
from trainer.data.samplers import ProxySamplerSettings, plan_proxy_batches
from trainer.data.transforms import Augment, AugmentSettings, Transform
from trainer.labels import facts_of, pseudo_labels
from trainer.methods.base import Extract
from trainer.models.embedder import Embedder
from trainer.parallel import gather
from trainer.proxies import (
    Aggregation,
    ProxySettings,
    bank_from,
    bank_of,
    empty_bank,
    need_cameras,
    proxy_facts,
)


class CapSettings(ProxySettings):
    """CAP, with the values of the paper."""

    name: Literal["cap"] = "cap"
    offline_weight: float = Field(default=0.5, ge=0)
    """λ, the weight of the association across cameras once it has begun."""
    offline_from_epoch: int = Field(default=5, ge=0)
    """First epoch, from 0, with the association across cameras."""
    sampler: ProxySamplerSettings = ProxySamplerSettings(steps=None)
    """The batches of an epoch."""
    augment: AugmentSettings = AugmentSettings(erase_area=(0.02, 0.2))
    """The view that is trained on."""


class Out(NamedTuple):
    """One step's features."""

    features: Tensor  # (B, D) float32 unit rows


class CAP:
    """The method as `trainer.methods.base.Method` asks for it."""

    def __init__(self, network: Embedder, crops: Crops, settings: CapSettings, seed: int) -> None:
        need_cameras(crops.cameras)
        self.network = network
        self.crops = crops
        self.settings = settings
        self.seed = seed
        self.device = network.neck.weight.device
        self.bank = empty_bank(network.dimension, settings, self.device)
        self.epoch = 0

    def views(self) -> tuple[Transform, ...]:
        return (Augment(self.settings.augment),)

    def start_epoch(self, epoch: int, extract: Extract) -> Epoch:
        features, cameras = extract(), self.crops.cameras
        result = pseudo_labels(features, self.crops, self.settings.labels)
        proxies = split_by_camera(result.labels, cameras)
        self.bank, self.epoch = bank_of(features, proxies, self.settings, self.device), epoch
        generator = np.random.default_rng((self.seed, epoch))
        batches = plan_proxy_batches(proxies.labels, self.settings.sampler, generator)
        return Epoch(proxies.labels, batches, {**facts_of(result), **proxy_facts(proxies, cameras)})

    def forward(self, batch: Batch) -> Out:
        return Out(gather(self.network(batch.views[0])))

    def losses(self, out: Out, batch: Batch) -> dict[str, Tensor]:
        settings, bank = self.settings, self.bank
        logits = bank.memory.logits(out.features)
        intra = intra_nce(logits, bank.beside(batch.label), batch.label)
        terms = {"intra": over_cameras(intra, batch.camera, settings.aggregation)}
        if self.epoch >= settings.offline_from_epoch:
            offline = offline_nce(logits, bank.siblings(batch.label), settings.hard_negatives)
            terms["offline"] = settings.offline_weight * over_cameras(offline, batch.camera, settings.aggregation)
        return terms

    def after_step(self, out: Out, batch: Batch) -> None:
        self.bank.memory.update(out.features, batch.label, "sequential")

    def embedder(self) -> Embedder:
        return self.network

    def trained(self) -> Embedder:
        return self.network

    def state(self) -> dict[str, Any]:
        return {**self.bank.state(), "epoch": self.epoch}

    def load_state(self, state: dict[str, Any]) -> None:
        self.bank, self.epoch = bank_from(state, self.settings, self.device), state["epoch"]


def intra_nce(logits: Tensor, beside: Tensor, labels: Tensor) -> Tensor:
    """(B,) losses l_intra, for logits (B, M) = s, `beside` (B, M) bool = proxies of the same camera, labels (B,)
    int64."""
    return cross_entropy(logits.masked_fill(~beside, -torch.inf), labels, reduction="none")


def offline_nce(logits: Tensor, siblings: Tensor, count: int) -> Tensor:
    """(B,) losses l_off, for logits (B, M) = s and `siblings` (B, M) bool = P, at least one in a row; Q are the `count`
    largest of s outside P, fewer where there are no more, without gradient. At least log|P|."""
    outside = logits.detach().masked_fill(siblings, -torch.inf)
    hardest = outside.topk(min(count, outside.shape[1]), dim=1)
    negatives = torch.zeros_like(siblings).scatter(1, hardest.indices, hardest.values > -torch.inf)
    chosen = logits.masked_fill(~(siblings | negatives), -torch.inf)
    return chosen.logsumexp(1) - (logits * siblings).sum(1) / siblings.sum(1)


def over_cameras(losses: Tensor, cameras: Tensor, rule: Aggregation) -> Tensor:
    """Losses (B,) of crops from cameras (B,) int64 → the scalar L above, or their mean; 0 of no crop.

    In L a crop weighs 1/|B_c|, and L grows with the number of cameras in the batch: losses of different batches do not
    compare. The mean is free of both.
    """
    if rule == "batch_mean":
        return losses.sum() / max(1, len(losses))
    sizes = (cameras[:, None] == cameras).sum(1)  # (B,) |B_c| of each crop's camera
    return (losses / sizes).sum()
