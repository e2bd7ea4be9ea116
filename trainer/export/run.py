"""From a checkpoint to a bundle, top down: export, try the smallest precision, judge it, else the next; sign and write.

Nothing is shipped silently: the bundle carries the figures of every precision that was tried, and why this one ships.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.bundle_manifest import Calibration, Precision
from edge_app.contract.messages import Gate
from trainer import checkpoint
from trainer.errors import ConfigurationError, DataError
from trainer.export import held_out, sensitivity
from trainer.export.graph import half
from trainer.export.onnx import check_against_torch, rows_of, to_onnx
from trainer.export.quantize import choose, describe, quantize
from trainer.export.verify import Comparison, Judges, Limits, compare, failures, gates

if TYPE_CHECKING:
    from onnx import ModelProto

TRIED: dict[str, tuple[Precision, ...]] = {
    "auto": ("int8", "fp16", "fp32"),
    "int8": ("int8",),
    "fp16": ("fp16",),
    "fp32": ("fp32",),
}
SEARCHED = 24  # calibration crops that a layer's cost is measured on
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What to export, and what to judge it by."""

    model: Path
    data: Path
    layout: str | None
    cache: Path
    precision: str = "auto"  # a key of TRIED
    images: int = 512  # for the INT8 ranges
    crops: int = 2000  # held out for the gate
    budget: float = sensitivity.BUDGET  # share of the layers that may be left out of INT8
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network as it would ship."""

    precision: Precision
    model: ModelProto
    rows: NDArray[np.float32]  # (N, D) of the held-out crops
    comparison: Comparison
    gates: tuple[Gate, ...]
    float_layers: tuple[str, ...] = ()
    sensitivity: dict[str, float] = field(default_factory=dict)
    remark: str = ""  # how it came to pass


@dataclass(frozen=True, slots=True)
class Exported:
    """What ships, and all that is said about it."""

    source: checkpoint.Model
    chosen: Candidate
    reason: str
    gates: tuple[Gate, ...]  # of every precision that was tried
    float_rows: NDArray[np.float32]  # (N, D)
    pixels: NDArray[np.uint8]  # (N, H, W, 3) held-out crops, in the network's channel order
    calibration: Calibration | None
    times_s: tuple[float, float] | None  # capture times of the first and last training crop


@dataclass(frozen=True, slots=True)
class Bench:
    """The float network and the crops that others are measured on."""

    plain: ModelProto
    held: NDArray[np.uint8]  # (N, H, W, 3)
    float_rows: NDArray[np.float32]  # (N, D)
    judges: Judges | None
    limits: Limits

    def judge(self, precision: Precision, model: ModelProto) -> Candidate:
        rows = rows_of(model, self.held)
        comparison = compare(self.float_rows, rows, self.judges, self.limits)
        return Candidate(precision, model, rows, comparison, gates(comparison, self.limits, f"{precision}_"))


def export(request: Request, report: Report) -> Exported:
    """Everything but the file. `DataError` when the asked precision misses the gate."""
    if request.precision not in TRIED:
        raise ConfigurationError([f"--precision {request.precision}: expected {', '.join(TRIED)}"], "command line")
    source = checkpoint.load_model(request.model)
    crops = held_out.gather(request.data, request.layout, request.cache, source.spec, request.crops)
    plain = to_onnx(source)
    difference = check_against_torch(source, plain, crops.held[:8])
    report(f"ONNX: {len(plain.graph.node)} nodes, differs from torch by at most {difference:.1e}")
    float_rows = rows_of(plain, crops.held)
    judges = held_out.judges(crops, float_rows)
    bench = Bench(plain, crops.held, float_rows, judges, request.limits)
    found: list[Gate] = []
    missed: list[str] = []
    calibration = None
    for precision in TRIED[request.precision]:
        if precision == "int8":
            rows = choose(crops.spare, request.images)
            calibration = describe(crops.spare, rows)
            report(f"INT8 ranges from {calibration.images} crops, {calibration.chosen}")
            candidate = _int8(bench, np.asarray(crops.spare_pixels[rows]), request, report)
        else:
            candidate = bench.judge(precision, half(plain) if precision == "fp16" else plain)
        found += candidate.gates
        failed = failures(candidate.gates)
        report(f"{precision}: {failed or f'every gate passed{candidate.remark}'}")
        if not failed:
            reason = "; ".join([*missed, f"{precision} passes every gate{candidate.remark}"])
            calibrated = calibration if precision == "int8" else None
            times = held_out.window(crops.spare)
            return Exported(source, candidate, reason, tuple(found), float_rows, crops.held, calibrated, times)
        missed.append(f"{precision} misses {failed}")
    raise DataError(f"{request.model}: {'; '.join(missed)}; export with --precision auto, which ships what passes")


def _int8(bench: Bench, pixels: NDArray[np.uint8], request: Request, report: Report) -> Candidate:
    """INT8 as it comes, and where that misses the gate, with its worst layers left out. What is not INT8 stays FP32."""
    quantized = quantize(bench.plain, pixels)
    whole = bench.judge("int8", quantized)
    failed = failures(whole.gates)
    if not failed or not request.budget:
        return whole
    report(f"int8 with every layer: {failed}; looking for the layers to leave out")
    few = pixels[:: max(1, len(pixels) // SEARCHED)][:SEARCHED]
    begin = time.monotonic()
    cost = sensitivity.costs(quantized, few, rows_of(bench.plain, few))
    report(f"the cost of each of {len(cost)} layers, in {time.monotonic() - begin:.0f} s")
    judged: list[Candidate] = []

    def passes(model: ModelProto) -> bool:
        judged.append(bench.judge("int8", model))
        return not failures(judged[-1].gates)

    trial = sensitivity.search(quantized, cost, passes, request.budget)
    if trial is None:
        closest = max(judged, key=lambda each: float(each.comparison.cosines.min()), default=whole)
        report(f"int8 misses the gate with up to {request.budget:.0%} of the layers left out")
        return replace(closest, sensitivity=cost)
    best = next(each for each in judged if each.model is trial.model)
    remark = f" with {len(trial.float_layers)} of {len(cost)} layers left out (with every layer it misses {failed})"
    return replace(best, float_layers=trial.float_layers, sensitivity=cost, remark=remark)
