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
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from trainer.clustering.dbscan import DbscanSettings, core_crops
from trainer.clustering.jaccard import Graph, jaccard_graph
from trainer.clustering.knn import nearest
from trainer.clustering.recluster import Clustering
from trainer.data.batch import Batch, Epoch
from trainer.data.records import Crops
from trainer.data.samplers import SamplerSettings, plan_batches
from trainer.data.transforms import Augment, AugmentSettings, Transform
from trainer.labels import LabelSettings, camera_centred, facts_of, pseudo_labels
from trainer.memory import Memory, label_means
from trainer.methods.base import Extract
from trainer.models.embedder import Embedder
from trainer.parallel import gather
from trainer.settings import Settings

Others = Literal["crops", "clusters", "nearest"]
ALL_PAIRS = 0.9999  # reach of the Jaccard graph: every pair with anything in common
BLOCK = 1024  # crops compared with all others at once


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
    relation: Literal["cosine", "jaccard"] = "cosine"
    """What relates two crops at the start of an epoch: f_i·f_j, or 1 − the Jaccard distance the clusters come from."""
    others: Others = "crops"
    """Relation to other clusters: mean over their crops, mean over the clusters' means, or the nearest crop alone.
    `nearest` compares all crops, O(N²·D)."""
    negatives: Literal["own", "inter"] = "own"
    """Negatives of the intra term: the intra proxies of other clusters, or their inter proxies."""
    samples: int = Field(default=1, ge=1)
    """Members whose mean is a proxy; 1 = the member itself."""
    guard: float = Field(default=0.0, ge=0, lt=1)
    """Share of a cluster's members with the smallest r_intra that may not be its intra proxy, such as 0.1; 0 = none."""
    update: Literal["relation", "sequential", "hardest", "frozen"] = "relation"
    """How proxies follow the batch: as above, by every crop (CM), by the crop least similar to the proxy (CM_Hard), or
    not at all inside an epoch."""
    labels: LabelSettings = LabelSettings()
    """The pseudo labels of an epoch."""
    sampler: SamplerSettings = SamplerSettings()
    """The batches of an epoch."""
    augment: AugmentSettings = AugmentSettings()
    """The view that is trained on."""


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
        inter, intra = self._relations(features, result, rows, labels)
        far_out = lowest(inter, labels, settings.samples)
        far_in = lowest(intra, labels, settings.samples, settings.guard)
        self.inter = self._memory(average(rows, labels, far_out))
        self.intra = self._memory(average(rows, labels, far_in))
        density = DbscanSettings(eps=result.eps, min_samples=settings.labels.clustering.dbscan.min_samples)
        core = core_crops(result.graph, density)[members[far_in.cpu().numpy()]]
        facts = {
            "intra_proxies_not_core": float(1 - core.mean()),
            "intra_proxies_relation": float(intra[far_in].mean()),
            "inter_proxies_relation": float(inter[far_out].mean()),
        }
        generator = np.random.default_rng((self.seed, epoch))
        batches = plan_batches(result.labels, self.crops.cameras, settings.sampler, generator)
        return Epoch(result.labels, batches, {**facts_of(result), **facts})

    def forward(self, batch: Batch) -> Out:
        return Out(gather(self.network(batch.views[0])))

    def losses(self, out: Out, batch: Batch) -> dict[str, Tensor]:
        settings, labels = self.settings, batch.label
        inter, intra = self.inter.logits(out.features), self.intra.logits(out.features)
        if settings.negatives == "inter":
            intra = torch.where(own_column(intra, labels), intra, inter)
        return {
            "inter": settings.inter_weight * cross_entropy(inter, labels),
            "intra": settings.intra_weight * cross_entropy(intra, labels),
        }

    def after_step(self, out: Out, batch: Batch) -> None:
        settings, features, labels = self.settings, out.features.detach(), batch.label
        if settings.update == "frozen":
            return
        if settings.update != "relation":
            self.inter.update(features, labels, settings.update)
            self.intra.update(features, labels, settings.update)
            return
        present, place = labels.unique(return_inverse=True)
        outside = inter_to_proxies(features, labels, self.inter.rows, settings.others)
        far_out = average(features, place, lowest(outside, place, settings.samples))
        inside = intra_relations(features, place)
        far_in = average(features, place, lowest(inside, place, settings.samples, settings.guard))
        self.inter.update(far_out, present, "sequential")
        self.intra.update(far_in, present, "sequential")

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

    def _relations(
        self, features: NDArray[np.float32], result: Clustering, rows: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """r_inter and r_intra (n,) of the clustered crops `rows` (n, D)."""
        settings = self.settings
        if settings.relation == "cosine":
            return inter_relations(rows, labels, settings.others), intra_relations(rows, labels)
        if settings.labels.camera_centred:
            features = camera_centred(features, self.crops.cameras)
        neighbours = nearest(features, settings.labels.clustering.jaccard.k1, settings.labels.clustering.neighbours)
        # the clusters' own graph ends at eps, where nearly all that joins two clusters begins
        graph = jaccard_graph(
            features, neighbours, settings.labels.clustering.jaccard, ALL_PAIRS, settings.labels.clustering.workers
        )
        inter, intra = jaccard_relations(graph, result.labels, settings.others)
        clustered = result.labels >= 0
        first, second = (torch.from_numpy(values[clustered]).to(rows) for values in (inter, intra))
        return first, second


def inter_relations(features: Tensor, labels: Tensor, others: Others = "crops") -> Tensor:
    """r_inter (n,) of (n, D) unit rows with labels (n,) int64, each of 0…K-1 present; 0 everywhere where K is 1."""
    if others == "nearest":
        return _nearest_outside(features, labels)
    sizes = torch.bincount(labels).to(features.dtype)
    weights = sizes if others == "crops" else torch.ones_like(sizes)
    sums = label_means(features, labels, len(sizes)) * weights[:, None]
    outside = (features @ sums.sum(0)) - (features * sums[labels]).sum(1)
    return outside / (weights.sum() - weights)[labels].clamp(min=1) * (len(sizes) > 1)


def _nearest_outside(features: Tensor, labels: Tensor) -> Tensor:
    """(n,) largest similarity to a crop of another cluster."""
    if not labels.any():
        return torch.zeros_like(features[:, 0])
    blocks = [
        (part @ features.T).masked_fill(own[:, None] == labels, -torch.inf).amax(1)
        for part, own in zip(features.split(BLOCK), labels.split(BLOCK), strict=True)
    ]
    return torch.cat(blocks)


def inter_to_proxies(features: Tensor, labels: Tensor, proxies: Tensor, others: Others = "crops") -> Tensor:
    """r_inter (B,) of a batch: mean similarity to the proxies (K, D) of other clusters, or the largest one."""
    if len(proxies) == 1:
        return torch.zeros_like(features[:, 0])
    similarity = features @ proxies.T
    own = own_column(similarity, labels)
    if others == "nearest":
        return similarity.masked_fill(own, -torch.inf).amax(1)
    return similarity.masked_fill(own, 0).sum(1) / (len(proxies) - 1)


def intra_relations(features: Tensor, labels: Tensor) -> Tensor:
    """r_intra (n,) of (n, D) unit rows with labels (n,) int64, each of 0…K-1 present."""
    sizes = torch.bincount(labels)
    sums = label_means(features, labels, len(sizes)) * sizes[:, None]
    mates = (sizes - 1)[labels]
    inside = ((features * sums[labels]).sum(1) - 1) / mates.clamp(min=1)
    return torch.where(mates == 0, torch.ones_like(inside), inside)


def jaccard_relations(
    graph: Graph, labels: NDArray[np.int64], others: Others = "crops"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """r_inter and r_intra (N,) float64 by 1 − Jaccard distance, pairs beyond the graph's reach counted as 0.

    Values of outliers mean nothing.
    """
    pairs, count = graph.both(), len(labels)
    rows = np.repeat(np.arange(count), np.diff(pairs.starts))
    keep = (labels[rows] >= 0) & (labels[pairs.columns] >= 0)
    rows, columns, closeness = rows[keep], pairs.columns[keep], 1.0 - pairs.values[keep]
    sizes = np.bincount(labels[labels >= 0])
    same = labels[rows] == labels[columns]
    mates = sizes[labels] - 1
    intra = np.bincount(rows[same], closeness[same], count) / np.maximum(mates, 1)
    intra[mates == 0] = 1
    rows, columns, closeness = rows[~same], columns[~same], closeness[~same]
    if others == "nearest":
        inter = np.zeros(count)
        np.maximum.at(inter, rows, closeness)
        return inter, intra
    weights = np.ones(len(sizes)) if others == "crops" else 1 / sizes
    total = weights @ sizes - (weights * sizes)[labels]
    return np.bincount(rows, closeness * weights[labels[columns]], count) / np.maximum(total, 1), intra


def lowest(relations: Tensor, labels: Tensor, samples: int, guard: float = 0.0) -> Tensor:
    """Numbers of the `samples` crops of each label with the smallest relation (n,), labels ascending; labels (n,)
    int64, each of 0…K-1 present. Of n_k crops, the ⌈guard·(n_k − 1)⌉ smallest are passed over."""
    order = torch.argsort(relations.round(decimals=5), stable=True)
    order = order[torch.argsort(labels[order], stable=True)]
    sizes = torch.bincount(labels)
    skipped = (guard * (sizes - 1).double() - 1e-9).ceil().long()  # 1e-9: 0.1·30 is 3, not 3.0000000000000004
    first = sizes.cumsum(0) - sizes + skipped
    rank = torch.arange(len(labels), device=labels.device) - first.repeat_interleave(sizes)
    return order[(rank >= 0) & (rank < samples)]


def average(features: Tensor, labels: Tensor, chosen: Tensor) -> Tensor:
    """(K, D) unit rows: the normalised mean of each label's chosen crops; the crop itself, bit for bit, of one."""
    count = int(labels.max()) + 1
    means = label_means(features[chosen], labels[chosen], count)
    alone = torch.bincount(labels[chosen], minlength=count) == 1
    return torch.where(alone[:, None], means, normalize(means, dim=1))


def own_column(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K) bool: the column of each row's own label."""
    return torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
