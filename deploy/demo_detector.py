"""The demo's detector: a very small YOLO26, trained with Ultralytics (AGPL-3.0) on pictures of the simulated site.

Labels are the simulator's. Worlds for training, validation and test have different seeds, and none has the demo's.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_app.contract.preprocess import InputSpec
from edge_app.perception.detect import DetectorSettings, open_detector
from edge_app.simulation.detections import intersection_over_union
from edge_app.simulation.render import Renderer
from edge_app.simulation.shapes import CLASS_NAMES
from edge_app.simulation.world import Visible, World
from edge_app.types import Frame
from trainer.detector.labels import label_text
from trainer.detector.weights import to_detector, write_detector
from trainer.metrics.detection import Boxes

if TYPE_CHECKING:
    from ultralytics import YOLO

NAMES = (*CLASS_NAMES, "person")
# grey levels go in as they are: the network divides by 255 itself, on a quarter of the bytes
INPUT = InputSpec(width_px=640, height_px=384, channel_order="RGB", scale=1.0, resize="letterbox", pad_value=114)
DEPTH, WIDTH, MAXIMUM_CHANNELS = 0.33, 0.125, 1024  # of the YOLO26 family; nano is 0.5, 0.25, 1024
VERSION = "demo-detector-2"
FIRST_SEEDS, SECOND_SEEDS = range(1000, 1028), range(1100, 1128)
CHECK_SEEDS, TEST_SEEDS = range(1900, 1902), range(2000, 2004)
PICTURES_PER_CAMERA = 16
_CHECK_SCORE = 0.35
_HIDDEN = 0.8  # vehicles hidden more than this are not labelled


@dataclass(frozen=True, slots=True)
class Picture:
    """One labelled picture."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    truth: Visible
    world: World


def pictures(seeds: range, per_camera: int) -> Iterator[Picture]:
    """Pictures of all cameras at random times; every third world is another town, half of them have pedestrians."""
    for seed in seeds:
        rng = np.random.default_rng([seed, 3])
        site = "grid-16" if seed % 3 == 2 else "town"
        persons = seed % 2 == 0
        world = World(site, seed=seed, difficulty=float(rng.uniform(0.1, 1.0)), seconds=240.0, persons=persons)
        chosen = rng.permutation(len(world.cameras))[:4]
        for camera in (world.cameras[index].id for index in chosen):
            renderer = Renderer(world, camera)
            times = world.start_s + np.sort(rng.uniform(0.0, 240.0, per_camera * 3))
            # Empty pictures teach little: one in six is kept.
            busy = [t for t in times if len(world.visible(camera, t)) or rng.random() < 1 / 6]
            for time_s in rng.permutation(busy)[:per_camera]:
                yield Picture(renderer.frame(float(time_s)), world.visible(camera, float(time_s)), world)


def write_dataset(folder: Path, seeds: range) -> Path:
    """Pictures and labels in Ultralytics' layout; returns the path of its data.yaml."""
    import cv2

    for part, worlds in (("train", seeds), ("val", CHECK_SEEDS)):
        (folder / "images" / part).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / part).mkdir(parents=True, exist_ok=True)
        for index, picture in enumerate(pictures(worlds, PICTURES_PER_CAMERA)):
            # A scrambled name: Ultralytics reads in the order of names when it does not shuffle.
            name = f"{(index * 7919) % 99991:05d}"
            cv2.imwrite(str(folder / "images" / part / f"{name}.jpg"), picture.image, [cv2.IMWRITE_JPEG_QUALITY, 97])
            size = (picture.image.shape[1], picture.image.shape[0])
            (folder / "labels" / part / f"{name}.txt").write_text(label_text(labelled(picture), size))
        print(f"{part}: {index + 1} pictures", flush=True)
    names = dict(enumerate(NAMES))
    data = folder / "data.yaml"
    data.write_text(json.dumps({"path": str(folder), "train": "images/train", "val": "images/val", "names": names}))
    return data


def labelled(picture: Picture) -> Boxes:
    """The true boxes that are worth learning or finding: those not hidden too much."""
    truth = picture.truth
    shown = truth.occluded <= _HIDDEN
    return Boxes(truth.boxes[shown], np.ones(int(shown.sum()), np.float32), truth.classes[shown])


def train_detector(out: Path, work: Path, epochs: int, first: Path | None = None) -> Path:
    """Draw, train, export; returns the path of the ONNX file.

    Two phases of `epochs` on pictures of different worlds, the second with a smaller step; `first` are the weights of
    a first phase that was trained before.
    """
    from ultralytics import YOLO
    from ultralytics.nn.tasks import yaml_model_load

    work.mkdir(parents=True, exist_ok=True)
    if first is None:
        architecture = yaml_model_load("yolo26n.yaml")
        architecture["scales"] = {"n": [DEPTH, WIDTH, MAXIMUM_CHANNELS]}
        scaled = work / "yolo26n.yaml"
        scaled.write_text(json.dumps({key: value for key, value in architecture.items() if "yaml" not in key}))
        first = _fit(YOLO(str(scaled), task="detect"), work / "first", FIRST_SEEDS, epochs, 0.002)
    second = _fit(YOLO(str(first)), work / "second", SECOND_SEEDS, epochs, 0.001)
    return export_detector(second, out)


def _fit(model: YOLO, work: Path, seeds: range, epochs: int, step_size: float) -> Path:
    """Train on the worlds of these seeds; returns the path of the weights."""
    shutil.rmtree(work, ignore_errors=True)
    data = write_dataset(work, seeds)
    begin = time.perf_counter()
    model.train(
        data=str(data),
        epochs=epochs,
        imgsz=INPUT.width_px,
        rect=True,  # 640 × 384, no mosaic
        batch=8,
        nbs=8,  # step after every batch
        device="cpu",
        workers=0,
        optimizer="AdamW",
        lr0=step_size,
        lrf=0.02,
        warmup_epochs=0.5,
        cos_lr=True,
        degrees=0.0,
        translate=0.04,
        scale=0.15,
        hsv_h=0.01,
        hsv_s=0.3,
        hsv_v=0.25,
        seed=1,
        deterministic=True,
        plots=False,
        val=False,
        project=str(work),
        name="run",
        exist_ok=True,
        verbose=False,
    )
    print(f"training took {time.perf_counter() - begin:.0f} s", flush=True)
    return work / "run" / "weights" / "last.pt"


def export_detector(weights: Path, out: Path) -> Path:
    """ONNX with the raw head (cx cy w h and a score per class) that takes grey levels, and its manifest."""
    detector = to_detector(weights, "raw", INPUT.width_px, INPUT.height_px, trusted=True)
    about = {"version": VERSION, "class_names": NAMES, "made_by": "python deploy/demo_models.py detector"}
    target = out / "demo_detector.onnx"
    write_detector(replace(detector, manifest=detector.manifest.model_copy(update=about)), target)
    return target


def check_detector(path: Path, per_camera: int = 20) -> dict[str, float]:
    """Recall and precision at IoU 0.5, with the application's own detector, on worlds that the training never saw.

    Recall counts vehicles hidden by at most a quarter, cut by at most a half and at least 24 px high; a detection is
    false when it fits no vehicle at all, hidden ones included.
    """
    detector = open_detector(DetectorSettings(path=path, score_threshold=_CHECK_SCORE))
    wanted = found = right_class = right = detected = 0
    spent = []
    for picture in pictures(TEST_SEEDS, per_camera):
        height, width = picture.image.shape[:2]
        begin = time.perf_counter()
        seen = detector.detect([Frame("check", 0.0, picture.image, width, height)])[0]
        spent.append(time.perf_counter() - begin)
        overlaps = intersection_over_union(seen.boxes, picture.truth.boxes)
        detected += len(seen)
        if not len(picture.truth) or not len(seen):
            wanted += int(_open(picture.truth).sum())
            continue
        right += int((overlaps.max(1) >= 0.5).sum())
        open_ = _open(picture.truth)
        wanted += int(open_.sum())
        hit = (overlaps.max(0) >= 0.5) & open_
        found += int(hit.sum())
        right_class += int((hit & (seen.classes[overlaps.argmax(0)] == picture.truth.classes)).sum())
    return {
        "recall": found / wanted,
        "precision": right / max(detected, 1),
        "class_accuracy": right_class / max(found, 1),
        "vehicles": wanted,
        "detect_ms_p50": float(np.median(spent)) * 1e3,
        "bytes": path.stat().st_size,
    }


def _open(truth: Visible) -> np.ndarray:
    """(K,) bool: large, whole and open enough that missing it is a mistake."""
    tall = truth.boxes[:, 3] - truth.boxes[:, 1] >= 24
    return tall & (truth.occluded <= 0.25) & (truth.cut <= 0.5)
