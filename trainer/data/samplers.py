"""Which crops each step sees: P clusters with Z crops each, in the order of Cluster-Contrast's released samplers, or P
camera-aware proxies with Z crops each, as CAP and O2CAP balance them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.settings import Settings

Integers = NDArray[np.int64]
Steps = Annotated[int, Field(ge=1)] | Literal["crops"]
FEWEST = 10  # steps of an epoch, however few the crops are: the memories must move


class SamplerSettings(Settings):
    """The batches of an epoch."""

    clusters: int = Field(default=16, ge=2)
    """P, clusters per batch."""
    crops: int = Field(default=16, ge=1)
    """Z, crops per cluster."""
    steps: Steps = 200
    """Steps per epoch; `crops` = as many as show each crop once on average, and at least 10."""
    other_cameras: bool = True
    """Take a cluster's further crops from other cameras than the first one, where it has any. Uses camera numbers."""

    @property
    def batch(self) -> int:
        return self.clusters * self.crops


class ProxySamplerSettings(Settings):
    """The batches of an epoch, every proxy with the same number of crops."""

    proxies: int = Field(default=8, ge=2)
    """P, proxies per batch."""
    crops: int = Field(default=4, ge=1)
    """Z, crops per proxy; a proxy of fewer crops repeats them."""
    steps: Steps | None = 400
    """Steps per epoch; `crops` = as many as show each crop once on average, and at least 10; null = as many as the
    clustered crops fill batches, which follows the clusters."""

    @property
    def batch(self) -> int:
        return self.proxies * self.crops


def plan_batches(
    labels: Integers, cameras: Integers, settings: SamplerSettings, generator: np.random.Generator
) -> Integers:
    """Crop numbers (steps, P·Z) int64 for labels (N,) int64, −1 = never drawn.

    Pass after pass over the clusters in random order; a pass's last, incomplete batch is dropped, unless a pass is
    smaller than one batch: then passes are joined, and a batch repeats clusters.
    """
    groups = _members(labels)
    steps = steps_of(settings.steps, len(labels), settings.batch)
    return _fill(lambda: one_pass(groups, cameras, settings, generator), settings.batch, steps)


def plan_proxy_batches(labels: Integers, settings: ProxySamplerSettings, generator: np.random.Generator) -> Integers:
    """Crop numbers (steps, P·Z) int64 for proxies (N,) int64, −1 = never drawn.

    Passes as in `plan_batches`: a batch has P different proxies where there are that many. Source: the proxy-balanced
    sampling of CAP, with the steps of O2CAP's released code.
    """
    groups = _members(labels)
    clustered = sum(len(members) for members in groups)
    published = max(1, clustered // settings.batch)
    steps = published if settings.steps is None else steps_of(settings.steps, len(labels), settings.batch)
    return _fill(lambda: one_proxy_pass(groups, settings.crops, generator), settings.batch, steps)


def steps_of(steps: Steps, crops: int, batch: int) -> int:
    """Steps per epoch with this many crops, clustered or not: the same in every epoch."""
    return max(FEWEST, -(-crops // batch)) if steps == "crops" else steps


def _fill(one_more: Callable[[], Integers], batch: int, steps: int) -> Integers:
    """(steps, batch) from pass after pass; the end of a pass is dropped where it fills no batch."""
    batches: list[Integers] = []
    rest = np.zeros(0, np.int64)
    while len(batches) < steps:
        stream = np.concatenate([rest, one_more()])
        full = len(stream) // batch
        batches.extend(stream[: full * batch].reshape(full, batch))
        rest = stream[:0] if full else stream
    return np.stack(batches[:steps])


def one_pass(
    groups: list[Integers], cameras: Integers, settings: SamplerSettings, generator: np.random.Generator
) -> Integers:
    """Crop numbers of one visit to every cluster, clusters in random order; a cluster of one crop contributes that
    one only."""
    order = generator.permutation(len(groups))
    return np.concatenate([_draw(groups[number], cameras, settings, generator) for number in order])


def one_proxy_pass(groups: list[Integers], crops: int, generator: np.random.Generator) -> Integers:
    """Crop numbers of one visit to every proxy, proxies in random order, exactly `crops` of each: without repetition
    where it has that many, otherwise from `crops` copies of its list."""
    order = generator.permutation(len(groups))
    lists = (groups[number] if len(groups[number]) >= crops else np.tile(groups[number], crops) for number in order)
    return np.concatenate([generator.permutation(members)[:crops] for members in lists])


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
    """Crop numbers of every cluster, clusters ascending; `ValueError` when there is none."""
    clustered = np.flatnonzero(labels >= 0)
    if not len(clustered):
        raise ValueError("there is no cluster to draw from")
    order = clustered[np.argsort(labels[clustered], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
