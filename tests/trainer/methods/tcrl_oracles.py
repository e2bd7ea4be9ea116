"""TCRL's terms as plain loops over crops, in float64."""

import math

import torch


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


def slow_hcl(features, rows, own, others, form, temperature):
    """The mean over crops."""
    total = 0.0
    for i, feature in enumerate(features):
        near = [float(feature @ rows[j]) for j in range(len(rows)) if own[i, j]]
        against = sum(math.exp(float(feature @ rows[j]) / temperature) for j in range(len(rows)) if others[i, j])
        if form == "mean":
            near = [sum(near) / len(near)]
        for value in near:
            power = math.exp(value / temperature)
            total -= math.log(power / (power + against)) / len(near)
    return total / len(features)


def slow_pcl(fresh, clusters, labels, temperature):
    terms = [
        cross_entropy_of((row @ clusters.T / temperature).tolist(), y) for row, y in zip(fresh, labels, strict=True)
    ]
    return sum(terms) / len(terms)
