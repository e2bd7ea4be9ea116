"""SpCL without a source domain: Ge et al., "Self-paced Contrastive Learning with Hybrid Memory" (NeurIPS 2020).

Symbols: M (N, D) one row per crop, τ temperature, μ momentum of the old row, y_i label; every outlier is a label of
its own.

    s̄_k = mean over the rows of label k of f_i·M_j / τ
    L = mean_i −log( exp(s̄_{y_i}) / (Σ_k exp(s̄_k) + 1e-6) + 1e-6 );    after the step: M[i] ← normalize(μ·M[i] + (1
    − μ)·f_i)

The memory is filled once, by an extraction, and is what later epochs are clustered on. Self-paced: with clusters at
eps and at eps ∓ Δ, a crop is *compact* by 1 − |tight ∩ here| / |tight ∪ here| and *independent* by the same with the
loose clusters (both are distances, small is good). A cluster whose smallest independence exceeds a threshold (90 % of
the clusters of the first epoch pass) is dissolved into outliers; so is a member less compact than its cluster's most
compact one.

Deviations from the authors' code (yxgeee/SpCL): memories move after the optimiser's step; ghost batch norm (16) for
its four GPUs; the sets of two partitions are compared by counting, not by N×N matrices (the same numbers).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from trainer.clustering.dbscan import DbscanSettings, dbscan
from trainer.clustering.jaccard import jaccard_graph
from trainer.clustering.knn import nearest
from trainer.clustering.quality import measure
from trainer.clustering.recluster import ClusterSettings
from trainer.data.batch import Batch, Epoch
from trainer.data.records import Crops
from trainer.data.samplers import SamplerSettings, plan_batches
from trainer.data.transforms import Augment, AugmentSettings, Transform
from trainer.errors import LabelsError
from trainer.labels import LabelSettings, outliers_alone
from trainer.memory import Memory
from trainer.methods.base import Extract
from trainer.models.embedder import Embedder
from trainer.parallel import gather
from trainer.settings import Settings

Labels = NDArray[np.int64]
PASSING = 0.9  # share of the first epoch's clusters that are independent enough


class SpclSettings(Settings):
    """SpCL, with the values of the paper."""

    name: Literal["spcl"] = "spcl"
    temperature: float = Field(default=0.05, gt=0)
    """τ."""
    momentum: float = Field(default=0.2, ge=0, lt=1)
    """μ, the weight of the old memory row."""
    clustering: ClusterSettings = ClusterSettings()
    """Neighbours, Jaccard distance, DBSCAN; eps_candidates are not used."""
    eps_gap: float = Field(default=0.02, gt=0)
    """Δ, between the eps and the tighter and looser ones."""
    sampler: SamplerSettings = SamplerSettings(clusters=16, crops=4, steps=400)
    """The batches of an epoch."""
    draw_outliers: bool = True
    """Draw outliers as clusters of one, as published; false: they only stand in the memory."""
    refill: bool = False
    """Fill the memory by an extraction in every epoch, not only in the first one, as published."""
    augment: AugmentSettings = AugmentSettings()
    """The view that is trained on."""

    @property
    def batch(self) -> int:
        """Crops per step."""
        return self.sampler.batch

    @property
    def whole_batches(self) -> None:
        """Pieces of a batch do."""

    @property
    def labels(self) -> LabelSettings:
        """How the crops are clustered for the report of a run."""
        return LabelSettings(clustering=self.clustering)


class Out(NamedTuple):
    """One step's features."""

    features: Tensor  # (B, D) float32 unit rows


class SpCL:
    """The method as `trainer.methods.base.Method` asks for it."""

    def __init__(self, network: Embedder, crops: Crops, settings: SpclSettings, seed: int) -> None:
        self.network = network
        self.crops = crops
        self.settings = settings
        self.seed = seed
        self.device = network.neck.weight.device
        self.memory: Memory | None = None
        self.threshold: float | None = None  # of the independence, set by the first epoch
        self.classes = torch.zeros(0, dtype=torch.int64, device=self.device)  # (N,) label of each memory row

    def views(self) -> tuple[Transform, ...]:
        return (Augment(self.settings.augment),)

    def start_epoch(self, epoch: int, extract: Extract) -> Epoch:
        if self.memory is None or self.settings.refill:
            self.memory = self._memory(torch.from_numpy(extract()))
        features = self.memory.rows.cpu().numpy()
        labels, facts = self._self_paced(features)
        classes = outliers_alone(labels)
        if classes.max() < 1:
            raise LabelsError("all crops fell into one cluster, nothing can be learned from it: lower eps")
        self.classes = torch.from_numpy(classes).to(self.device)
        generator = np.random.default_rng((self.seed, epoch))
        drawn = classes if self.settings.draw_outliers else labels
        if drawn.max() < 0:
            raise LabelsError("all crops are outliers, there is no cluster to draw: raise eps, or set draw_outliers")
        return Epoch(classes, plan_batches(drawn, self.crops.cameras, self.settings.sampler, generator), facts)

    def forward(self, batch: Batch) -> Out:
        return Out(gather(self.network(batch.views[0])))

    def losses(self, out: Out, batch: Batch) -> dict[str, Tensor]:
        assert self.memory is not None
        return {"unified": unified_nce(self.memory.logits(out.features), self.classes, batch.label)}

    def after_step(self, out: Out, batch: Batch) -> None:
        assert self.memory is not None
        self.memory.update(out.features, batch.index, "sequential")

    def embedder(self) -> Embedder:
        return self.network

    def trained(self) -> Embedder:
        return self.network

    def state(self) -> dict[str, Any]:
        assert self.memory is not None
        return {"memory": self.memory.rows, "threshold": self.threshold, "classes": self.classes}

    def load_state(self, state: dict[str, Any]) -> None:
        self.memory = self._memory(state["memory"])
        self.threshold = state["threshold"]
        self.classes = state["classes"].to(self.device)

    def _memory(self, rows: Tensor) -> Memory:
        return Memory(rows.to(self.device), self.settings.temperature, self.settings.momentum)

    def _self_paced(self, features: NDArray[np.float32]) -> tuple[Labels, dict[str, float]]:
        """Labels (N,) without the clusters and members that cannot be relied on yet."""
        settings = self.settings.clustering
        eps, gap, density = settings.dbscan.eps, self.settings.eps_gap, settings.dbscan.min_samples
        neighbours = nearest(features, settings.jaccard.k1, settings.neighbours)
        graph = jaccard_graph(features, neighbours, settings.jaccard, eps + gap, settings.workers)
        tight, here, loose = (
            dbscan(graph, DbscanSettings(eps=value, min_samples=density)) for value in (eps - gap, eps, eps + gap)
        )
        compactness = set_distance(outliers_alone(here), outliers_alone(tight))
        independence = set_distance(outliers_alone(here), outliers_alone(loose))
        if self.threshold is None:
            self.threshold = independence_threshold(here, independence)
        labels = rely_on(here, compactness, independence, self.threshold)
        quality = measure(labels, graph.both(), self.crops.cameras).as_dict()
        facts = {name: float(value) for name, value in quality.items() if value is not None}
        return labels, {**facts, "eps": eps, "independence_threshold": self.threshold}


def unified_nce(logits: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
    """The loss above: logits (B, N) = f·M / τ, classes (N,) int64 of the memory rows, labels (B,) int64. A scalar."""
    count = int(classes.max()) + 1
    sums = torch.zeros(len(logits), count, device=logits.device, dtype=logits.dtype).index_add(1, classes, logits)
    means = sums / torch.bincount(classes, minlength=count)
    largest = means.detach().amax(1, keepdim=True)  # exp(s̄) of the paper overflows for small τ; 1e-6 is scaled alike
    powers = (means - largest).exp()
    tiny = 1e-6 * (-largest).exp()
    probability = powers.gather(1, labels[:, None])[:, 0] / (powers.sum(1) + tiny[:, 0])
    return -(probability + 1e-6).log().mean()


def set_distance(first: Labels, second: Labels) -> NDArray[np.float64]:
    """(N,) float64: 1 − |A ∩ B| / |A ∪ B|, A and B the crops that share crop i's label in the first and the second
    partition."""
    _, place, common = np.unique(np.stack([first, second]), axis=1, return_inverse=True, return_counts=True)
    both = common[place.reshape(-1)]
    either = np.bincount(first)[first] + np.bincount(second)[second] - both
    return 1 - both / either


def independence_threshold(labels: Labels, independence: NDArray[np.float64]) -> float:
    """The value that `PASSING` of the clusters do not exceed; 1 without clusters of two or more."""
    values = np.sort(_smallest(labels, independence)[np.bincount(labels[labels >= 0]) > 1])
    return float(values[min(len(values) - 1, round(PASSING * len(values)))]) if len(values) else 1.0


def rely_on(
    labels: Labels, compactness: NDArray[np.float64], independence: NDArray[np.float64], threshold: float
) -> Labels:
    """Labels (N,) numbered anew; −1 for crops of clusters that are not independent and for members that are not
    compact."""
    clustered = np.flatnonzero(labels >= 0)
    good = _smallest(labels, independence)[labels[clustered]] <= threshold
    good &= compactness[clustered] <= _smallest(labels, compactness)[labels[clustered]]
    result = np.full(len(labels), -1, np.int64)
    kept = clustered[good]
    result[kept] = np.unique(labels[kept], return_inverse=True)[1]
    return result


def _smallest(labels: Labels, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest value of every cluster; 1 for a cluster number without crops."""
    result = np.ones(int(labels.max(initial=-1)) + 1)
    np.minimum.at(result, labels[labels >= 0], values[labels >= 0])
    return result
