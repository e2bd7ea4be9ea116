"""Seconds of one training step: as the product does it, as plain loops with memories that move in backward, and of the
network alone; same network, same memories, same batches, taking turns in one run.

The method's own part is timed with a network that costs nothing: what is left of a step is mining, losses, their
gradients and the memories (and SCL's stripe heads). Overhead = own part / network's forward and backward.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import plain_steps
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from trainer.config import TrainSettings, parse
from trainer.data.batch import Batch
from trainer.data.records import Crops
from trainer.methods.base import Method
from trainer.methods.table import CARDS, class_of
from trainer.models.embedder import Embedder

BATCH, EPOCH, PEOPLE_SHARE = 64, 5, 1 / 16  # an epoch in which all terms are on; crops per made-up identity
BY_CLUSTERS = {"sampler": {"clusters": 16, "crops": 4}}
BY_PROXIES = {"sampler": {"proxies": 16, "crops": 4}}
OVERRIDES = {"scl": {"batch": BATCH}, "cap": BY_PROXIES, "o2cap": BY_PROXIES, "crosslane": BY_PROXIES}
assert set(plain_steps.STEPS) == set(CARDS)

Step = Callable[[Batch], None]


class Given(nn.Module):
    """A network that costs nothing: the n-th picture of any batch has the n-th map."""

    def __init__(self, network: Embedder, batch: int) -> None:
        super().__init__()
        size, device = network.blueprint.image_size, network.neck.weight.device
        with torch.no_grad():
            shape = network.eval().maps(torch.zeros(1, 3, *size, device=device)).shape[1:]
        network.train()
        generator = torch.Generator().manual_seed(1)
        self.given = nn.Parameter(torch.randn(batch, *shape, generator=generator).to(device))
        self.neck, self.dimension, self.blueprint = network.neck, network.dimension, network.blueprint

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(self.maps(images))

    def maps(self, images: Tensor) -> Tensor:
        return self.given[: len(images)]

    def embed(self, maps: Tensor) -> Tensor:
        return normalize(maps.mean((2, 3)), dim=1)


@dataclass(frozen=True, slots=True)
class Problem:
    """What all methods are timed on."""

    network: Embedder
    crops: Crops
    steps: int

    @property
    def device(self) -> torch.device:
        return self.network.neck.weight.device


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(name: str, problem: Problem) -> dict[str, Any]:
    """The row of one method."""
    given = Given(problem.network, BATCH)
    settings = settings_of(name)
    first = class_of(name)(problem.network, problem.crops, settings.method, 0)
    plan = first.start_epoch(EPOCH, lambda *_: features_of(len(problem.crops), problem.network.dimension))
    state = filled(first.state())
    batches = batches_of(plan.batches[: problem.steps + 2], plan.labels, problem, len(first.views()))

    def made(network: nn.Module) -> Method[Any]:
        method = class_of(name)(network, problem.crops, settings.method, 0)
        method.load_state({key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()})
        return method

    with_network, alone = (made(problem.network), made(problem.network)), (made(given), made(given))
    trained = nn.ModuleList(method.trained() for method in with_network)  # the network once, SCL's heads of both
    optimiser = torch.optim.Adam(trained.parameters(), lr=1e-6)
    steps: dict[str, Step] = {
        "network_s": lambda batch: network_alone(problem.network, batch),
        "ours_s": lambda batch: ours(with_network[0], batch, optimiser),
        "plain_s": lambda batch: plain(name, with_network[1], batch, optimiser),
    }
    own: dict[str, Step] = {
        "own_s": lambda batch: ours(alone[0], batch),
        "plain_own_s": lambda batch: plain(name, alone[1], batch),
    }
    seconds = in_turns(steps, batches, problem.device) | in_turns(own, 3 * batches, problem.device)
    remembered = [rows for rows in state.values() if isinstance(rows, Tensor) and rows.dtype == torch.float32]
    return {
        **seconds,
        "ratio": seconds["plain_s"] / seconds["ours_s"],
        "own_ratio": seconds["plain_own_s"] / seconds["own_s"],
        "overhead": seconds["own_s"] / seconds["network_s"],
        "crops": len(problem.crops),
        "labels": int(plan.labels.max()) + 1,
        "memory_bytes": sum(rows.numel() * 4 for rows in remembered),
        "law": CARDS[name].cost,
    }


def settings_of(name: str) -> TrainSettings:
    method = {"name": name, **OVERRIDES.get(name, BY_CLUSTERS)}
    return parse({"data": {"root": "."}, "method": method}, name)


def features_of(count: int, dimension: int) -> NDArray[np.float32]:
    """(N, D) float32 unit rows of made-up identities, 16 crops each: the step does not care who is who."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((max(2, round(count * PEOPLE_SHARE)), dimension))
    rows = centres[np.arange(count) % len(centres)] + 0.3 * generator.standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def filled(state: dict[str, Any]) -> dict[str, Any]:
    """SCL's banks are zero before the first crop has been seen; here they are full."""
    generator = torch.Generator().manual_seed(2)

    def rows_of(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.any():
            return value
        return normalize(torch.randn(value.shape, generator=generator), dim=1).to(value.device)

    return {name: rows_of(value) for name, value in state.items()}


def batches_of(numbers: NDArray[np.int64], labels: NDArray[np.int64], problem: Problem, views: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    size = (views, numbers.shape[1], 3, *problem.network.blueprint.image_size)
    pictures = torch.randn(size, generator=generator).to(problem.device)
    columns = [torch.from_numpy(values).to(problem.device) for values in (problem.crops.cameras, labels)]
    index = torch.from_numpy(numbers).to(problem.device)
    return [Batch(rows, *(column[rows] for column in columns), views=tuple(pictures)) for rows in index]


def ours(method: Method[Any], batch: Batch, optimiser: torch.optim.Optimizer | None = None) -> None:
    method.trained().zero_grad()
    out = method.forward(batch)
    sum(method.losses(out, batch).values()).backward()
    if optimiser is not None:
        optimiser.step()
    method.after_step(out, batch)


def plain(name: str, method: Method[Any], batch: Batch, optimiser: torch.optim.Optimizer | None = None) -> None:
    method.trained().zero_grad()
    plain_steps.STEPS[name](method, batch).backward()
    if optimiser is not None:
        optimiser.step()


def network_alone(network: Embedder, batch: Batch) -> None:
    network.zero_grad()
    for view in batch.views:
        network(view).sum().backward()


def in_turns(kinds: dict[str, Step], batches: list[Batch], device: torch.device) -> dict[str, float]:
    """Median seconds of every kind of step, the first two batches left out; who begins changes with every batch."""
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for number, batch in enumerate(batches):
        for name in list(kinds)[:: 1 if number % 2 else -1]:
            synchronise(device)
            begin = time.perf_counter()
            kinds[name](batch)
            synchronise(device)
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[2:]) for name, values in seconds.items()}
