"""A generic embedder, the start of `deploy/demo.sh --loop`: it has seen vehicles, but none of the simulated town's.

The demo's network and loss (demo_embedder.py), on other pictures: bodies stretched in length, width and height, paints
that are none of the town's, on bodies and marks, and cameras that stand elsewhere, each with a light of its own. So it
knows what a vehicle is and that light deceives; what is at a site, and how its cameras show it, it has to learn there.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_embedder import INPUT, Network, as_input, augment, export_embedder, supervised_contrastive
from torch import Tensor, nn

from edge_app.simulation.figures import draw_vehicle
from edge_app.simulation.film import Film
from edge_app.simulation.geometry import Pose
from edge_app.simulation.looks import MARK_PAINT, MARKS, PAINT, Look
from edge_app.simulation.scenery import background
from edge_app.simulation.shapes import SHAPES, Outline, Part, Shape
from edge_app.simulation.sites import CameraSpec
from edge_app.simulation.views import View
from edge_app.types import Image

VERSION = "generic-embedder-1"
CAMERAS, BODIES, LOOKS = 32, 40, 2400
SHOWN = 0.16  # share of the looks that a camera sees
STRETCH = (0.78, 0.92, 1.08, 1.24)  # of a body's length, width and height: never what it is in the town
MARKED = 0.6  # share of the looks that have a mark
APART = 40.0  # a paint is so far from each of the town's, in grey levels
_LABELS, _PER_LABEL = 28, 4  # per batch
_SCENERIES = ("suburb", "street", "water", "harbour")


class GenericNetwork(Network):
    """(B, 3, 96, 112) → (B, 128) rows of any length: the demo's network of layers that the trainer can read back from
    ONNX and train on. Who embeds makes the rows unit rows."""

    def forward(self, x: Tensor) -> Tensor:
        maps = self.blocks(self.stem(x))  # (B, 128, 6, 7)
        rows = nn.functional.avg_pool2d(maps, (2, 7)).flatten(1)
        columns = nn.functional.avg_pool2d(maps, (6, 3), (6, 2)).flatten(1)
        pooled = torch.cat([rows, columns, nn.functional.max_pool2d(maps, (6, 7)).flatten(1)], 1)
        return self.neck(pooled)  # type: ignore[no-any-return]


def bodies(rng: np.random.Generator) -> list[str]:
    """Names of new bodies, which are put beside the town's."""
    names = []
    for number in range(BODIES):
        model = SHAPES[str(rng.choice(["hatchback", "saloon", "estate", "van", "truck", "bus"]))]
        body = _stretched(model, f"{model.name}-{number}", rng.choice(STRETCH, 3))
        SHAPES[body.name] = body
        names.append(body.name)
    return names


def _stretched(model: Shape, name: str, by: np.ndarray) -> Shape:
    length, width, height = map(float, by)

    def outline(points: Outline) -> Outline:
        return tuple((x * length, z * height) for x, z in points)

    def part(one: Part) -> Part:
        return replace(
            one,
            profile=outline(one.profile),
            half_width_m=one.half_width_m * width,
            roof_inset_m=one.roof_inset_m * width,
            belt_m=one.belt_m * height,
            side_windows=tuple(map(outline, one.side_windows)),
        )

    return replace(
        model,
        name=name,
        length_m=model.length_m * length,
        parts=tuple(map(part, model.parts)),
        wheels_m=tuple(x * length for x in model.wheels_m),
        plate_z_m=model.plate_z_m * height,
    )


def looks(names: list[str], rng: np.random.Generator) -> list[Look]:
    """Bodies and marks in paints that the town does not have; a body's paint is a tint of white."""
    white, found = np.array(PAINT["white"]), list[Look]()
    for number in range(LOOKS):
        blue, green, red = (_paint(rng, PAINT) / white).tolist()
        marks = []
        if rng.random() < MARKED:
            colour = f"other-{number}"
            painted = _paint(rng, MARK_PAINT).round().astype(int).tolist()
            MARK_PAINT[colour] = (painted[0], painted[1], painted[2])
            marks.append((str(rng.choice(list(MARKS))), colour))
        found.append(Look(str(rng.choice(names)), "white", tuple(marks), (blue, green, red)))
    return found


def _paint(rng: np.random.Generator, town: dict[str, tuple[int, int, int]]) -> np.ndarray:
    """(3,) BGR, far from all that the town has."""
    known = np.array([paint for name, paint in town.items() if not name.startswith("other-")])
    while True:
        paint = rng.uniform(20, 235, 3)
        if np.linalg.norm(known - paint, axis=1).min() > APART:
            return paint


def camera(number: int, rng: np.random.Generator) -> CameraSpec:
    """Somewhere beside the road, looking along it or across."""
    kind = ("front", "rear", "side")[number % 3]
    aside, high = float(rng.uniform(-13, 5)), float(rng.uniform(4, 8.5))
    if kind == "front":
        pose = Pose((float(rng.uniform(36, 62)), aside, high), (float(rng.uniform(18, 34)), 0.0, 0.2), 0.86)
    elif kind == "rear":
        pose = Pose((float(rng.uniform(-14, -6)), aside, high), (float(rng.uniform(9, 18)), 0.0, 0.2), 0.84)
    else:
        x = float(rng.uniform(8, 20))
        pose = Pose((x + float(rng.uniform(-5, 5)), float(rng.uniform(-20, -13)), high), (x, 0.5, 1.0), 0.8)
    scenery: Any = str(rng.choice(_SCENERIES))
    return CameraSpec(f"elsewhere-{number}", kind, pose, 9.0, (0.5, 0.5), scenery=scenery)  # type: ignore[arg-type]


def collect() -> tuple[list[Look], np.ndarray, np.ndarray, np.ndarray]:
    """All looks; (N, h, w, 3) uint8 BGR crops, (N,) numbers of their looks, (N,) their cameras."""
    rng = np.random.default_rng(401)
    known = looks(bodies(rng), rng)
    pixels, labels, cameras = [], [], []
    for number in range(CAMERAS):
        spec = camera(number, rng)
        scene = background(spec, "elsewhere")
        film = Film("elsewhere", spec.id, float(rng.uniform(0.1, 0.9)), scene.shape[:2])
        view = View(spec)
        for label in np.flatnonzero(rng.random(LOOKS) < SHOWN):
            crop = _shot(known[label], view, film, scene, rng)
            if crop is not None:
                pixels.append(crop)
                labels.append(int(label))
                cameras.append(number)
    return known, np.stack(pixels), np.array(labels), np.array(cameras)


def _shot(look: Look, view: View, film: Film, scene: Image, rng: np.random.Generator) -> Image | None:
    """A crop of a vehicle that drives by, cut with a detector's inaccuracy; None where it is not seen well."""
    import cv2

    shape, lateral = SHAPES[look.shape], float(rng.uniform(-2, 2))
    try:
        position = float(rng.uniform(*view.span_m(shape, lateral)))
    except ValueError:  # this camera never sees it there
        return None
    box = view.clipped(view.boxes(shape, np.array([position]), lateral))[0]
    sides = box[2:] - box[:2]
    if sides.min() < 16:
        return None
    picture = scene.copy()
    draw_vehicle(picture, view.projection, look, (position, lateral), bool(rng.random() < 0.2))
    picture = film.develop(picture, float(rng.uniform(0, 1e6)))
    limits = [scene.shape[1], scene.shape[0]] * 2
    x0, y0, x1, y1 = np.clip(box + rng.normal(0.0, 0.03, 4) * np.tile(sides, 2), 0, limits)
    crop = picture[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
    shrunk: Image = cv2.resize(crop, (INPUT.width_px, INPUT.height_px), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return shrunk


def _alike(known: list[Look], usable: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Looks of a batch: to half of them one that is nearly the same, of one body, or nearest in paint."""
    tints, shapes = np.array([look.tint for look in known]), np.array([look.shape for look in known])
    chosen: list[int] = rng.choice(usable, _LABELS // 2, replace=False).tolist()
    for label in list(chosen):
        apart = np.abs(tints - tints[label]).sum(1)
        if rng.random() < 0.5:
            apart[shapes != shapes[label]] += 10.0
        apart[chosen] = np.inf
        chosen.append(int(rng.choice(usable[np.argsort(apart[usable])[:4]])))
    return chosen


def train_generic(out: Path, steps: int) -> Path:
    """Draw, train, export; returns the path of the ONNX file."""
    torch.manual_seed(1)
    begin, rng = time.perf_counter(), np.random.default_rng(2)
    known, pixels, labels, cameras = collect()
    views: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (label, number) in enumerate(zip(labels.tolist(), cameras.tolist(), strict=True)):
        views[label][number].append(row)
    usable = np.array([label for label, seen in views.items() if len(seen) >= _PER_LABEL])
    print(f"{len(pixels)} crops of {len(views)} looks by {len(set(cameras.tolist()))} cameras", flush=True)
    network, generator = GenericNetwork().to(memory_format=torch.channels_last), torch.Generator().manual_seed(2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        chosen = _alike(known, usable, rng)
        rows = [
            int(rng.choice(views[label][int(number)]))
            for label in chosen
            for number in rng.choice(list(views[label]), _PER_LABEL, replace=False)
        ]
        named = torch.arange(_LABELS).repeat_interleave(_PER_LABEL)
        crops = augment(as_input(pixels[rows]), generator).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):  # with channels last a third of the time on a processor
            embedded = network(crops)
        loss = supervised_contrastive(nn.functional.normalize(embedded.float(), dim=1), named)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(
                f"step {step + 1} of {steps}, loss {loss.item():.3f}, {time.perf_counter() - begin:.0f} s", flush=True
            )
    return export_embedder(
        network.eval().to(memory_format=torch.contiguous_format),
        out / "generic_embedder.onnx",
        VERSION,
        "python deploy/demo_models.py generic",
    )
