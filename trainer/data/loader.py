"""The batches of an epoch, prepared one step ahead in a thread. A batch is a pure function of (seed, epoch, step)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_app.contract.preprocess import InputSpec
from trainer.data.batch import Batch, Epoch
from trainer.data.cache import Cached
from trainer.data.transforms import Transform
from trainer.parallel import Processes


@dataclass(frozen=True, slots=True)
class Chances:
    """What is done to the pictures."""

    views: tuple[Transform, ...]
    spec: InputSpec
    seed: int


class Loader:
    """Gathers pixels, moves them to the device, and augments them there. `group` crops are normalised together."""

    def __init__(self, cached: Cached, chances: Chances, processes: Processes, pieces: int = 1, group: int = 1) -> None:
        self.pixels = cached.pixels
        self.cameras = torch.from_numpy(cached.crops.cameras)
        self.chances = chances
        self.processes = processes
        self.pieces = pieces
        self.group = group
        self.waited_s = 0.0  # time the training step has stood still for data

    def batches(self, epoch: int, plan: Epoch, first_step: int = 0) -> Iterator[Batch]:
        """The batches of the epoch from `first_step` on, in order."""
        labels = torch.from_numpy(plan.labels)
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as ahead:
            todo = [ahead.submit(self.prepare, epoch, first_step, plan.batches[first_step], labels)]
            for step in range(first_step, len(plan.batches)):
                if step + 1 < len(plan.batches):
                    todo.append(ahead.submit(self.prepare, epoch, step + 1, plan.batches[step + 1], labels))
                begin = time.perf_counter()
                batch = todo.pop(0).result()
                self.waited_s += time.perf_counter() - begin
                yield batch

    def prepare(self, epoch: int, step: int, numbers: NDArray[np.int64], labels: Tensor) -> Batch:
        """One batch. Every view draws from a generator in the same state, so views share the chances they have in
        common."""
        device, own = self.processes.device, self.processes.rows(len(numbers), self.pieces, self.group)
        pixels = torch.from_numpy(self.pixels[numbers[own.numpy()]])
        if device.type == "cuda":
            pixels = pixels.pin_memory().to(device, non_blocking=True)
        spec, images = self.chances.spec, []
        for view in self.chances.views:
            generator = torch.Generator().manual_seed(step_seed(self.chances.seed, epoch, step))
            draws = view.draw(len(numbers), (spec.height_px, spec.width_px), generator)
            images.append(view.apply(pixels, draws.part(own), spec))
        index = torch.from_numpy(numbers)
        return Batch(index.to(device), self.cameras[index].to(device), labels[index].to(device), tuple(images))


def step_seed(seed: int, epoch: int, step: int) -> int:
    """One number for every step of a run, 63 bits."""
    return int(np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)[0] >> 1)
