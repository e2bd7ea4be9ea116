"""The demo's embedder: a small convolutional network, trained on simulated identities seen by several cameras.

Loss: supervised contrastive, P. Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2:
    L = Σ_i −1/|P(i)| Σ_{p∈P(i)} log( exp(z_i·z_p/τ) / Σ_{a≠i} exp(z_i·z_a/τ) )
A label is a look (shape, paint, marks), not a vehicle: two vehicles of one look cannot be told apart, and asking the
network to try would only teach it noise. The views of a label in a batch come from as many cameras as there are.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edge_app.contract.model import ModelManifest, write_manifest
from edge_app.contract.preprocess import InputSpec
from edge_app.simulation.looks import Look
from edge_app.simulation.render import Renderer
from edge_app.simulation.traffic import Passage
from edge_app.simulation.world import Visible, World
from edge_app.types import Image

INPUT = InputSpec(
    width_px=112,
    height_px=96,
    channel_order="BGR",
    mean=(0.45, 0.45, 0.45),
    std=(0.25, 0.25, 0.25),
    resize="stretch",
    kernel="area",
)
DIMENSION = 128
VERSION = "demo-embedder-1"
TRAIN_SEEDS, TEST_SEEDS = range(3000, 3032), range(2000, 2004)
_VIEWS = 4  # per passage
_LABELS, _PER_LABEL = 28, 4  # per batch
_TEMPERATURE = 0.07


@dataclass(frozen=True, slots=True)
class Crops:
    """N crops and what they show."""

    pixels: np.ndarray  # (N, h, w, 3) uint8 BGR
    looks: list[Look]
    cameras: list[str]  # site/camera
    passages: list[tuple[int, int, str, float]]  # (seed, vehicle, camera, entry time)


class Block(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut; halves the resolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.short = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels_in, channels_out, 1, bias=False))
        self.norm3 = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.second(torch.relu(self.norm1(self.first(x)))))
        return torch.relu(inner + self.norm3(self.short(x)))


class Network(nn.Module):
    """(B, 3, 96, 112) → (B, 128) unit rows. The last map is pooled by thirds, as marks have their places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.blocks = nn.Sequential(Block(24, 40), Block(40, 72), Block(72, 128))
        self.neck = nn.Linear(128 * 7, DIMENSION)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.blocks(self.stem(x))  # (B, 128, 6, 7)
        rows = nn.functional.avg_pool2d(maps, (2, 7)).flatten(1)
        columns = nn.functional.avg_pool2d(maps[:, :, :, :6], (6, 2)).flatten(1)
        pooled = torch.cat([rows, columns, maps.amax((2, 3))], 1)
        return nn.functional.normalize(self.neck(pooled), dim=1)


def collect(seeds: range, difficulty: float | None = None) -> Crops:
    """A few views of every passage, cut with a detector's inaccuracy. Random difficulties unless one is given."""
    pixels: list[np.ndarray] = []
    looks: list[Look] = []
    cameras: list[str] = []
    passages: list[tuple[int, int, str, float]] = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 5])
        chosen = float(rng.uniform(0.1, 0.9)) if difficulty is None else difficulty
        site = "grid-16" if difficulty is None and seed % 3 == 2 else "town"
        world = World(site, seed=seed, difficulty=chosen, seconds=170.0, persons=difficulty is None and seed % 4 == 0)
        for camera in [world.cameras[index].id for index in rng.permutation(len(world.cameras))[:4]]:
            wanted: dict[float, list[Passage]] = defaultdict(list)
            for passage in world.camera_passages(camera):
                for moment in rng.uniform(passage.entry_time_s, passage.exit_time_s, _VIEWS):
                    wanted[round(float(moment) * 4) / 4].append(passage)
            renderer = Renderer(world, camera)
            for moment, shown in wanted.items():
                image = renderer.frame(moment)
                for passage, crop in _cut_out(world.visible(camera, moment), shown, image, rng):
                    pixels.append(crop)
                    looks.append(passage.look)
                    cameras.append(f"{site}/{camera}")
                    passages.append((seed, passage.vehicle, camera, passage.entry_time_s))
    return Crops(np.stack(pixels), looks, cameras, passages)


def _cut_out(
    truth: Visible, shown: list[Passage], image: Image, rng: np.random.Generator
) -> Iterator[tuple[Passage, Image]]:
    """(passage, crop) of those that are in view, large and open enough."""
    import cv2

    for index, passage in enumerate(truth.passages):
        box = truth.boxes[index]
        sides = box[2:] - box[:2]
        if passage not in shown or truth.occluded[index] > 0.4 or truth.cut[index] > 0.5 or sides.min() < 16:
            continue
        jitter = rng.normal(0.0, 0.03, 4) * np.tile(sides, 2)
        x0, y0, x1, y1 = np.clip(box + jitter, 0, [image.shape[1], image.shape[0]] * 2)
        crop = image[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
        shrinks = crop.shape[1] >= INPUT.width_px and crop.shape[0] >= INPUT.height_px
        kernel = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        yield passage, cv2.resize(crop, (INPUT.width_px, INPUT.height_px), interpolation=kernel)


def as_input(pixels: np.ndarray) -> Tensor:
    """(B, h, w, 3) uint8 → (B, 3, h, w) float32 as INPUT says."""
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255.0 - 0.45) / 0.25


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Another light, another side of the road, a sensor's noise."""
    count = len(x)
    gain = 1.0 + 0.04 * torch.randn(count, 3, 1, 1, generator=generator)
    exposure = 1.0 + 0.06 * torch.randn(count, 1, 1, 1, generator=generator)
    x = ((x * 0.25 + 0.45) * gain * exposure - 0.45) / 0.25
    flip = torch.rand(count, generator=generator) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    return x + 0.08 * torch.randn(x.shape, generator=generator)


def supervised_contrastive(z: Tensor, labels: Tensor) -> Tensor:
    """See the module's docstring; mean over the rows."""
    own = torch.eye(len(z), dtype=torch.bool)
    logits = (z @ z.T / _TEMPERATURE).masked_fill(own, -1e9)
    positive = (labels[:, None] == labels[None]) & ~own
    log_share = logits - torch.logsumexp(logits, 1, keepdim=True)
    return -(log_share * positive).sum(1).div(positive.sum(1).clamp(min=1)).mean()


class Batches:
    """Draws labels, half of them neighbours (one shape, or one paint) of the other half, and views of each."""

    def __init__(self, crops: Crops) -> None:
        self._views: dict[tuple, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for index, (look, camera) in enumerate(zip(crops.looks, crops.cameras, strict=True)):
            self._views[look.key][camera].append(index)
        self._labels = [key for key, views in self._views.items() if sum(map(len, views.values())) >= _PER_LABEL]
        self._rng = np.random.default_rng(1)

    def draw(self) -> tuple[list[int], Tensor]:
        """Indices of B crops and their (B,) labels."""
        rng, labels = self._rng, self._labels
        chosen = [labels[index] for index in rng.permutation(len(labels))[: _LABELS // 2]]
        for key in list(chosen):
            near = [other for other in labels if (other[0] == key[0]) != (other[1] == key[1]) or other[:2] == key[:2]]
            near = [other for other in near if other not in chosen]
            if near:
                chosen.append(near[int(rng.integers(len(near)))])
        rows, numbers = [], []
        for number, key in enumerate(chosen):
            views = self._views[key]
            cameras = list(views)
            for turn in range(_PER_LABEL):
                options = views[cameras[(turn + int(rng.integers(len(cameras)))) % len(cameras)]]
                rows.append(options[int(rng.integers(len(options)))])
                numbers.append(number)
        return rows, torch.tensor(numbers)


def train_embedder(out: Path, steps: int) -> Path:
    """Draw, train, export; returns the path of the ONNX file."""
    torch.manual_seed(1)
    begin = time.perf_counter()
    crops = collect(TRAIN_SEEDS)
    batches = Batches(crops)
    print(f"{len(crops.looks)} crops of {len({look.key for look in crops.looks})} looks, {_since(begin)}", flush=True)
    network, generator = Network(), torch.Generator().manual_seed(2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        rows, labels = batches.draw()
        loss = supervised_contrastive(network(augment(as_input(crops.pixels[rows]), generator)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(f"step {step + 1} of {steps}, loss {float(loss):.3f}, {_since(begin)}", flush=True)
    return export_embedder(network.eval(), out / "demo_embedder.onnx", VERSION, "python deploy/demo_models.py embedder")


def export_embedder(network: Network, path: Path, version: str, made_by: str) -> Path:
    """ONNX with a batch axis of any size, and its manifest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    example = torch.zeros(2, 3, INPUT.height_px, INPUT.width_px)
    axes = {"crops": {0: "batch"}, "embeddings": {0: "batch"}}
    torch.onnx.export(
        network,
        (example,),
        str(path),
        input_names=["crops"],
        output_names=["embeddings"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    note = "Apache-2.0, as the project; trained on pictures drawn by the project."
    manifest = ModelManifest(
        kind="embedder", version=version, input=INPUT, dimension=DIMENSION, made_by=made_by, licence_note=note
    )
    write_manifest(path, manifest)
    return path


def _since(begin: float) -> str:
    return f"{time.perf_counter() - begin:.0f} s"
