"""O2CAP: Wang et al., "Offline-Online Associated Camera-Aware Proxies for Unsupervised Person Re-identification" (IEEE
TIP 2022), arXiv 2201.05820.

Symbols: N crops, M proxies (cluster × camera), K (M, D) one row per proxy, f_i unit feature, y_i proxy of crop i, τ
temperature, s_i = K·f_i / τ, μ momentum of the old row, w instance weight, k_pos online positives, B_c crops of the
batch from camera c. Both losses are −1/|P| Σ_{p ∈ P} log( exp(s_i[p]) / Σ_{j ∈ P ∪ Q} exp(s_i[j]) ), on sets of their
own:

    l_off(i): P_i = the proxies of crop i's cluster, its own included;   Q_i = the 50 largest of s_i outside P_i
    l_on(i):  b_i = w s_i + (1 − w) K·K[y_i] / τ, as K is now;   t_c = argmax of b_i among the proxies of camera c
              P_i = the k_pos largest of t_1, t_2, …;   Q_i = the 50 largest of b_i outside P_i
    L = Σ_c 1/|B_c| Σ_{i ∈ B_c} ( l_off(i) + l_on(i) )
    after the step, crop by crop: K[y_i] ← normalize(μ·K[y_i] + (1 − μ)·f_i)

Every epoch: extract all crops → k-reciprocal Jaccard → DBSCAN → split the clusters by camera → K_p = normalized mean of
the members → 400 batches of 8 proxies × 4 crops. Outliers are left out, of Q as well. The own camera is one of the
cameras c, so the own proxy is an online positive unless another of its camera is closer than cosine 0.94 to it. No
cluster is asked online: P may hold proxies of other clusters, and Q the rest of the own one (`exclude_siblings`).

Deviations from the authors' code (Terminator8758/O2CAP, a893b7a): memories move after the optimiser's step instead of
inside backward (the same numbers: K is saved before). Where the code fails or learns from a negative: a camera without
proxies is left out; k_pos is at most the number of cameras with proxies; Q is smaller where M < k_pos + 50; fewer than
two clusters end the run with a `DataError`. The intra-camera loss, switched off and broken there, is left out. The
learning rate moves every step, not every epoch; pictures are resized bilinearly. With one camera both losses are
Cluster-Contrast's, over the 50 nearest other rows.
An addition that is off by default: `exclude_siblings`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainer.clustering.camera import split_by_camera
from trainer.data.batch import Batch, Epoch
from trainer.data.records import Crops
from trainer.data.samplers import plan_proxy_batches
from trainer.data.transforms import Augment, Transform
from trainer.labels import facts_of, pseudo_labels
from trainer.methods.base import Extract
from trainer.models.embedder import Embedder
from trainer.parallel import gather
from trainer.proxies import (
    Bank,
    OnlineSettings,
    bank_from,
    bank_of,
    empty_bank,
    need_cameras,
    offline_nce,
    online_nce,
    online_positives,
    over_cameras,
    proxy_facts,
)

BLOCK = 256  # proxies that are looked at together for the log


class O2capSettings(OnlineSettings):
    """O2CAP, with the values of the released code."""

    name: Literal["o2cap"] = "o2cap"


class Out(NamedTuple):
    """One step's features."""

    features: Tensor  # (B, D) float32 unit rows


class O2CAP:
    """The method as `trainer.methods.base.Method` asks for it."""

    def __init__(self, network: Embedder, crops: Crops, settings: O2capSettings, seed: int) -> None:
        need_cameras(crops.cameras)
        self.network = network
        self.crops = crops
        self.settings = settings
        self.seed = seed
        self.device = network.neck.weight.device
        self.bank = empty_bank(network.dimension, settings, self.device)

    def views(self) -> tuple[Transform, ...]:
        return (Augment(self.settings.augment),)

    def start_epoch(self, epoch: int, extract: Extract) -> Epoch:
        features, cameras = extract(), self.crops.cameras
        result = pseudo_labels(features, self.crops, self.settings.labels)
        proxies = split_by_camera(result.labels, cameras)
        self.bank = bank_of(features, proxies, self.settings, self.device)
        generator = np.random.default_rng((self.seed, epoch))
        batches = plan_proxy_batches(proxies.labels, self.settings.sampler, generator)
        strange = {"online_strangers": strangers(self.bank, self.settings.online_positives)}
        return Epoch(proxies.labels, batches, {**facts_of(result), **proxy_facts(proxies, cameras), **strange})

    def forward(self, batch: Batch) -> Out:
        return Out(gather(self.network(batch.views[0])))

    def losses(self, out: Out, batch: Batch) -> dict[str, Tensor]:
        settings, bank = self.settings, self.bank
        logits = bank.memory.logits(out.features)
        offline, online = (loss(logits, batch.label, bank, settings) for loss in (offline_nce, online_nce))
        return {
            "offline": over_cameras(offline, batch.camera, settings.aggregation),
            "online": over_cameras(online, batch.camera, settings.aggregation),
        }

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


def strangers(bank: Bank, count: int) -> float:
    """Share of the online positives that lie outside the own cluster, for f_i = K[y_i]; for the log."""
    outside = total = 0
    for labels in torch.arange(len(bank.clusters), device=bank.clusters.device).split(BLOCK):
        positives = online_positives(bank.memory.logits(bank.memory.rows[labels]), bank.cameras, count)
        outside += int((positives & ~bank.siblings(labels)).sum())
        total += int(positives.sum())
    return outside / total
