"""Labels without people: what a larger detector, the teacher, finds in a site's frames is what a small one learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from trainer.data.cache import fit
from trainer.detector.frames import pictures_of
from trainer.detector.labels import label_text
from trainer.detector.network import Detector, boxes_of
from trainer.errors import ConfigurationError, DataError, WorldError
from trainer.metrics.detection import Boxes

CHECK_EVERY = 5  # frames; the others are learned from
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
BLOCK = 32  # frames that the teacher sees at a time
Named = tuple[str, NDArray[np.uint8]]


def write_labels(
    teacher: Detector,
    frames: Path,
    out: Path,
    classes: tuple[str, ...] = (),
    *,
    count: int = 2000,
    score: float = 0.4,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Up to `count` evenly spread frames and the teacher's boxes of at least this score, in YOLO's layout below `out`;
    returns the path of its data.yaml. `classes` are those to keep, all where empty. `DataError` when the teacher finds
    nothing, `WorldError` when the disk refuses."""
    known = teacher.manifest.class_names
    names = classes or known
    if unknown := [name for name in names if name not in known]:
        raise ConfigurationError(
            [f"the teacher knows no {', '.join(unknown)}; it knows {', '.join(known)}"], "--classes"
        )
    numbers = np.array([names.index(name) if name in names else -1 for name in known])
    labelled = objects = 0
    for block in _blocks(pictures_of(frames, count, report)):
        for (name, picture), found in zip(block, _look(teacher, block, score), strict=True):
            kept = numbers[found.classes] >= 0
            boxes = Boxes(found.boxes[kept], found.scores[kept], numbers[found.classes[kept]])
            part = "val" if labelled % CHECK_EVERY == 0 else "train"
            _write(out, Path(part, f"{labelled:06d}-{name}"), picture, boxes)
            labelled, objects = labelled + 1, objects + len(boxes)
        report(f"{labelled} frames labelled, {objects} objects in them")
    if not objects:
        raise DataError(f"the teacher finds nothing of {', '.join(names)} in {labelled} frames of {frames}")
    path = out / "data.yaml"
    about = {"path": str(out.resolve()), "train": "images/train", "val": "images/val", "names": dict(enumerate(names))}
    path.write_text(yaml.safe_dump(about, sort_keys=False), encoding="utf-8")
    return path


def _look(teacher: Detector, block: list[Named], score: float) -> list[Boxes]:
    spec = teacher.manifest.input
    pixels = np.stack([fit(picture, spec) for _, picture in block])
    places = [spec.place(picture.shape[1], picture.shape[0]) for _, picture in block]
    return boxes_of(teacher.model, teacher.manifest, pixels, places, score)


def _blocks(pictures: Iterable[Named]) -> Iterator[list[Named]]:
    rest = iter(pictures)
    while block := list(islice(rest, BLOCK)):
        yield block


def _write(out: Path, name: Path, picture: NDArray[np.uint8], boxes: Boxes) -> None:
    image, label = out / "images" / f"{name}.jpg", out / "labels" / f"{name}.txt"
    try:
        image.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(cv2.imencode(".jpg", picture, JPEG)[1].tobytes())
        label.write_text(label_text(boxes, (picture.shape[1], picture.shape[0])), encoding="utf-8")
    except OSError as error:
        raise WorldError(f"{out} cannot be written: {error.strerror or error}") from None
