"""Which crops each step sees: P clusters with Z crops each, in the order of Cluster-Contrast's released samplers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.settings import Settings

Integers = NDArray[np.int64]


class SamplerSettings(Settings):
    """The batches of an epoch."""

    clusters: int = Field(default=16, ge=2)
    """P, clusters per batch."""
    crops: int = Field(default=16, ge=1)
    """Z, crops per cluster."""
    steps: int = Field(default=200, ge=1)
    """Steps per epoch."""
    other_cameras: bool = True
    """Take a cluster's further crops from other cameras than the first one, where it has any. Uses camera numbers."""

    @property
    def batch(self) -> int:
        return self.clusters * self.crops


def plan_batches(
    labels: Integers, cameras: Integers, settings: SamplerSettings, generator: np.random.Generator
) -> Integers:
    """Crop numbers (steps, P·Z) int64 for labels (N,) int64, −1 = never drawn.

    Pass after pass over the clusters in random order; a pass's last, incomplete batch is dropped, unless a pass is
    smaller than one batch: then passes are joined, and a batch repeats clusters.
    """
    groups = _members(labels)
    if not groups:
        raise ValueError("there is no cluster to draw from")
    batches: list[Integers] = []
    rest = np.zeros(0, np.int64)
    while len(batches) < settings.steps:
        stream = np.concatenate([rest, one_pass(groups, cameras, settings, generator)])
        full = len(stream) // settings.batch
        batches.extend(stream[: full * settings.batch].reshape(full, settings.batch))
        rest = stream[:0] if full else stream
    return np.stack(batches[: settings.steps])


def one_pass(
    groups: list[Integers], cameras: Integers, settings: SamplerSettings, generator: np.random.Generator
) -> Integers:
    """Crop numbers of one visit to every cluster, clusters in random order; a cluster of one crop contributes that
    one only."""
    order = generator.permutation(len(groups))
    return np.concatenate([_draw(groups[number], cameras, settings, generator) for number in order])


def _draw(members: Integers, cameras: Integers, settings: SamplerSettings, generator: np.random.Generator) -> Integers:
    """A first crop at random, then Z − 1 from other cameras; from the same camera only when there is no other."""
    first = int(generator.choice(members))
    others = members[members != first]
    if settings.other_cameras:
        elsewhere = members[cameras[members] != cameras[first]]
        others = elsewhere if len(elsewhere) else others
    wanted = settings.crops - 1
    if not len(others) or not wanted:
        return np.array([first], np.int64)
    return np.concatenate([[first], generator.choice(others, wanted, replace=len(others) < wanted)])


def _members(labels: Integers) -> list[Integers]:
    """Crop numbers of every cluster, clusters ascending."""
    clustered = np.flatnonzero(labels >= 0)
    order = clustered[np.argsort(labels[clustered], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []
