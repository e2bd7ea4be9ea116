"""A detector from its file to what goes into a bundle: the smallest precision whose boxes are still the same.

    mAP loss    mAP@[.5:.95] of the float network − that of the smaller one, in points, against labels; where there are
                none, AP@.5 against the float network's own boxes, of which that has 100
    found again the share of the float network's boxes that the smaller one finds too, same class, IoU ≥ 0.5

Decoding, and everything behind the last convolution, stays float (`trainer.onnx_graph.nodes`); so does normalisation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.bundle_manifest import BundledModel, Calibration, Gate, Judgement, Precision
from trainer.data.records import spread
from trainer.detector.frames import Frames, gather
from trainer.detector.network import Detector, boxes_of, read_detector
from trainer.export import ladder, sensitivity
from trainer.export.ladder import Report
from trainer.export.quantize import Ranges, quantize
from trainer.metrics.detection import Boxes, agreement, likeness, mean_average_precision, own_average_precision
from trainer.models.licence import UNKNOWN

if TYPE_CHECKING:
    from onnx import ModelProto

SURE = 0.3  # a box of at least this score is one that must be found again
WEAK = 0.1  # score that is enough to have found it: what the roadside's tracker still follows
WEAKEST = 0.01  # boxes that mAP looks at
SEARCHED = 8  # calibration frames that ranges and layers are chosen on


@dataclass(frozen=True, slots=True)
class Limits:
    """What a network must keep to ship."""

    map_loss: float = 1.0  # points, of mAP or of the own AP
    found_again: float = 0.95
    boxes: int = 60  # of the float network; with fewer nothing is judged, as of an embedder's crops


@dataclass(frozen=True, slots=True)
class Request:
    """Which detector, and the frames to judge it by."""

    path: Path  # ONNX
    frames: Path
    description: Path | None = None  # in place of the JSON beside it
    precision: str = "auto"  # a key of ladder.TRIED
    images: int = 256  # for the INT8 ranges
    judges: int = 200  # held out for the gate
    budget: float = sensitivity.BUDGET
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A smaller network against the float one."""

    found_again: float
    mAP_float: float  # noqa: N815  in percent
    mAP: float  # noqa: N815
    labelled: bool  # else AP against the float network's own boxes, at IoU 0.5
    boxes: int  # of the float network, that must be found again


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(ladder.Candidate):
    """A detector as it would ship."""

    comparison: Comparison


@dataclass(frozen=True, slots=True)
class ExportedDetector:
    """What ships, and all that is said about it."""

    source: Detector
    chosen: Candidate
    reason: str
    gates: tuple[Gate, ...]  # of every precision that was tried
    calibration: Calibration | None


@dataclass(frozen=True)
class Bench:
    """The float network and the frames that others are made from and measured on; a `ladder.Bench`."""

    detector: Detector
    spare: Frames
    held: Frames
    limits: Limits

    @property
    def plain(self) -> ModelProto:
        return self.detector.model

    @cached_property
    def float_boxes(self) -> list[Boxes]:
        return self._boxes(self.plain, self.held)

    @cached_property
    def float_mean(self) -> float:
        """mAP of the float network against labels, in percent."""
        return mean_average_precision(self.held.truth, self.float_boxes).mAP if self.held.truth else 100.0

    def compare(self, model: ModelProto) -> Comparison:
        found, own = self._boxes(model, self.held), [each.above(SURE) for each in self.float_boxes]
        again = agreement(own, [each.above(WEAK) for each in found])
        if self.held.truth is not None:
            smaller = mean_average_precision(self.held.truth, found).mAP
            return Comparison(again, self.float_mean, smaller, True, sum(map(len, own)))
        doubtful_too = [each.above(WEAK) for each in self.float_boxes]
        smaller = own_average_precision(doubtful_too, found, SURE)
        return Comparison(again, 100.0, smaller, False, sum(map(len, own)))

    def judge(self, precision: Precision, model: ModelProto) -> Candidate:
        comparison = self.compare(model)
        verdict = gates(comparison, self.limits, f"{precision}_")
        about = judgement(comparison, len(self.held), self.limits)
        return Candidate(precision=precision, model=model, gates=verdict, judgement=about, comparison=comparison)

    def quantize(self, ranges: Ranges) -> ModelProto:
        return quantize(self.plain, self.spare.pixels, ranges)

    def loss(self, model: ModelProto) -> float:
        frames, own = self._few
        return 1 - likeness(own, self._boxes(model, frames), SURE)

    @cached_property
    def _few(self) -> tuple[Frames, list[Boxes]]:
        """A few calibration frames and the float network's boxes in them."""
        rows = spread(len(self.spare), SEARCHED)
        few = Frames(self.spare.pixels[rows], tuple(self.spare.places[row] for row in rows), None)
        return few, self._boxes(self.plain, few)

    def _boxes(self, model: ModelProto, frames: Frames) -> list[Boxes]:
        return boxes_of(model, self.detector.manifest, frames.pixels, frames.places, WEAKEST)


def gates(comparison: Comparison, limits: Limits, prefix: str = "") -> tuple[Gate, ...]:
    """Every figure with its limit."""
    again, loss = comparison.found_again, comparison.mAP_float - comparison.mAP
    name = "map_loss" if comparison.labelled else "own_ap50_loss"
    return (
        Gate(name=f"{prefix}found_again", value=again, limit=limits.found_again, passed=again >= limits.found_again),
        Gate(name=f"{prefix}{name}", value=loss, limit=limits.map_loss, passed=loss <= limits.map_loss),
    )


def judgement(comparison: Comparison, frames: int, limits: Limits) -> Judgement:
    """What the gate looked at, and whether that is enough."""
    by = f"{frames:,} held-out frames with {comparison.boxes:,} sure boxes of the float network"
    by += ", and their labels" if comparison.labelled else ", no labels"
    enough = comparison.boxes >= limits.boxes
    return Judgement(
        pictures=frames, by=by if enough else f"{by}; at least {limits.boxes} boxes are needed", enough=enough
    )


def open_bench(request: Request, report: Report = lambda line: None) -> Bench:
    """The detector and its frames; `report` is told what is passed over. `DataError` when either cannot be used."""
    detector = read_detector(request.path, request.description)
    manifest = detector.manifest
    about = request.frames, manifest.input, manifest.class_names, request.images, request.judges
    found = gather(*about, say=report)
    return Bench(detector, found.spare, found.held, request.limits)


def export(request: Request, report: Report) -> ExportedDetector:
    """Everything but the file. `DataError` when the asked precision misses the gate."""
    ladder.check(request.precision)
    bench = open_bench(request, report)
    judge = "their labels" if bench.held.truth is not None else "the boxes of FP32, there are no labels"
    about = f"{len(bench.spare)} frames for ranges, {len(bench.held)} for the gate, judged by {judge}"
    report(f"detector with the head {bench.detector.manifest.head}: {about}")
    found = ladder.settle(str(request.path), bench, request.precision, request.budget, report)
    calibration = describe(bench.spare.pixels, request.frames) if found.chosen.precision == "int8" else None
    return ExportedDetector(bench.detector, found.chosen, found.reason, found.gates, calibration)


def describe(pixels: NDArray[np.uint8], frames: Path) -> Calibration:
    """What the bundle says about the frames that the ranges are from: digests of the pixels that the network saw."""
    digests = sorted(hashlib.sha256(each.tobytes()).hexdigest() for each in pixels)
    return Calibration(
        images=len(pixels),
        sha256=hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest(),
        chosen=f"evenly from {frames.name}"[:300],
    )


def bundled(exported: ExportedDetector) -> BundledModel:
    """What the bundle's manifest says about it; the digest is filled in when the bundle is written."""
    chosen, described = exported.chosen, exported.source.manifest
    return BundledModel(
        model=described.model_copy(update={"licence_note": described.licence_note or UNKNOWN}),
        precision=chosen.precision,
        precision_reason=exported.reason[:2000],
        gates=exported.gates,
        judgement=chosen.judgement,
        float_layers=tuple(layer[:300] for layer in chosen.float_layers),
        sensitivity=chosen.sensitivity,
        calibration=exported.calibration,
    )
