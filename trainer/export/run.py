"""An embedder from a checkpoint to what goes into a bundle, top down: ONNX, then the smallest precision that passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.bundle_manifest import Calibration, Gate, Precision, Similarities
from trainer import checkpoint
from trainer.data.records import spread
from trainer.export import held_out, ladder, sensitivity
from trainer.export.ladder import Report
from trainer.export.onnx import check_against_torch, to_onnx
from trainer.export.quantize import Ranges, choose, describe, quantize
from trainer.export.similarities import certain_similarities
from trainer.export.verify import Comparison, Judges, Limits, compare, gates, judgement
from trainer.onnx_graph.session import rows_of

if TYPE_CHECKING:
    from onnx import ModelProto

SEARCHED = 96  # calibration crops that ranges and layers are chosen on


@dataclass(frozen=True, slots=True)
class Request:
    """What to export, and what to judge it by."""

    model: Path
    data: Path
    layout: str | None
    cache: Path
    precision: str = "auto"  # a key of ladder.TRIED
    images: int = 512  # for the INT8 ranges
    crops: int = 2000  # held out for the gate
    budget: float = sensitivity.BUDGET  # share of the layers that may be left out of INT8
    limits: Limits = field(default_factory=Limits)
    pattern: str | None = None  # of the names in a plain folder
    confirm: ladder.Confirm = ladder.unasked  # what else the network that would ship must pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(ladder.Candidate):
    """An embedder as it would ship."""

    rows: NDArray[np.float32]  # (N, D) of the held-out crops
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Exported:
    """What ships, and all that is said about it."""

    source: checkpoint.Model
    chosen: Candidate
    reason: str
    gates: tuple[Gate, ...]  # of every precision that was tried
    plain: ModelProto  # the float network
    calibration: Calibration | None
    times_s: tuple[float, float] | None  # capture times of the first and last training crop
    similarities: Similarities


@dataclass(frozen=True)
class Bench:
    """The float network and the crops that others are made from and measured on; a `ladder.Bench`."""

    plain: ModelProto
    held: NDArray[np.uint8]  # (N, H, W, 3)
    float_rows: NDArray[np.float32]  # (N, D)
    judges: Judges | None
    limits: Limits
    calibration: NDArray[np.uint8]  # (M, H, W, 3)

    def judge(self, precision: Precision, model: ModelProto) -> Candidate:
        rows = rows_of(model, self.held)
        comparison = compare(self.float_rows, rows, self.judges, self.limits)
        verdict = gates(comparison, self.limits, f"{precision}_")
        about = judgement(comparison, self.limits)
        return Candidate(
            precision=precision, model=model, gates=verdict, judgement=about, rows=rows, comparison=comparison
        )

    def quantize(self, ranges: Ranges) -> ModelProto:
        return quantize(self.plain, self.calibration, ranges)

    def loss(self, model: ModelProto) -> float:
        """Mean of 1 − cosine over the worst tenth of the crops: the gate fails by the lowest cosine. With 32 layers of
        OSNet left out in this order that is 0.983 on 1,987 other crops, by the mean over all 0.969, by the worst 0.964.
        """
        few, rows = self._few
        losses = 1 - np.einsum("nd,nd->n", rows_of(model, few), rows)
        return float(np.sort(losses)[-max(1, len(losses) // 10) :].mean())

    @cached_property
    def _few(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """A few calibration crops and their float rows."""
        few = self.calibration[spread(len(self.calibration), SEARCHED)]
        return few, rows_of(self.plain, few)


def export(request: Request, report: Report) -> Exported:
    """Everything but the file. `DataError` when the asked precision misses the gate."""
    ladder.check(request.precision)
    source = checkpoint.load_model(request.model)
    place = request.data, request.layout, request.cache
    crops = held_out.gather(*place, source.spec, request.crops, pattern=request.pattern, say=report)
    plain = to_onnx(source)
    difference = check_against_torch(source, plain, crops.held[:8])
    report(f"ONNX: {len(plain.graph.node)} nodes, differs from torch by at most {difference:.1e}")
    float_rows = rows_of(plain, crops.held)
    rows = choose(crops.spare, request.images)
    calibration = describe(crops.spare, rows)
    if "int8" in ladder.TRIED[request.precision]:
        report(f"INT8 ranges from {calibration.images} crops, {calibration.chosen}")
    pixels = np.asarray(crops.spare_pixels[rows])
    bench = Bench(plain, crops.held, float_rows, held_out.judges(crops, float_rows), request.limits, pixels)
    asked = request.precision, request.budget, report
    found = ladder.settle(str(request.model), bench, *asked, confirm=request.confirm)
    return Exported(
        source,
        found.chosen,
        found.reason,
        found.gates,
        plain,
        calibration if found.chosen.precision == "int8" else None,
        held_out.window(crops.spare),
        certain_similarities(crops.held_crops, found.chosen.rows),
    )
