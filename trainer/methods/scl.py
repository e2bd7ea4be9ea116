"""SCL: Pang et al., "Fully Unsupervised Person Re-identification via Selective Contrastive Learning" (ACM TOMM 2022,
arXiv 2010.07608). No clustering: every crop of a batch ranks all crops, in every step.

Symbols: N crops; g_i (D) unit feature of the whole crop; l_i (D) its S stripe features side by side, each a unit row of
D / S, length √S; G, L (N, D) the banks of both, M (N, D) the mixture; P positives, Q negatives; τ temperature.

    d_ij = λ·‖g_i − G_j‖² + (1 − λ)·mean_s ‖l_i^s − L_j^s‖² + λ_c·[camera_i = camera_j]
    k_i = [i, its P nearest, the next Q];    in the first epochs, warm-up, [i, P + Q at random]
    L(x) = mean_i Σ_j c_j·(−log softmax(x_i·M[k_i] / τ)[j]);    c = [λ_t, P times α·(1 − λ_t) / P], in warm-up [λ_t]
    L = λ_p·L(l) + (1 − λ_p)·L(g)

After the step G and L follow their crops, row ← normalize(½·row + ½·new). M follows *both* features, in the row of the
crop **and in those of its positives**: l into that of positive P, …, 1 and of the crop itself, then g likewise.

Deviations from the authors' code (pangbo1997/Unsup_ReID):
- g is the embedder's own feature (pooling, batch norm without bias), not pooling, linear layer, batch norm: what is
  compared in training is what is exported. The stripes are for training only, and the test measures g alone.
- G and L start at zero and take their first value in warm-up, so it lasts an epoch at least. The authors fill them by
  a pass in training mode, of which their three epochs of warm-up leave an eighth.
- The random negatives of warm-up never hold the crop itself; theirs do where it is removed by place, not by number.
- The stripes share out all rows of a map whose height they do not divide; the last batch of an epoch is filled up.
- `writeback: clean` has the gradient of the loss as written. `faithful` has theirs, in which each of the 2·(P + 1)
  terms writes into M before the next one reads it; for whole batches (accumulate 1).
- No Nesterov momentum in the optimiser.

A crop without a camera number is of another camera than all others, so SCL runs without them. Memory law: 12·N·D bytes.
Cost law of a step above the network: 6·B·N·D multiply-adds.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from trainer.data.batch import Batch, Epoch
from trainer.data.records import Crops
from trainer.data.transforms import Augment, AugmentSettings, Transform
from trainer.errors import DataError
from trainer.labels import LabelSettings
from trainer.memory import sequential
from trainer.methods.base import Extract
from trainer.models.embedder import Embedder
from trainer.models.stripes import stripe_heads
from trainer.parallel import gather
from trainer.settings import Settings

RANKED_AT_ONCE = 64  # crops whose (n, N) distances exist at a time


class SclSettings(Settings):
    """SCL, with the values of the authors' runs; their gradient is `writeback: faithful`."""

    name: Literal["scl"] = "scl"
    temperature: float = Field(default=0.1, gt=0)
    """τ."""
    batch: int = Field(default=8, ge=2)
    """Crops per step; an epoch is one pass over all crops."""
    positives: int = Field(default=7, ge=1)
    """P, nearest crops taken for the same identity."""
    negatives: int = Field(default=500, ge=1)
    """Q, the crops ranked next; all others where there are fewer."""
    own_weight: float = Field(default=0.5, gt=0, le=1)
    """λ_t, weight of the crop's own row; 0.1 collapsed in the authors' runs."""
    positive_mass: float = Field(default=1.75, ge=0)
    """α, scales what is left for the positives."""
    whole_share: float = Field(default=0.5, ge=0, le=1)
    """λ, share of the whole crop in the ranking; the stripes have the rest."""
    camera_weight: float = Field(default=0.05, ge=0)
    """λ_c, added to the distance of two crops of one camera; 0 ranks without camera numbers."""
    stripe_loss: float = Field(default=0.3, ge=0, le=1)
    """λ_p, share of the stripes in the loss."""
    stripes: int = Field(default=8, ge=1)
    """S, horizontal parts; the feature map needs as many rows."""
    momentum: float = Field(default=0.5, ge=0, lt=1)
    """Weight of the old row in all three banks."""
    warmup_epochs: int = Field(default=3, ge=1)
    """Epochs in which a crop is its only positive."""
    writeback: Literal["clean", "faithful"] = "clean"
    """`clean` is the gradient of the loss; `faithful` the authors', for parity, with a copy of M in every step."""
    labels: LabelSettings = LabelSettings()
    """How the crops are clustered for the report of a run; training does not cluster."""
    augment: AugmentSettings = AugmentSettings(pad_px=0, erase=0)
    """The view that is trained on; the authors mirror only."""

    @property
    def whole_batches(self) -> str | None:
        """What is written back in a step is read in it."""
        return None if self.writeback == "clean" else "writeback faithful: set method.writeback=clean"


class Out(NamedTuple):
    """One step's features and what they are compared with."""

    whole: Tensor  # (B, D) float32 unit rows
    stripes: Tensor  # (B, D) float32 rows of length √S
    keys: Tensor  # (B, 1 + P + Q) int64: the crop, the nearest, the next ones


class Crowd(NamedTuple):
    """What crops are ranked by: those of a batch, or all of them from the banks."""

    whole: Tensor  # (n, D) float32 unit rows
    stripes: Tensor  # (n, D) float32 rows of length √S
    cameras: Tensor  # (n,) int64


class SCL:
    """The method as `trainer.methods.base.Method` asks for it."""

    def __init__(self, network: Embedder, crops: Crops, settings: SclSettings, seed: int) -> None:
        self.network = network
        self.crops = crops
        self.settings = settings
        self.seed = seed
        self.device = network.neck.weight.device
        self.heads = stripe_heads(network, settings.stripes)
        self.cameras = torch.from_numpy(crops.cameras).to(self.device)
        self.coefficients = torch.tensor(coefficients(settings), device=self.device)
        banks = (torch.zeros(len(crops), network.dimension, device=self.device) for _ in range(3))
        self.whole, self.stripes, self.mixture = banks  # G, L and M; a row is zero until its crop has been seen
        self.epoch, self.step = 0, 0

    def views(self) -> tuple[Transform, ...]:
        return (Augment(self.settings.augment),)

    def start_epoch(self, epoch: int, extract: Extract) -> Epoch:
        """Every crop is a label of its own: nobody says which belong together, and rows, not labels, are looked up."""
        count, needed = len(self.crops), max(self.settings.batch, self.settings.positives + 2)
        if count < needed:
            raise DataError(
                f"{count} crops, but a batch of {self.settings.batch} and {self.settings.positives} positives with a "
                f"negative need at least {needed}: lower method.batch and method.positives, or give more crops"
            )
        self.epoch, self.step = epoch, 0
        order = np.random.default_rng((self.seed, epoch)).permutation(count)
        batches = np.resize(order, (-(-count // self.settings.batch), self.settings.batch))  # the end is filled up
        known = bool((self.crops.cameras >= 0).any())
        facts = {"positives": float(self._positives), "camera_weight": self.settings.camera_weight * known}
        return Epoch(np.arange(count), batches, facts)

    def forward(self, batch: Batch) -> Out:
        maps = self.network.maps(batch.views[0])
        whole, stripes = gather(self.network.embed(maps)), gather(self.heads(maps))
        return Out(whole, stripes, self._keys(whole.detach(), stripes.detach(), batch))

    def losses(self, out: Out, batch: Batch) -> dict[str, Tensor]:
        weights, temperature = self.coefficients[: 1 + self._positives], self.settings.temperature
        features = (out.stripes, out.whole)
        terms = [selective_nce(key_logits(rows, self.mixture, out.keys, temperature), weights) for rows in features]
        if self.settings.writeback == "faithful":
            gradients = stale_gradients(self.mixture, out, weights, self.settings)
            terms = [with_gradient(*parts) for parts in zip(terms, features, gradients, strict=True)]
        share = self.settings.stripe_loss
        return {"stripes": share * terms[0], "whole": (1 - share) * terms[1]}

    @torch.no_grad()
    def after_step(self, out: Out, batch: Batch) -> None:
        momentum, stripes = self.settings.momentum, self.settings.stripes
        sequential(self.whole, out.whole, batch.index, momentum)
        parts = batch.index[:, None] * stripes + torch.arange(stripes, device=self.device)
        memory, features = (rows.view(len(rows) * stripes, -1) for rows in (self.stripes, out.stripes))
        sequential(memory, features, parts.flatten(), momentum)
        write_back(self.mixture, out, 1 + self._positives, momentum)
        self.step += 1

    def embedder(self) -> Embedder:
        return self.network

    def trained(self) -> nn.Module:
        return nn.ModuleDict({"embedder": self.network, "heads": self.heads})

    def state(self) -> dict[str, Any]:
        banks = {"whole": self.whole, "stripes": self.stripes, "mixture": self.mixture}
        return {**banks, "epoch": self.epoch, "step": self.step}

    def load_state(self, state: dict[str, Any]) -> None:
        banks = (state[name].to(self.device) for name in ("whole", "stripes", "mixture"))
        self.whole, self.stripes, self.mixture = banks
        self.epoch, self.step = state["epoch"], state["step"]

    @property
    def _positives(self) -> int:
        return 0 if self.epoch < self.settings.warmup_epochs else self.settings.positives

    @torch.no_grad()
    def _keys(self, whole: Tensor, stripes: Tensor, batch: Batch) -> Tensor:
        """(B, 1 + P + Q) int64, see above."""
        count = min(self.settings.positives + self.settings.negatives, len(self.crops) - 1)
        if not self._positives:
            order = np.random.default_rng((self.seed, self.epoch, self.step)).permutation(len(self.crops))
            return random_keys(batch.index, torch.from_numpy(order[: count + 1]).to(self.device))
        seen = Crowd(self.whole, self.stripes, self.cameras)
        pieces = [part.split(RANKED_AT_ONCE) for part in (whole, stripes, batch.camera)]
        distances = (ranking_distances(Crowd(*piece), seen, self.settings) for piece in zip(*pieces, strict=True))
        owns = batch.index.split(RANKED_AT_ONCE)
        keys = (nearest_keys(own, block, self._positives, count) for own, block in zip(owns, distances, strict=True))
        return torch.cat(list(keys))


def coefficients(settings: SclSettings) -> list[float]:
    """c (1 + P)."""
    rest = settings.positive_mass * (1 - settings.own_weight) / settings.positives
    return [settings.own_weight] + [rest] * settings.positives


def same_camera(first: Tensor, second: Tensor) -> Tensor:
    """(B,) and (N,) int64 camera numbers → (B, N) bool; −1 is the same as no other."""
    return torch.where(first < 0, -2, first)[:, None] == second


def ranking_distances(crops: Crowd, others: Crowd, settings: SclSettings) -> Tensor:
    """d (n, N), in two products that add up in place; 2 is what λ and 1 − λ of 2 − 2·a·b add up to."""
    share, weight = settings.whole_share, settings.camera_weight
    start = same_camera(crops.cameras, others.cameras).to(crops.whole.dtype).mul_(weight).add_(2)
    whole = start.addmm_(crops.whole, others.whole.T, alpha=-2 * share)
    return whole.addmm_(crops.stripes, others.stripes.T, alpha=-2 * (1 - share) / settings.stripes)


def nearest_keys(own: Tensor, distances: Tensor, positives: int, count: int) -> Tensor:
    """(B, 1 + count) int64: the crop `own` (B,) itself, then the `count` others nearest by the distances (B, N): the
    `positives` nearest in order, the rest in any, which spares a third of the search."""
    others = distances.scatter(1, own[:, None], torch.inf)
    found = others.topk(count, largest=False, sorted=False)
    nearest = found.values.topk(positives, largest=False).indices
    rest = torch.ones_like(found.indices, dtype=torch.bool).scatter_(1, nearest, False)
    return torch.cat([own[:, None], found.indices.gather(1, nearest), found.indices[rest].view(len(own), -1)], 1)


def random_keys(own: Tensor, order: Tensor) -> Tensor:
    """(B, R + 1) int64: the crop `own` (B,) itself, then the first R others of the random order (R + 1,)."""
    others = order.expand(len(own), -1)
    kept = others != own[:, None]
    kept[:, -1] &= ~kept.all(1)
    return torch.cat([own[:, None], others[kept].view(len(own), -1)], 1)


def key_logits(features: Tensor, mixture: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """x·M[k] / τ (B, K) for x (B, D). Compared with all rows first: faster than K copied rows for every crop."""
    return (features @ mixture.T).gather(1, keys) / temperature


def selective_nce(logits: Tensor, weights: Tensor) -> Tensor:
    """L(x) above for x·M[k] / τ (B, K) and c (1 + P,): a scalar."""
    return (weights.sum() * logits.logsumexp(1) - logits[:, : len(weights)] @ weights).mean()


@torch.no_grad()
def write_back(mixture: Tensor, out: Out, columns: int, momentum: float) -> None:
    """Move the rows of the first `columns` keys: stripes before whole, last key first, crops in batch order."""
    slots = out.keys[:, :columns].flip(1).T.reshape(-1)
    for rows in (out.stripes, out.whole):
        sequential(mixture, rows.repeat(columns, 1), slots, momentum)


@torch.no_grad()
def stale_gradients(mixture: Tensor, out: Out, weights: Tensor, settings: SclSettings) -> list[Tensor]:
    """∂L(l)/∂l and ∂L(g)/∂g (B, D) as the authors' backward makes them: softmax of the old rows, keys of the rows
    that the terms before have written."""
    staged, gradients = mixture.clone(), []
    for rows in (out.stripes, out.whole):
        probabilities = key_logits(rows, mixture, out.keys, settings.temperature).softmax(1)
        gradient = torch.zeros_like(rows)
        for term in reversed(range(len(weights))):
            error = probabilities.clone()
            error[:, term] -= 1
            gradient += weights[term] * (error[:, None] @ staged[out.keys])[:, 0]
            sequential(staged, rows, out.keys[:, term], settings.momentum)
        gradients.append(gradient / (settings.temperature * len(rows)))
    return gradients


def with_gradient(value: Tensor, features: Tensor, gradient: Tensor) -> Tensor:
    """The value, with a gradient of its own with respect to the features."""
    linear = (features * gradient).sum()
    return value.detach() + (linear - linear.detach())  # in this order: the difference is 0, and the value stays exact
