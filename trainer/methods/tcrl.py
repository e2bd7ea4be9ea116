"""TCRL: whole pictures and their parts meet in the clusters (arXiv 2301.09498; vehicles).

This is a reading of a paper without code: of the abstracts of its two versions and of its figures, set on
Cluster-Contrast (Dai et al., ACCV 2022). "Parts" are what black squares leave of a picture, through the same network.

Symbols: u^G_i, u^P_i unit features of crop i and of its masked picture; y_i pseudo label; M^G, M^P (N, D) one row per
crop, by the crop's number among *all* crops; M^C (K, D) one row per cluster; τ temperature; μ momentum of the old row;
CE(z, y) = −log softmax(z)[y]. A is G or P.

    WRCCL   mean_i w_i·CE(u^G_i·M^C / τ, y_i),   w_i = n·softmax of s / t_w over the n crops of y_i in the batch,
            s_i = u^G_i·M^C[y_i] without gradient: a label's weights average 1, a crop far from its cluster has less
    HCL(A)  mean_i −1/|Pos| Σ_{p ∈ Pos} log( e^{u·p/τ} / (e^{u·p/τ} + Σ_{n ∈ Neg} e^{u·n/τ}) ),   u = u^A_i,
            Pos the rows of M^A with label y_i, its own old row among them, Neg the rows with any other label ≥ 0
    PCL(A)  mean_i CE(a_i·M^C / τ, y_i),   a_i = normalize(μ·M^A[i] + (1 − μ)·u^A_i): the row refreshed, with gradient
    L = WRCCL + HCL(G) + HCL(P) + PCL(P) + PCL(G), weights 1

After the step: M^G[i], M^P[i] ← normalize(μ·old + (1 − μ)·u_i), M^C[k] by the mean of the batch's u^G of k. The masked
forward pass is first, so that running statistics end on whole pictures. Only whole pictures are used afterwards.

Every epoch begins with M^C = means of U^G, M^G = U^G and M^P from masked pictures, squares drawn anew for every epoch.
Outliers are neither trained on nor negatives. With batches in pieces, w and n are those of a piece. Bank and logits in
float32: 2·N·D·4 bytes, and a few B×N arrays a step.

What the paper leaves open, and what can be set: HCL's positives are instance features in arXiv v2 and cluster features
in v1 (`hcl: mean`, u·p is the mean over Pos); how M^C follows inside an epoch (`cluster_update`); how sharp the weights
are (t_w; a share of the similarities' sum, as a later paper has it, is nearly t_w = 0.8). PCL(G) takes back most of
what the weights do: they count with `pcl_whole: 0` only.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from trainer.data.batch import Batch, Epoch
from trainer.data.masks import Masked, MaskSettings
from trainer.data.records import Crops
from trainer.data.samplers import SamplerSettings, plan_batches
from trainer.data.transforms import Augment, AugmentSettings, Transform
from trainer.labels import LabelSettings, facts_of, pseudo_labels
from trainer.memory import Memory, label_means
from trainer.methods.base import Extract
from trainer.models.embedder import Embedder
from trainer.parallel import gather
from trainer.settings import Settings

UNMOVED = AugmentSettings(flip=0, pad_px=0, erase=0)
Contrast = Literal["instances", "mean"]


class TcrlSettings(Settings):
    """TCRL; each choice names the default first."""

    name: Literal["tcrl"] = "tcrl"
    temperature: float = Field(default=0.05, gt=0)
    """τ."""
    momentum: float = Field(default=0.1, ge=0, lt=1)
    """μ of the cluster rows."""
    crop_momentum: float = Field(default=0.1, ge=0, lt=1)
    """μ of the rows of crops; SpCL takes 0.2."""
    weight_temperature: float | None = Field(default=0.1, gt=0, allow_inf_nan=False)
    """t_w; null weighs all crops alike (t_w → ∞), which is Cluster-Contrast's loss."""
    hcl: Contrast = "instances"
    """Positives: each row, or the rows' mean."""
    hcl_whole: float = Field(default=1.0, ge=0)
    """Weight of HCL(G)."""
    hcl_part: float = Field(default=1.0, ge=0)
    """Weight of HCL(P). Without this and `pcl_part`, masked pictures are not computed."""
    pcl_whole: float = Field(default=1.0, ge=0)
    """Weight of PCL(G)."""
    pcl_part: float = Field(default=1.0, ge=0)
    """Weight of PCL(P)."""
    cluster_update: Literal["mean", "sequential"] = "mean"
    """How M^C follows the batch; `sequential` is Cluster-Contrast's."""
    mask: MaskSettings = MaskSettings()
    """The squares of the masked view."""
    labels: LabelSettings = LabelSettings()
    """The pseudo labels of an epoch."""
    sampler: SamplerSettings = SamplerSettings(steps=400)
    """The batches of an epoch."""
    augment: AugmentSettings = AugmentSettings()
    """The view of whole pictures; the masked view shares its flip and shift and has no erasing."""

    @property
    def batch(self) -> int:
        """Crops per step."""
        return self.sampler.batch

    @property
    def whole_batches(self) -> None:
        """Pieces of a batch do."""

    @property
    def parts(self) -> bool:
        """Whether masked pictures are needed."""
        return self.hcl_part > 0 or self.pcl_part > 0


class Out(NamedTuple):
    """One step's features."""

    whole: Tensor  # (B, D) float32 unit rows, u^G
    part: Tensor  # (B, D) float32 unit rows, u^P; u^G again where parts are not computed


class TCRL:
    """The method as `trainer.methods.base.Method` asks for it."""

    def __init__(self, network: Embedder, crops: Crops, settings: TcrlSettings, seed: int) -> None:
        self.network = network
        self.crops = crops
        self.settings = settings
        self.seed = seed
        self.device = network.neck.weight.device
        nothing = torch.zeros(0, network.dimension)
        self._remember(nothing, nothing, nothing, torch.zeros(0, dtype=torch.int64))

    def views(self) -> tuple[Transform, ...]:
        whole = Augment(self.settings.augment)
        return (whole, Masked(self.settings.augment, self.settings.mask)) if self.settings.parts else (whole,)

    def start_epoch(self, epoch: int, extract: Extract) -> Epoch:
        features = extract()
        result = pseudo_labels(features, self.crops, self.settings.labels)
        rows, classes = torch.from_numpy(features), torch.from_numpy(result.labels)
        means = label_means(rows[classes >= 0], classes[classes >= 0], int(classes.max()) + 1)
        generator = np.random.default_rng((self.seed, epoch))
        batches = plan_batches(result.labels, self.crops.cameras, self.settings.sampler, generator)
        part = self._part_rows(rows, extract, int(generator.integers(2**63)))
        self._remember(normalize(means, dim=1), rows, part, classes)
        return Epoch(result.labels, batches, facts_of(result))

    def forward(self, batch: Batch) -> Out:
        if not self.settings.parts:
            whole = gather(self.network(batch.views[0]))
            return Out(whole, whole)
        clean, masked = batch.views
        part = gather(self.network(masked))  # before the whole pictures: running statistics end on these
        return Out(gather(self.network(clean)), part)

    def losses(self, out: Out, batch: Batch) -> dict[str, Tensor]:
        settings = self.settings
        terms = {"wrccl": self._wrccl(out, batch.label)}
        own = batch.label[:, None] == self.classes  # (B, N)
        others = ~own & (self.classes >= 0)
        flows = (
            ("whole", out.whole, self.whole, settings.hcl_whole, settings.pcl_whole),
            ("part", out.part, self.part, settings.hcl_part, settings.pcl_part),
        )
        for name, features, bank, hcl_weight, pcl_weight in flows:
            if hcl_weight:
                terms[f"hcl_{name}"] = hcl_weight * hcl(features, bank, own, others, settings.hcl)
            if pcl_weight:
                terms[f"pcl_{name}"] = pcl_weight * self._pcl(features, bank, batch)
        return terms

    def after_step(self, out: Out, batch: Batch) -> None:
        self.clusters.update(out.whole, batch.label, self.settings.cluster_update)
        self.whole.update(out.whole, batch.index, "sequential")
        if self.settings.parts:
            self.part.update(out.part, batch.index, "sequential")

    def embedder(self) -> Embedder:
        return self.network

    def trained(self) -> Embedder:
        return self.network

    def state(self) -> dict[str, Any]:
        banks = {"clusters": self.clusters.rows, "whole": self.whole.rows, "part": self.part.rows}
        return {**banks, "classes": self.classes}

    def load_state(self, state: dict[str, Any]) -> None:
        self._remember(state["clusters"], state["whole"], state["part"], state["classes"])

    def _part_rows(self, whole: Tensor, extract: Extract, seed: int) -> Tensor:
        """M^P (N, D) at the start of an epoch, `whole` being U^G."""
        return torch.from_numpy(extract(Masked(UNMOVED, self.settings.mask), seed)) if self.settings.parts else whole

    def _remember(self, clusters: Tensor, whole: Tensor, part: Tensor, classes: Tensor) -> None:
        """Banks of their own, none of them shared, and the label (N,) int64 of every crop's row."""
        settings, device = self.settings, self.device
        self.clusters = Memory(clusters.to(device).clone(), settings.temperature, settings.momentum)
        self.whole, self.part = (
            Memory(rows.to(device).clone(), settings.temperature, settings.crop_momentum) for rows in (whole, part)
        )
        self.classes = classes.to(device)

    def _wrccl(self, out: Out, labels: Tensor) -> Tensor:
        similarity = (out.whole.detach().float() * self.clusters.rows[labels]).sum(1)
        weights = crop_weights(similarity, labels, self.settings.weight_temperature or math.inf)
        return (weights * cross_entropy(self.clusters.logits(out.whole), labels, reduction="none")).mean()

    def _pcl(self, features: Tensor, bank: Memory, batch: Batch) -> Tensor:
        return cross_entropy(self.clusters.logits(refreshed(features, bank, batch.index)), batch.label)


def crop_weights(similarity: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """w (B,): n·softmax of the similarities (B,) / t_w over the n crops of each label (B,) int64; their mean is 1."""
    _, place, sizes = labels.unique(return_inverse=True, return_counts=True)
    scores = similarity / temperature
    largest = scores.new_full((len(sizes),), -torch.inf).scatter_reduce(0, place, scores, "amax")
    powers = (scores - largest[place]).exp()
    return powers / label_means(powers[:, None], place, len(sizes))[place, 0]


def hcl(features: Tensor, bank: Memory, own: Tensor, others: Tensor, form: Contrast) -> Tensor:
    """HCL of (B, D) unit rows against the bank (N, D); own, others (B, N) bool: Pos and Neg, one of Pos at least."""
    logits = bank.logits(features)
    share = own.to(logits.dtype) / own.sum(1, keepdim=True)
    # far below any logit where there is no other cluster, not −∞, which has no gradient
    against = logits.masked_fill(~others, torch.finfo(logits.dtype).min).logsumexp(1)
    if form == "mean":
        return softplus(against - (share * logits).sum(1)).mean()
    return (share * softplus(against[:, None] - logits)).sum(1).mean()


def refreshed(features: Tensor, bank: Memory, index: Tensor) -> Tensor:
    """a (B, D): the batch's rows as the update after the step will leave them, with a gradient to the features."""
    old = bank.rows[index].detach()
    return normalize(bank.momentum * old + (1 - bank.momentum) * features.float(), dim=1)
