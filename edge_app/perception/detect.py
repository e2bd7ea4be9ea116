"""Pictures → boxes: letterbox, one run of the network, decode its head, map back, suppress duplicates."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_app.boxes import common_area, intersection_over_union
from edge_app.contract.errors import HeadError
from edge_app.contract.heads import DECODERS, recognise
from edge_app.contract.model import Head, check_digest, read_manifest
from edge_app.contract.preprocess import InputSpec, LetterboxMap
from edge_app.errors import ModelError
from edge_app.perception.class_names import agree, default_names, names_in
from edge_app.perception.losses import EMPTY_BOXES, REFUSED_BOXES, UNKNOWN_BOXES
from edge_app.runtime.engine import Engine, EngineSettings, check_input, describe
from edge_app.settings import FilePath, Settings
from edge_app.types import PERSON, Aside, Detections, Frame

log = logging.getLogger(__name__)

STRONG_SCORE = 0.5  # a box this sure that vanishes is no noise
WHOLE_PICTURE = 1.5  # beyond the corners of boxes that are given in fractions, where pixels are expected
ASIDE_SCORE = 0.05  # weaker boxes are noise, to whoever looks too
HIGHEST_SCORE = 1.05  # rounding of small numbers gives a little more than 1; raw logits give much more


class DetectorSettings(Settings):
    """The detector: a YOLO model in ONNX, described by the manifest beside it or here."""

    path: FilePath
    """The model file, or a signed bundle (`….bundle`) that holds it. `<name>.json` beside a file is its manifest."""
    input: InputSpec | None = None
    """How a picture becomes the network's input; needed where there is no manifest, else overrides it."""
    head: Head | None = None
    """Layout of the output; recognised from its shape where neither this nor the manifest names it."""
    class_names: tuple[str, ...] | None = None
    """Names of all classes of the model; overrides the manifest, and must not contradict what the model file says of
    itself. Left out, they are those of the file; a model of 80 classes without names is COCO's."""
    classes: tuple[str, ...] | None = None
    """Names of the classes to keep; all when absent. Persons are noticed in any case, where the model knows them: for
    `collection.persons`, and because of a rider often the person is found and not the motorcycle."""
    score_threshold: float = Field(default=0.1, gt=0, le=1)
    """Weaker boxes are dropped. Low on purpose: the tracker follows a known object through weak detections."""
    iou_threshold: float = Field(default=0.6, gt=0, le=1)
    """Of two boxes of one class that overlap more than this, the weaker is dropped."""
    duplicate_iou: float = Field(default=0.8, gt=0, le=1)
    """The same across classes: one object seen as car and as truck becomes one box. 1 switches it off. A person is
    never the same object as a vehicle here."""
    part_share: float = Field(default=0.9, gt=0, le=1)
    """A weaker box that lies in a stronger one with this share of its area, and fills a third of it, is a part of the
    same object (the cab of a truck) and is dropped. 1 switches it off."""
    max_detections: int = Field(default=300, gt=0, le=10_000)
    """The strongest boxes kept per frame."""
    max_batch: int = Field(default=8, gt=0, le=1024)
    """Frames per run of the network; more are run in turns."""
    engine: EngineSettings = EngineSettings()
    """How the model is run."""


def open_detector(settings: DetectorSettings, clock: Callable[[], float] = time.perf_counter) -> OnnxDetector:
    """Load the detector that the settings describe. Raises `ModelError` or `BundleError`."""
    from edge_app.runtime import open_engine

    manifest = read_manifest(settings.path)
    if manifest is not None:
        if manifest.kind != "detector":
            raise ModelError(f"{settings.path}: expected a detector, the manifest says {manifest.kind}")
        check_digest(settings.path, manifest)
        described = {"input": manifest.input, "head": manifest.head, "class_names": manifest.class_names}
        chosen = {name: value for name, value in described.items() if getattr(settings, name) is None}
        settings = settings.model_copy(update=chosen)
    return OnnxDetector(open_engine(settings.path, settings.engine, clock), settings)


class OnnxDetector:
    """A `Detector` on any `Engine`. Frames of different sizes may share a batch."""

    def __init__(self, engine: Engine, settings: DetectorSettings) -> None:
        """`settings.input` must be given; one blank picture is run to see the output. Raises `ModelError`."""
        from edge_app.perception.preprocess import Preprocessor

        where = str(settings.path)
        if settings.input is None:
            raise ModelError(f"{where} has no manifest: describe its `input` in the settings, or add {where[:-5]}.json")
        check_input(engine, settings.input, where)
        self.engine, self._settings, self._spec = engine, settings, settings.input
        try:
            self._preprocess = Preprocessor(settings.input, settings.max_batch, engine.inputs[0].dtype)
        except MemoryError:
            raise ModelError(f"{where}: no memory for batches of {settings.max_batch}; lower max_batch") from None
        blank = np.zeros((settings.input.height_px, settings.input.width_px, 3), np.uint8)
        self._shape = shape = self._run([blank])[0].shape
        self.input = settings.input
        self.keeps_aside = False
        self._failed = False  # whether a batch ever did; said once
        names = agree(settings.class_names, names_in(engine.metadata), where)
        try:
            self.head, count = recognise(shape, settings.input, len(names) if names else None, settings.head)
        except HeadError as error:
            raise ModelError(f"{where}: {error}") from None
        self.class_names = names or default_names(count, where)
        self._kept = _kept(self.class_names, settings.classes, where)
        self._person = np.array([name == PERSON for name in self.class_names])  # (C,) bool
        self._decode = DECODERS[self.head]

    def detect(self, frames: list[Frame]) -> list[Detections]:
        """One `Detections` per frame, strongest first, boxes clipped to the frame. Raises `ModelError`."""
        found: list[Detections] = []
        for start in range(0, len(frames), self._settings.max_batch):
            part = frames[start : start + self._settings.max_batch]
            images = [frame.image for frame in part if frame.image is not None]
            if len(images) != len(part):
                raise ModelError("a frame without a picture reached the detector; this camera delivers detections")
            found += self._found(images)
        return found

    def _found(self, images: list[Any]) -> list[Detections]:
        """Where a batch fails each picture is tried alone: one must not take the others along."""
        try:
            outputs, places = self._run(images)
            if self._shape[1:] != outputs.shape[1:] and self.head != "ultralytics-end2end":
                raise ModelError(f"{self._settings.path}: the output was {self._shape} at first, now {outputs.shape}")
        except ModelError as error:
            if len(images) > 1:
                return [each for image in images for each in self._found([image])]
            if not self._failed:
                log.warning("a picture is left out: %s", error)
            self._failed = True
            return [replace(Detections.empty(), lost={REFUSED_BOXES: 1})]
        return [self._finish(output, place) for output, place in zip(outputs, places, strict=True)]

    def about(self) -> str:
        """What it is, for `check`."""
        kept = self._settings.classes or self.class_names
        return f"{self.head} head, {len(kept)} classes, {self.engine.name}"

    def close(self) -> None:
        self.engine.close()

    def _run(self, images: list[Any]) -> tuple[NDArray[Any], list[LetterboxMap]]:
        batch, places = self._preprocess(images)
        outputs = self.engine.run(batch)
        if len(outputs) != 1:
            found = ", ".join(f"{port.name} {describe(port.shape)}" for port in self.engine.outputs)
            raise ModelError(f"{self._settings.path}: expected a detector with one output, this one has {found}")
        return outputs[0], places

    def _finish(self, output: NDArray[Any], place: LetterboxMap) -> Detections:
        least = self._settings.score_threshold
        found = self._decode(output, min(least, ASIDE_SCORE) if self.keeps_aside else least, self._spec)
        boxes, sized = found.in_picture(place)
        with np.errstate(invalid="ignore"):
            sized &= found.boxes.max(axis=1, initial=0) > WHOLE_PICTURE  # all of it within one pixel of the input
        sane = np.isfinite(found.boxes).all(axis=1) & (found.scores <= HIGHEST_SCORE)  # false for what is no number
        known = (found.classes >= 0) & (found.classes < len(self.class_names))
        lost = {
            REFUSED_BOXES: found.damaged + int((~sane).sum()),
            UNKNOWN_BOXES: int((sane & ~known).sum()),
            EMPTY_BOXES: int((sane & known & ~sized & (found.scores >= STRONG_SCORE)).sum()),
        }
        usable = np.flatnonzero(sane & known & sized)
        boxes, scores, classes = boxes[usable], found.scores[usable], found.classes[usable]
        asked = np.flatnonzero(self._kept[classes] & (scores >= least))
        rows = asked
        if len(asked):
            rows = asked[self._without_duplicates(boxes[asked], scores[asked], classes[asked], least)]
        scores = np.clip(scores, 0, 1)
        aside = self._aside(boxes, scores, classes, rows) if self.keeps_aside else None
        return Detections(boxes[rows], scores[rows], classes[rows], lost, aside)

    def _aside(
        self, boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.int64], kept: Any
    ) -> Aside:
        """What is found where nothing is kept."""
        overlap = intersection_over_union(boxes, boxes[kept]).max(axis=1, initial=0.0)
        left = np.flatnonzero(overlap < self._settings.iou_threshold)
        if len(left):
            left = left[self._without_duplicates(boxes[left], scores[left], classes[left], 0.0)]
        why: tuple[Any, ...] = tuple("weak" if asked else "class" for asked in self._kept[classes[left]])
        return Aside(boxes[left], scores[left], classes[left], why)

    def _without_duplicates(
        self, boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.int64], least: float
    ) -> NDArray[np.intp]:
        """Rows to keep, strongest first: suppression within each class, then of near-equal boxes across classes."""
        from cv2 import dnn

        suppress: Any = dnn.NMSBoxesBatched  # OpenCV's type hints know lists only, its code takes arrays
        settings = self._settings
        rows = np.arange(len(scores))
        corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)  # x y w h
        kinds = self._person[classes].astype(np.int64)  # a rider is no part of the motorcycle
        if self.head != "ultralytics-end2end":
            rows = np.array(suppress(corners, scores, classes, least, settings.iou_threshold), np.intp)
        if settings.duplicate_iou < 1 and len(rows) > 1:
            alike = suppress(corners[rows], scores[rows], kinds[rows], least, settings.duplicate_iou)
            rows = rows[np.array(alike, np.intp)]
        rows = rows[np.argsort(-scores[rows], kind="stable")][: settings.max_detections]
        return rows[~parts(boxes[rows], kinds[rows], settings.part_share)] if settings.part_share < 1 else rows


def parts(boxes: NDArray[np.float32], kinds: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """(N, 4) boxes, strongest first, (N,) kinds → (N,) whether each is a part of a stronger one of its kind; O(N²)."""
    shared = common_area(boxes[:, None], boxes[None])  # (N, N)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    inside = (shared >= share * area[:, None]) & (shared >= area[None, :] / 3) & (kinds[:, None] == kinds[None, :])
    found: NDArray[np.bool_] = np.tril(inside, -1).any(axis=1)  # [i, j] with j < i: j is the stronger
    return found


def _kept(names: tuple[str, ...], wanted: tuple[str, ...] | None, where: str) -> NDArray[np.bool_]:
    """(C,) bool: which are kept, persons always. Raises `ModelError` for a name that the model does not know."""
    unknown = [name for name in wanted or () if name not in names]
    if unknown:
        raise ModelError(f"{where}: no class {', '.join(map(repr, unknown))}; the model knows {', '.join(names)}")
    return np.array([wanted is None or name in wanted or name == PERSON for name in names])
