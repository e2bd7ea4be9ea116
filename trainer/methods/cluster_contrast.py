"""Cluster-Contrast: Dai et al., "Cluster Contrast for Unsupervised Person Re-Identification" (ACCV 2022).

Symbols: N crops, K clusters, f_i unit feature, y_i pseudo label, M (K, D) one row per cluster, τ temperature, μ
momentum of the old row.

    L = mean_i −log softmax(f_i·M / τ)[y_i];    after the step, crop by crop: M[y_i] ← normalize(μ·M[y_i] + (1 − μ)·f_i)

Every epoch: extract all crops → k-reciprocal Jaccard → DBSCAN → M_k = normalized mean of the members → `steps`
batches of P clusters × Z crops. Outliers are left out.

Deviations from the authors' code (alibaba/cluster-contrast-reid): memories move after the optimiser's step instead of
inside backward (the same numbers: M is saved before); batch norm groups are a setting; bilinear resizing; a pass over
fewer clusters than a batch needs is joined with the next instead of ending the program.
An addition that is off by default, `labels.camera_centred`, removes each camera's mean feature before clustering.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from trainer.data.batch import Batch, Epoch
from trainer.data.records import Crops
from trainer.data.samplers import SamplerSettings, plan_batches
from trainer.data.transforms import Augment, AugmentSettings, Transform
from trainer.labels import LabelSettings, facts_of, pseudo_labels
from trainer.memory import Memory, Update, label_means
from trainer.methods.base import Extract
from trainer.models.embedder import Embedder
from trainer.parallel import gather
from trainer.settings import Settings


class ClusterContrastSettings(Settings):
    """Cluster-Contrast, with the values of the paper."""

    name: Literal["cluster_contrast"] = "cluster_contrast"
    temperature: float = Field(default=0.05, gt=0)
    """τ."""
    momentum: float = Field(default=0.1, ge=0, lt=1)
    """μ, the weight of the old memory row."""
    update: Update = "sequential"
    """`sequential` is the authors' CM, `hardest` their CM_Hard."""
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


class ClusterContrast:
    """The method as `trainer.methods.base.Method` asks for it."""

    def __init__(self, network: Embedder, crops: Crops, settings: ClusterContrastSettings, seed: int) -> None:
        self.network = network
        self.crops = crops
        self.settings = settings
        self.seed = seed
        self.memory = self._memory(torch.zeros(0, network.dimension, device=network.neck.weight.device))

    def views(self) -> tuple[Transform, ...]:
        return (Augment(self.settings.augment),)

    def start_epoch(self, epoch: int, extract: Extract) -> Epoch:
        features = extract()
        result = pseudo_labels(features, self.crops, self.settings.labels)
        clustered = result.labels >= 0
        members = torch.from_numpy(features[clustered])
        means = label_means(members, torch.from_numpy(result.labels[clustered]), int(result.labels.max()) + 1)
        self.memory = self._memory(normalize(means, dim=1).to(self.memory.rows.device))
        generator = np.random.default_rng((self.seed, epoch))
        batches = plan_batches(result.labels, self.crops.cameras, self.settings.sampler, generator)
        return Epoch(result.labels, batches, facts_of(result))

    def forward(self, batch: Batch) -> Out:
        return Out(gather(self.network(batch.views[0])))

    def losses(self, out: Out, batch: Batch) -> dict[str, Tensor]:
        return {"cluster": cluster_nce(out.features, self.memory, batch.label)}

    def after_step(self, out: Out, batch: Batch) -> None:
        self.memory.update(out.features, batch.label, self.settings.update)

    def embedder(self) -> Embedder:
        return self.network

    def trained(self) -> Embedder:
        return self.network

    def state(self) -> dict[str, Any]:
        return {"memory": self.memory.rows}

    def load_state(self, state: dict[str, Any]) -> None:
        self.memory = self._memory(state["memory"].to(self.memory.rows.device))

    def _memory(self, rows: Tensor) -> Memory:
        return Memory(rows, self.settings.temperature, self.settings.momentum)


def cluster_nce(features: Tensor, memory: Memory, labels: Tensor) -> Tensor:
    """mean_i −log softmax(f_i·M / τ)[y_i] for (B, D) unit rows and labels (B,) int64: a scalar, float32.

    Source: Cluster-Contrast, Dai et al. (ACCV 2022), equation of the cluster-level InfoNCE. GRACL and TCRL use it
    with banks of their own.
    """
    return cross_entropy(memory.logits(features), labels)
