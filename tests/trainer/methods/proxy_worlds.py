"""Vectors instead of pictures, and a network of one layer, for tests of CAP and O2CAP as whole methods."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from trainer.data.batch import Batch
from trainer.data.records import Crops
from trainer.metrics.retrieval import Truth, score, squared_distances
from trainer.models.embedder import AveragePool, Blueprint, Embedder, ModelSettings


def linear_network(dimension):
    """(B, D) → (B, D) unit rows; starts as the identity with its batch norm."""
    trunk = nn.Linear(dimension, dimension, bias=False)
    nn.init.eye_(trunk.weight)
    return Embedder(trunk, AveragePool(), dimension, Blueprint(ModelSettings(), (1, 1), None))


def crops_from(cameras):
    """Crops that have cameras only."""
    count = len(cameras)
    paths = tuple(Path(f"{number}.png") for number in range(count))
    return Crops(paths, np.asarray(cameras, np.int64), np.full(count, np.nan), np.full(count, -1))


def batch_of(labels, cameras, vectors=None):
    views = () if vectors is None else (vectors,)
    return Batch(torch.arange(len(labels)), cameras, labels, views)


def synthetic_site(seed, identities=24, cameras=4, crops=5, dimension=32, shift=1.0):
    """Vectors (N, D) float32, identities (N,), cameras (N,): what a camera adds hides who is seen."""
    generator = np.random.default_rng(seed)
    identity = np.repeat(np.arange(identities), cameras * crops)
    camera = np.tile(np.repeat(np.arange(cameras), crops), identities)
    centres = generator.standard_normal((identities, dimension))
    offsets = shift * generator.standard_normal((cameras, dimension))
    vectors = centres[identity] + offsets[camera] + 0.5 * generator.standard_normal((len(identity), dimension))
    return vectors.astype(np.float32), identity, camera


def features_of(network, vectors):
    """(N, D) float32 unit rows, evaluation mode."""
    network.eval()
    with torch.no_grad():
        return normalize(network(torch.from_numpy(vectors)), dim=1).numpy()


def cross_camera_map(network, vectors, identity, camera):
    """mAP of every crop against all of other cameras, in percent."""
    features, truth = features_of(network, vectors), Truth(identity, camera)
    return score(squared_distances(features, features), truth, truth).mAP


def train(method, vectors, epochs, rate=1e-3):
    """The loop of a run, without its files; returns the facts of every epoch."""
    network = method.trained()
    optimiser = torch.optim.Adam([weight for weight in network.parameters() if weight.requires_grad], lr=rate)
    facts = []
    for epoch in range(epochs):
        plan = method.start_epoch(epoch, lambda: features_of(network, vectors))
        facts.append(plan.facts)
        network.train()
        labels = torch.from_numpy(plan.labels)
        for numbers in plan.batches:
            index = torch.from_numpy(numbers)
            cameras = torch.from_numpy(method.crops.cameras)[index]
            batch = batch_of(labels[index], cameras, torch.from_numpy(vectors[numbers]))
            out = method.forward(batch)
            optimiser.zero_grad()
            sum(method.losses(out, batch).values()).backward()
            optimiser.step()
            method.after_step(out, batch)
    return facts
