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
`part_bank: copy` is cheaper by a pass over the crops: M^P = U^G; with μ = 0.1 a row is nine tenths masked feature after
its first visit. Outliers are neither trained on nor negatives. With batches in pieces, w and n are those of a piece.
Bank and logits in float32: 2·N·D·4 bytes, and a few B×N arrays a step.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot, softplus

from trainer.data.batch import Batch, Epoch
from trainer.data.masks import Masked, MaskSettings
from trainer.data.records import Crops
from trainer.data.samplers import SamplerSettings, plan_batches
from trainer.data.transforms import Augment, AugmentSettings, Transform
from trainer.labels import LabelSettings, facts_of, pseudo_labels
from trainer.memory import Memory, Update, label_means
from trainer.methods.base import Extract
from trainer.models.embedder import Embedder
from trainer.parallel import gather
from trainer.settings import Settings

UNMOVED = AugmentSettings(flip=0, pad_px=0, erase=0)
Contrast = Literal["instances", "mean", "unit_mean", "hardest", "supcon"]


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
    weighting: Literal["label", "agreement", "batch", "soft_target", "update"] = "label"
    """Softmax over the crops of the label; the same with s the mean of u^G and u^P; over the whole batch; w, at most 1,
    is the share of the label in a target that is the network's own softmax otherwise; w in the update of M^C only."""
    hcl: Contrast = "instances"
    """Positives: each row; the rows' mean; that normalised; the least similar row; each row, against the others too."""
    own_row: bool = True
    """The crop's own old row is one of its positives."""
    pcl: Literal["instance", "proxy", "symmetric"] = "instance"
    """What meets M^C: the refreshed row; the mean of a cluster's rows, the batch's refreshed; the refreshed row, and in
    turn M^C against the rows of crops, one half each."""
    outliers: Literal["left_out", "negatives"] = "left_out"
    """Outliers' rows are negatives of HCL, or not."""
    hcl_whole: float = Field(default=1.0, ge=0)
    """Weight of HCL(G)."""
    hcl_part: float = Field(default=1.0, ge=0)
    """Weight of HCL(P). Without this and `pcl_part`, masked pictures are not computed."""
    pcl_whole: float = Field(default=1.0, ge=0)
    """Weight of PCL(G)."""
    pcl_part: float = Field(default=1.0, ge=0)
    """Weight of PCL(P)."""
    cluster_update: Update = "mean"
    """How M^C follows the batch; `sequential` is Cluster-Contrast's."""
    part_bank: Literal["copy", "extract", "keep"] = "extract"
    """M^P at the start of an epoch: features of masked pictures, a copy of U^G, or as the last epoch left it."""
    one_call: bool = False
    """Masked and whole pictures in one forward pass, in turn, so that batch norm sees both."""
    mask: MaskSettings = MaskSettings()
    """The squares of the masked view."""
    labels: LabelSettings = LabelSettings()
    """The pseudo labels of an epoch."""
    sampler: SamplerSettings = SamplerSettings(steps=400)
    """The batches of an epoch."""
    augment: AugmentSettings = AugmentSettings()
    """The view of whole pictures; the masked view shares its flip and shift and has no erasing."""

    @property
    def parts(self) -> bool:
        """Whether masked pictures are needed."""
        return self.hcl_part > 0 or self.pcl_part > 0 or self.weighting == "agreement"


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
        if self.settings.one_call:
            both = self.network(torch.stack([masked, clean], 1).flatten(0, 1))
            return Out(gather(both[1::2]), gather(both[::2]))
        part = gather(self.network(masked))  # before the whole pictures: running statistics end on these
        return Out(gather(self.network(clean)), part)

    def losses(self, out: Out, batch: Batch) -> dict[str, Tensor]:
        settings = self.settings
        terms = {"wrccl": self._wrccl(out, batch.label)}
        own = batch.label[:, None] == self.classes  # (B, N)
        negative = ~own if settings.outliers == "negatives" else ~own & (self.classes >= 0)
        positive = own if settings.own_row else own.scatter(1, batch.index[:, None], False)
        flows = (
            ("whole", out.whole, self.whole, settings.hcl_whole, settings.pcl_whole),
            ("part", out.part, self.part, settings.hcl_part, settings.pcl_part),
        )
        for name, features, bank, hcl_weight, pcl_weight in flows:
            if hcl_weight:
                terms[f"hcl_{name}"] = hcl_weight * hcl(features, bank, positive, negative, settings.hcl)
            if pcl_weight:
                terms[f"pcl_{name}"] = pcl_weight * self._pcl(features, bank, batch, negative)
        return terms

    def after_step(self, out: Out, batch: Batch) -> None:
        if self.settings.weighting == "update":  # the weights of a label average 1: this is its weighted mean
            weighted = self._weights(out, batch.label)[:, None] * out.whole.detach()
            self.clusters.update(weighted, batch.label, "mean")
        else:
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
        if self.settings.part_bank == "keep" and len(self.part.rows):
            return self.part.rows
        if self.settings.part_bank == "extract" and self.settings.parts:
            return torch.from_numpy(extract(Masked(UNMOVED, self.settings.mask), seed))
        return whole

    def _remember(self, clusters: Tensor, whole: Tensor, part: Tensor, classes: Tensor) -> None:
        """Banks of their own, none of them shared, and the label (N,) int64 of every crop's row."""
        settings, device = self.settings, self.device
        self.clusters = Memory(clusters.to(device).clone(), settings.temperature, settings.momentum)
        self.whole, self.part = (
            Memory(rows.to(device).clone(), settings.temperature, settings.crop_momentum) for rows in (whole, part)
        )
        self.classes = classes.to(device)

    def _wrccl(self, out: Out, labels: Tensor) -> Tensor:
        logits, weighting = self.clusters.logits(out.whole), self.settings.weighting
        if weighting == "update":
            return cross_entropy(logits, labels)
        weights = self._weights(out, labels)
        if weighting == "soft_target":
            hard = weights.clamp(max=1)[:, None]
            own = one_hot(labels, logits.shape[1])
            return cross_entropy(logits, hard * own + (1 - hard) * logits.detach().softmax(1))
        return (weights * cross_entropy(logits, labels, reduction="none")).mean()

    def _weights(self, out: Out, labels: Tensor) -> Tensor:
        """w (B,), without gradient."""
        similarity = (out.whole.detach().float() * self.clusters.rows[labels]).sum(1)
        if self.settings.weighting == "agreement":
            similarity = (similarity + (out.part.detach().float() * self.clusters.rows[labels]).sum(1)) / 2
        groups = torch.zeros_like(labels) if self.settings.weighting == "batch" else labels
        return crop_weights(similarity, groups, self.settings.weight_temperature or math.inf)

    def _pcl(self, features: Tensor, bank: Memory, batch: Batch, negative: Tensor) -> Tensor:
        fresh = refreshed(features, bank, batch.index)
        if self.settings.pcl == "proxy":
            proxies = fresh_proxies(fresh, bank, batch.index, self.classes)
            return cross_entropy(self.clusters.logits(proxies), batch.label.unique())
        forth = cross_entropy(self.clusters.logits(fresh), batch.label)
        if self.settings.pcl == "instance":
            return forth
        query = self.clusters.rows[batch.label]
        back = softplus(_against(bank.logits(query), negative) - (query * fresh).sum(1) / bank.temperature)
        return (forth + back.mean()) / 2


def crop_weights(similarity: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """w (B,): n·softmax of the similarities (B,) / t_w over the n crops of each group (B,) int64; their mean is 1."""
    _, place, sizes = groups.unique(return_inverse=True, return_counts=True)
    scores = similarity / temperature
    largest = scores.new_full((len(sizes),), -torch.inf).scatter_reduce(0, place, scores, "amax")
    powers = (scores - largest[place]).exp()
    return powers / label_means(powers[:, None], place, len(sizes))[place, 0]


def hcl(features: Tensor, bank: Memory, positive: Tensor, negative: Tensor, form: Contrast) -> Tensor:
    """HCL of (B, D) unit rows against the bank (N, D); positive, negative (B, N) bool. A crop without positives counts
    as 0."""
    logits = bank.logits(features)
    share = positive.to(logits.dtype) / positive.sum(1, keepdim=True).clamp(min=1)
    against, mean = _against(logits, negative), (share * logits).sum(1)
    if form == "instances":
        terms = (share * softplus(against[:, None] - logits)).sum(1)
    elif form == "supcon":
        terms = _against(logits, positive | negative) - mean
    elif form == "hardest":
        terms = softplus(against - logits.masked_fill(~positive, torch.inf).amin(1))
    else:
        length = (share @ bank.rows).norm(dim=1).clamp(min=1e-6) if form == "unit_mean" else 1.0
        terms = softplus(against - mean / length)
    return torch.where(positive.any(1), terms, 0.0).mean()


def _against(logits: Tensor, chosen: Tensor) -> Tensor:
    """(B,) log Σ exp of the chosen logits (B, N); far below any logit where none is chosen, not −∞, which has no
    gradient."""
    return logits.masked_fill(~chosen, torch.finfo(logits.dtype).min).logsumexp(1)


def refreshed(features: Tensor, bank: Memory, index: Tensor) -> Tensor:
    """a (B, D): the batch's rows as the update after the step will leave them, with a gradient to the features."""
    old = bank.rows[index].detach()
    return normalize(bank.momentum * old + (1 - bank.momentum) * features.float(), dim=1)


def fresh_proxies(fresh: Tensor, bank: Memory, index: Tensor, classes: Tensor) -> Tensor:
    """(labels of the batch, ascending; D): normalised mean of each label's rows (N, D), the batch's rows refreshed.

    A crop that was drawn twice counts as the mean of both.
    """
    crops, drawn = index.unique(return_inverse=True)
    change = label_means(fresh, drawn, len(crops)) - bank.rows[crops]
    present, place = classes[crops].unique(return_inverse=True)
    members = torch.isin(classes, present)
    where = torch.searchsorted(present, classes[members])
    sizes = torch.bincount(where)[:, None]
    old = label_means(bank.rows[members], where, len(present)) * sizes
    return normalize(old + torch.zeros_like(old).index_add(0, place, change), dim=1)
