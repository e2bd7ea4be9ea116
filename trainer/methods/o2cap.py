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
    Aggregation,
    Bank,
    OnlineSettings,
    bank_from,
    bank_of,
    empty_bank,
    need_cameras,
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


def offline_nce(logits: Tensor, labels: Tensor, bank: Bank, settings: O2capSettings) -> Tensor:
    """(B,) offline losses, for logits (B, M) = s and the crops' proxies (B,) int64."""
    return association_nce(logits, bank.siblings(labels), logits, settings.hard_negatives)


def online_nce(logits: Tensor, labels: Tensor, bank: Bank, settings: O2capSettings) -> Tensor:
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
    """Losses (B,) of crops from cameras (B,) int64 → the scalar L above, or their mean; 0 of no crop.

    In L a crop weighs 1/|B_c|, and L grows with the number of cameras in the batch: losses of different batches do not
    compare. The mean is free of both.
    """
    if rule == "batch_mean":
        return losses.sum() / max(1, len(losses))
    sizes = (cameras[:, None] == cameras).sum(1)  # (B,) |B_c| of each crop's camera
    return (losses / sizes).sum()
