"""One training step of every method as its authors wrote it, or would have: loops over crops, cameras and labels, and
memories that move inside backward. For timing only; a test holds loss, gradient and memory to the product.

A step is `STEPS[name](method, batch)`: it runs the method's own network on its own memories, and returns the loss; its
backward moves the memories. SpCL's mean over labels and CAP's products are single calls, as in the released codes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize, softplus

from trainer.data.batch import Batch
from trainer.methods.cap import CAP
from trainer.methods.cluster_contrast import ClusterContrast
from trainer.methods.crosslane import Crosslane
from trainer.methods.gracl import Gracl
from trainer.methods.o2cap import O2CAP
from trainer.methods.scl import SCL
from trainer.methods.spcl import SpCL
from trainer.methods.tcrl import TCRL
from trainer.proxies import Bank

Write = Callable[[Tensor], None]


class Product(torch.autograd.Function):
    """f·M, whose backward writes into M."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor, write: Write) -> Tensor:
        ctx.rows, ctx.write = rows, write
        ctx.save_for_backward(features)
        return features @ rows.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        result = gradient @ ctx.rows
        ctx.write(*ctx.saved_tensors)
        return result, None, None


def move(rows: Tensor, slot: int, feature: Tensor, momentum: float) -> None:
    rows[slot] = momentum * rows[slot] + (1 - momentum) * feature
    rows[slot] /= rows[slot].norm()


def crop_by_crop(rows: Tensor, slots: Tensor, momentum: float) -> Write:
    def write(features: Tensor) -> None:
        for feature, slot in zip(features, slots.tolist(), strict=True):
            move(rows, slot, feature, momentum)

    return write


def cluster_contrast(method: ClusterContrast, batch: Batch) -> Tensor:
    memory = method.memory
    write = crop_by_crop(memory.rows, batch.label, memory.momentum)
    return cross_entropy(
        Product.apply(method.network(batch.views[0]), memory.rows, write) / memory.temperature, batch.label
    )


def spcl(method: SpCL, batch: Batch) -> Tensor:
    memory, classes = method.memory, method.classes
    write = crop_by_crop(memory.rows, batch.index, memory.momentum)
    logits = Product.apply(method.network(batch.views[0]), memory.rows, write) / memory.temperature
    sums = torch.zeros(int(classes.max()) + 1, len(logits), device=logits.device).index_add_(0, classes, logits.T)
    powers = (sums.T / torch.bincount(classes)).exp()
    probability = powers / (powers.sum(1, keepdim=True) + 1e-6)
    return -(probability.gather(1, batch.label[:, None]) + 1e-6).log().mean()


def association(scores: Tensor, positives: Tensor, ranking: Tensor, count: int) -> Tensor:
    """One crop: mean log share of the positives (p,) among them and the hardest others, negated."""
    ranking = ranking.detach().clone()
    ranking[positives] = -10000.0
    order = torch.sort(ranking, descending=True).indices
    chosen = torch.cat([positives, order[: min(count, len(scores) - len(positives))]])
    return -log_softmax(scores[chosen], 0)[: len(positives)].mean()


def siblings(bank: Bank, label: int) -> Tensor:
    return torch.nonzero(bank.clusters == bank.clusters[label])[:, 0]


def scores_of(method: CAP | O2CAP | Crosslane, batch: Batch) -> Tensor:
    memory = method.bank.memory
    write = crop_by_crop(memory.rows, batch.label, memory.momentum)
    return Product.apply(method.network(batch.views[0]), memory.rows, write) / memory.temperature


def cap(method: CAP, batch: Batch) -> Tensor:
    settings, bank, scores, loss = method.settings, method.bank, scores_of(method, batch), 0.0
    for camera in batch.camera.unique():
        crops = torch.nonzero(batch.camera == camera)[:, 0].tolist()
        for crop in crops:
            label = int(batch.label[crop])
            beside = torch.nonzero(bank.cameras == bank.cameras[label])[:, 0]
            target = torch.nonzero(beside == label)[:, 0]
            loss = loss + cross_entropy(scores[crop, beside][None], target) / len(crops)
            if method.epoch >= settings.offline_from_epoch:
                own = siblings(bank, label)
                offline = association(scores[crop], own, scores[crop], settings.hard_negatives)
                loss = loss + settings.offline_weight * offline / len(crops)
    return loss


def o2cap(method: O2CAP, batch: Batch) -> Tensor:
    settings, bank, scores, loss = method.settings, method.bank, scores_of(method, batch), 0.0
    weight, count, rows = settings.instance_weight, settings.hard_negatives, bank.memory.rows
    for camera in batch.camera.unique():
        crops = torch.nonzero(batch.camera == camera)[:, 0].tolist()
        for crop in crops:
            label = int(batch.label[crop])
            offline = association(scores[crop], siblings(bank, label), scores[crop], count)
            between = rows @ rows[label] / settings.temperature
            blend = weight * scores[crop].detach() + (1 - weight) * between
            tops = torch.stack([cameras_best(bank, blend, other) for other in bank.cameras.unique()])
            positives = tops[blend[tops].argsort(descending=True)[: settings.online_positives]]
            loss = loss + (offline + association(scores[crop], positives, blend, count)) / len(crops)
    return loss


def crosslane(method: Crosslane, batch: Batch) -> Tensor:
    settings, bank, scores, loss = method.settings, method.bank, scores_of(method, batch), 0.0
    weight, count, rows = settings.instance_weight, settings.hard_negatives, bank.memory.rows
    for crop, label in enumerate(batch.label.tolist()):
        own = siblings(bank, label)
        offline = association(scores[crop], own, scores[crop], count)
        blend = weight * scores[crop].detach() + (1 - weight) * (rows @ rows[label]) / settings.temperature
        tops = torch.stack([cameras_best(bank, blend, other) for other in bank.cameras.unique()])
        positives = tops[blend[tops].argsort(descending=True)[: settings.online_positives]]
        outside = [slot for slot in range(len(rows)) if slot not in own.tolist() or slot in positives.tolist()]
        places = torch.tensor([outside.index(slot) for slot in positives.tolist()])
        online = association(scores[crop][outside], places, blend[outside], count)
        loss = loss + (offline + settings.online_weight * online) / len(batch.label)
    return loss


def cameras_best(bank: Bank, blend: Tensor, camera: Tensor) -> Tensor:
    members = torch.nonzero(bank.cameras == camera)[:, 0]
    return members[blend[members].argmax()]


def gracl(method: Gracl, batch: Batch) -> Tensor:
    settings, inter, intra, labels = method.settings, method.inter, method.intra, batch.label
    features = method.network(batch.views[0])

    def write_inter(features: Tensor) -> None:
        before = inter.rows.clone()
        for label in labels.unique().tolist():
            members = torch.nonzero(labels == label)[:, 0].tolist()
            others = torch.cat([before[:label], before[label + 1 :]])
            relations = [float((others @ features[crop]).mean()) for crop in members]
            crop = members[first_smallest(relations)]
            move(inter.rows, label, features[crop], inter.momentum)

    def write_intra(features: Tensor) -> None:
        for label in labels.unique().tolist():
            members = torch.nonzero(labels == label)[:, 0].tolist()
            relations = []
            for crop in members:
                mates = [float(features[crop] @ features[mate]) for mate in members if mate != crop]
                relations.append(sum(mates) / len(mates) if mates else 1.0)
            move(intra.rows, label, features[members[first_smallest(relations)]], intra.momentum)

    outside = cross_entropy(Product.apply(features, inter.rows, write_inter) / settings.temperature, labels)
    inside = cross_entropy(Product.apply(features, intra.rows, write_intra) / settings.temperature, labels)
    return settings.inter_weight * outside + settings.intra_weight * inside


def first_smallest(values: list[float]) -> int:
    rounded = [round(value, 5) for value in values]
    return rounded.index(min(rounded))


class Term(torch.autograd.Function):
    """SCL: cross entropy against key `column`; its backward uses the mixture as it is by then, and writes into it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, mixture: Tensor, keys: Tensor, column: int, temperature: float) -> Tensor:
        logits = (rows @ mixture.T).gather(1, keys) / temperature
        ctx.save_for_backward(rows, logits.softmax(1), keys)
        ctx.rest = mixture, column, temperature
        return cross_entropy(logits, torch.full((len(rows),), column, device=rows.device))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        rows, error, keys = ctx.saved_tensors
        mixture, column, temperature = ctx.rest
        error = error.clone()
        error[:, column] -= 1
        spread = torch.zeros(len(rows), len(mixture), device=rows.device).scatter(1, keys, error)
        result = gradient * (spread @ mixture) / (temperature * len(rows))
        for row, slot in zip(rows, keys[:, column].tolist(), strict=True):
            move(mixture, slot, row, 0.5)
        return result, None, None, None, None


def scl(method: SCL, batch: Batch) -> Tensor:
    """All terms' backwards write, the last key of the stripes first."""
    settings = method.settings
    maps = method.network.maps(batch.views[0])
    whole, stripes = method.network.embed(maps), method.heads(maps)
    keys = ranked(method, whole.detach(), stripes.detach(), batch)
    loss = 0.0
    for rows, share in ((whole, 1 - settings.stripe_loss), (stripes, settings.stripe_loss)):
        for column, weight in enumerate(method.coefficients.tolist()):
            loss = loss + share * weight * Term.apply(rows, method.mixture, keys, column, settings.temperature)
    for crop, slot in enumerate(batch.index.tolist()):  # mined already, and in no graph
        move(method.whole, slot, whole[crop].detach(), 0.5)
        parts = zip(method.stripes[slot].chunk(settings.stripes), stripes[crop].chunk(settings.stripes), strict=True)
        pieces = [normalize(old + new.detach(), dim=0) for old, new in parts]
        method.stripes[slot] = torch.cat(pieces)
    return loss


def ranked(method: SCL, whole: Tensor, stripes: Tensor, batch: Batch) -> Tensor:
    """Keys, crop by crop: distances to all, sorted."""
    settings, keys = method.settings, []
    count = 1 + min(settings.positives + settings.negatives, len(method.whole) - 1)
    for crop, own in enumerate(batch.index.tolist()):
        distances = settings.whole_share * (2 - 2 * method.whole @ whole[crop])
        pairs = zip(method.stripes.chunk(settings.stripes, 1), stripes[crop].chunk(settings.stripes), strict=True)
        local = sum(2 - 2 * rows @ part for rows, part in pairs) / settings.stripes
        distances += (1 - settings.whole_share) * local
        distances += settings.camera_weight * ((method.cameras == batch.camera[crop]) & (batch.camera[crop] >= 0))
        distances[own] = -torch.inf
        keys.append(torch.sort(distances).indices[:count])
    return torch.stack(keys)


def tcrl(method: TCRL, batch: Batch) -> Tensor:
    """The settings by default. A crop's row follows in the backward of HCL, a cluster's in that of WRCCL."""
    clusters, labels = method.clusters, batch.label
    part = method.network(batch.views[1])
    whole = method.network(batch.views[0])

    def write_means(features: Tensor) -> None:
        for label in labels.unique().tolist():
            move(clusters.rows, label, features[labels == label].mean(0), clusters.momentum)

    before = clusters.rows.clone()
    logits = Product.apply(whole, clusters.rows, write_means) / clusters.temperature
    loss = (weights_of(whole.detach(), before, batch, 0.1) * cross_entropy(logits, labels, reduction="none")).mean()
    for features, bank in ((whole, method.whole), (part, method.part)):
        fresh = [
            normalize(bank.momentum * bank.rows[slot] + (1 - bank.momentum) * features[crop], dim=0)
            for crop, slot in enumerate(batch.index.tolist())
        ]
        loss = loss + cross_entropy(torch.stack(fresh) @ before.T / clusters.temperature, labels)
        write = crop_by_crop(bank.rows, batch.index, bank.momentum)
        scores = Product.apply(features, bank.rows, write) / bank.temperature
        for crop, label in enumerate(labels.tolist()):
            near = scores[crop][method.classes == label]
            against = scores[crop][(method.classes != label) & (method.classes >= 0)].logsumexp(0)
            loss = loss + softplus(against - near).mean() / len(labels)
    return loss


def weights_of(features: Tensor, rows: Tensor, batch: Batch, temperature: float) -> Tensor:
    """n·softmax of the similarity to the own cluster's row, over the n crops of each label."""
    weights = torch.zeros(len(features), device=features.device)
    for label in batch.label.unique().tolist():
        members = batch.label == label
        weights[members] = int(members.sum()) * (features[members] @ rows[label] / temperature).softmax(0)
    return weights


STEPS: dict[str, Callable[[Any, Batch], Tensor]] = {
    "cluster_contrast": cluster_contrast,
    "spcl": spcl,
    "gracl": gracl,
    "scl": scl,
    "cap": cap,
    "o2cap": o2cap,
    "tcrl": tcrl,
    "crosslane": crosslane,
}
