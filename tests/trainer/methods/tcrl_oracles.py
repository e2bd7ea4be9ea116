"""TCRL's terms as plain loops over crops, in float64."""

import math

import torch
from torch.nn.functional import normalize


def slow_weights(similarity, groups, temperature):
    values = similarity.tolist()
    weights = []
    for value, group in zip(values, groups.tolist(), strict=True):
        mates = [
            math.exp(other / temperature) for other, own in zip(values, groups.tolist(), strict=True) if own == group
        ]
        weights.append(len(mates) * math.exp(value / temperature) / sum(mates))
    return torch.tensor(weights, dtype=torch.float64)


def cross_entropy_of(logits, label):
    return math.log(sum(math.exp(value) for value in logits)) - logits[label]


def slow_hcl(features, rows, positive, negative, form, temperature):
    """The mean over crops; a crop without positives counts as 0."""
    total = 0.0
    for i, feature in enumerate(features):
        near = [float(feature @ rows[j]) for j in range(len(rows)) if positive[i, j]]
        against = sum(math.exp(float(feature @ rows[j]) / temperature) for j in range(len(rows)) if negative[i, j])
        if not near:
            continue
        if form == "mean":
            near = [sum(near) / len(near)]
        elif form == "unit_mean":
            near = [float(feature @ normalize(rows[positive[i]].mean(0), dim=0))]
        elif form == "hardest":
            near = [min(near)]
        if form == "supcon":
            against += sum(math.exp(value / temperature) for value in near)
        for value in near:
            power = math.exp(value / temperature)
            total -= math.log(power / (against if form == "supcon" else power + against)) / len(near)
    return total / len(features)


def slow_proxies(fresh, rows, index, classes):
    """The rows of every label in the batch, those of its crops replaced, averaged and normalised."""
    replaced = rows.clone()
    for crop in set(index.tolist()):
        replaced[crop] = fresh[index == crop].mean(0)
    present = sorted(set(classes[index].tolist()))
    return torch.stack([normalize(replaced[classes == label].mean(0), dim=0) for label in present])


def slow_pcl(fresh, rows, clusters, batch, form):
    """`batch`: index (B,), labels (B,), classes (N,), negative (B, N), temperature."""
    index, labels, classes, negative, temperature = batch
    if form == "proxy":
        proxies = slow_proxies(fresh, rows, index, classes)
        present = sorted(set(labels.tolist()))
        terms = [
            cross_entropy_of((proxy @ clusters.T / temperature).tolist(), label)
            for proxy, label in zip(proxies, present, strict=True)
        ]
        return sum(terms) / len(terms)
    total = 0.0
    for i, label in enumerate(labels.tolist()):
        forth = cross_entropy_of((fresh[i] @ clusters.T / temperature).tolist(), label)
        if form == "symmetric":
            power = math.exp(float(clusters[label] @ fresh[i]) / temperature)
            against = [float(clusters[label] @ rows[j]) for j in range(len(rows)) if negative[i, j]]
            back = -math.log(power / (power + sum(math.exp(value / temperature) for value in against)))
            forth = (forth + back) / 2
        total += forth
    return total / len(labels)
