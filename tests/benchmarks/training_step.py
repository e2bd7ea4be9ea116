"""Images per second of one training step, against the usual way of writing it, same network, same data, one run.

    PYTHONPATH=. python tests/benchmarks/training_step.py DATA [--model network.onnx] [--batch 64] [--steps 12]
    [--json FILE]

The usual way: PIL, torchvision transforms, DataLoader (without workers and with two, the better counts), one memory
update per crop in a Python loop, networks in their default memory layout, float32. The batches of both are the same
crops. Ours is timed in float32, and with the trunk in bfloat16, as the configurations for sites have it.
Without --model the network is OSNet x0.25 with random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision import transforms

from edge_app.contract.preprocess import InputSpec
from trainer.config import PERSON_INPUT
from trainer.data import layouts
from trainer.data.batch import Epoch
from trainer.data.cache import cached
from trainer.data.loader import Chances, Loader
from trainer.data.records import Crops
from trainer.data.transforms import Augment, AugmentSettings, normalise
from trainer.memory import Memory
from trainer.methods.cluster_contrast import cluster_nce
from trainer.models.embedder import Blueprint, Embedder, ModelSettings, blueprint_of, new_embedder
from trainer.parallel import Processes, join

CLUSTERS, CROPS = 64, 16  # made-up labels: the step does not care who is who


def plan(crops: Crops, batch: int, steps: int) -> Epoch:
    """Batches of batch/4 clusters with 4 crops each."""
    generator = np.random.default_rng(0)
    labels = np.full(len(crops), -1, np.int64)
    used = generator.permutation(len(crops))[: CLUSTERS * CROPS]
    labels[used] = np.arange(len(used)) % min(CLUSTERS, len(used))
    batches = []
    for _ in range(steps):
        chosen = generator.choice(labels.max() + 1, batch // 4, replace=batch // 4 > labels.max() + 1)
        batches.append(np.concatenate([generator.choice(np.flatnonzero(labels == one), 4) for one in chosen]))
    return Epoch(labels, np.stack(batches), {})


def ours(network: Embedder, crops: Crops, spec: InputSpec, epoch: Epoch, processes: Processes) -> Iterator[float]:
    """Seconds of every step, and at the end the share spent waiting for data."""
    with tempfile.TemporaryDirectory() as folder:
        loader = Loader(cached(crops, spec, Path(folder)), Chances((Augment(AugmentSettings()),), spec, 0), processes)
        memory = Memory(functional.normalize(torch.randn(CLUSTERS, network.dimension)).to(processes.device), 0.05, 0.1)
        optimiser = torch.optim.Adam(network.parameters(), lr=3.5e-4, weight_decay=5e-4)
        begin = first = time.perf_counter()
        for batch in loader.batches(0, epoch):
            features = network(batch.views[0])
            optimiser.zero_grad(set_to_none=True)
            cluster_nce(features, memory, batch.label).backward()
            optimiser.step()
            memory.update(features, batch.label, "sequential")
            synchronise(processes.device)
            now = time.perf_counter()
            yield now - begin
            begin = now
        print(f"  share of the time spent waiting for data: {loader.waited_s / (begin - first):.1%}")


class PlainMemory(torch.autograd.Function):
    """Logits, and in backward one update per crop: how the released codes do it."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        ctx.rows = rows
        ctx.save_for_backward(features, labels)
        return features @ rows.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        features, labels = ctx.saved_tensors
        result = gradient @ ctx.rows
        for feature, label in zip(features, labels.tolist(), strict=True):
            ctx.rows[label] = 0.1 * ctx.rows[label] + 0.9 * feature
            ctx.rows[label] /= ctx.rows[label].norm()
        return result, None, None


class PlainDataset(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """PIL and torchvision."""

    def __init__(self, crops: Crops, labels: np.ndarray, spec: InputSpec) -> None:
        self.crops, self.labels = crops, labels
        size = (spec.height_px, spec.width_px)
        self.transform = transforms.Compose(
            [
                transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.RandomHorizontalFlip(),
                transforms.Pad(10),
                transforms.RandomCrop(size),
                transforms.ToTensor(),
                transforms.Normalize(spec.mean, spec.std),
                transforms.RandomErasing(0.5, (0.02, 0.4), (0.3, 3.33), (0.485, 0.456, 0.406)),
            ]
        )

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(self.crops.paths[row]).convert("RGB")), int(self.labels[row])


def usual(
    network: Embedder, crops: Crops, spec: InputSpec, epoch: Epoch, processes: Processes, workers: int
) -> Iterator[float]:
    """Seconds of every step."""
    batches = [batch.tolist() for batch in epoch.batches]
    dataset = PlainDataset(crops, epoch.labels, spec)
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=batches, num_workers=workers)
    rows = functional.normalize(torch.randn(CLUSTERS, network.dimension)).to(processes.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=3.5e-4, weight_decay=5e-4)
    begin = time.perf_counter()
    for images, labels in loader:
        images, labels = images.to(processes.device), labels.to(processes.device)
        logits = PlainMemory.apply(network(images), labels, rows) / 0.05
        optimiser.zero_grad()
        functional.cross_entropy(logits, labels).backward()
        optimiser.step()
        synchronise(processes.device)
        now = time.perf_counter()
        yield now - begin
        begin = now


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def network_of(blueprint: Blueprint, crops: Crops, spec: InputSpec, device: torch.device) -> Embedder:
    with tempfile.TemporaryDirectory() as folder:
        pixels = cached(crops.take(np.arange(64)), spec, Path(folder)).pixels
        network = new_embedder(blueprint, [normalise(torch.from_numpy(pixels[:]), spec)])
    return network.to(device).train()


def images_per_second(steps: Callable[[], Iterator[float]], batch: int, warm: int = 2) -> float:
    """Median over the steps after the first `warm`."""
    return batch / statistics.median(list(steps())[warm:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    processes, spec, crops = join(), PERSON_INPUT, layouts.read(arguments.data).train
    kind = {"backbone": "onnx", "weights": arguments.model} if arguments.model else {"backbone": "osnet_x0_25"}
    size, epoch = (spec.height_px, spec.width_px), plan(crops, arguments.batch, arguments.steps)
    result: dict[str, Any] = {"device": str(processes.device), "batch": arguments.batch}

    def fresh(channels_last: bool, bf16: bool = False) -> Embedder:
        settings = ModelSettings(**kind, ghost_group=arguments.batch, channels_last=channels_last, bf16=bf16)
        return network_of(blueprint_of(settings, size), crops, spec, processes.device)

    for workers in (0, 2):
        network: nn.Module = fresh(channels_last=False)
        steps = lambda: usual(network, crops, spec, epoch, processes, workers)  # noqa: E731, B023
        result[f"usual_{workers}_workers"] = images_per_second(steps, arguments.batch)
        print(f"usual, {workers} workers: {result[f'usual_{workers}_workers']:.1f} images/s")
    best_usual = max(result["usual_0_workers"], result["usual_2_workers"])
    for name, bf16 in (("ours_float32", False), ("ours", True)):
        network = fresh(channels_last=True, bf16=bf16)
        result[name] = images_per_second(lambda: ours(network, crops, spec, epoch, processes), arguments.batch)  # noqa: B023
        result[f"{name}_ratio"] = result[name] / best_usual
        print(f"{name}: {result[name]:.1f} images/s, {result[f'{name}_ratio']:.2f} times")
    result["load_average"] = os.getloadavg()
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
