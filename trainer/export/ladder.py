"""The smallest precision that passes the gate: INT8, with its worst layers left out where it must be, else FP16, else
FP32. The same for every kind of network; what is measured on it is the bench's business.

Nothing is chosen silently: what comes back carries the figures of every precision that was tried, and why this one won.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from edge_app.contract.bundle_manifest import Precision
from edge_app.contract.messages import Gate
from trainer.errors import ConfigurationError, DataError
from trainer.export import sensitivity
from trainer.export.graph import half
from trainer.export.verify import failures
from trainer.export.weights import with_int8_weights

if TYPE_CHECKING:
    from onnx import ModelProto

TRIED: dict[str, tuple[Precision, ...]] = {
    "auto": ("int8", "fp16", "fp32"),
    "int8": ("int8",),
    "fp16": ("fp16",),
    "fp32": ("fp32",),
}
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A network as it would ship."""

    precision: Precision
    model: ModelProto
    gates: tuple[Gate, ...]
    float_layers: tuple[str, ...] = ()
    sensitivity: dict[str, float] = field(default_factory=dict)
    remark: str = ""  # how it came to pass


AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)
Judged_co = TypeVar("Judged_co", bound=Candidate, covariant=True)


class Bench(Protocol[Judged_co]):
    """A float network, and what smaller ones are made from and measured on."""

    @property
    def plain(self) -> ModelProto: ...

    def judge(self, precision: Precision, model: ModelProto) -> Judged_co:
        """What the gate says, on data that made no choice about the model."""

    def quantize(self) -> ModelProto:
        """Every layer in INT8 that can be."""

    def costs(self, quantized: ModelProto) -> dict[str, float]:
        """Layer → what quantizing it alone costs, on calibration data."""


@dataclass(frozen=True, slots=True)
class Settled(Generic[AnyCandidate]):
    """What ships, and all that is said about it."""

    chosen: AnyCandidate
    reason: str
    gates: tuple[Gate, ...]  # of every precision that was tried


def check(precision: str) -> None:
    """`ConfigurationError` unless this precision can be asked for."""
    if precision not in TRIED:
        raise ConfigurationError([f"--precision {precision}: expected {', '.join(TRIED)}"], "command line")


def settle(
    name: str, bench: Bench[AnyCandidate], precision: str, budget: float, report: Report
) -> Settled[AnyCandidate]:
    """The first of the precisions, a key of `TRIED`, that passes; at most the share `budget` of the layers is left out
    of INT8. `DataError`, about the network `name`, when none passes."""
    found: list[Gate] = []
    missed: list[str] = []
    for each in TRIED[precision]:
        if each == "int8":
            candidate = _int8(bench, budget, report)
        else:
            candidate = bench.judge(each, half(bench.plain) if each == "fp16" else bench.plain)
        found += candidate.gates
        failed = failures(candidate.gates)
        report(f"{each}: {failed or f'every gate passed{candidate.remark}'}")
        if not failed:
            reason = "; ".join([*missed, f"{each} passes every gate{candidate.remark}"])
            kept = replace(candidate, model=with_int8_weights(candidate.model))
            return Settled(kept, reason, tuple(found))
        missed.append(f"{each} misses {failed}")
    raise DataError(f"{name}: {'; '.join(missed)}; export with --precision auto, which ships what passes")


def _int8(bench: Bench[AnyCandidate], budget: float, report: Report) -> AnyCandidate:
    """INT8 as it comes, and where that misses the gate, with its worst layers left out. What is not INT8 stays FP32."""
    quantized = bench.quantize()
    whole = bench.judge("int8", quantized)
    failed = failures(whole.gates)
    if not failed or not budget:
        return whole
    report(f"int8 with every layer: {failed}; looking for the layers to leave out")
    begin = time.monotonic()
    cost = bench.costs(quantized)
    report(f"the cost of each of {len(cost)} layers, in {time.monotonic() - begin:.0f} s")
    judged: list[AnyCandidate] = []

    def passes(model: ModelProto) -> bool:
        judged.append(bench.judge("int8", model))
        return not failures(judged[-1].gates)

    trial = sensitivity.search(quantized, cost, passes, budget)
    if trial is None:
        report(f"int8 misses the gate with up to {budget:.0%} of the layers left out")
        return replace(max(reversed([whole, *judged]), key=_passed), sensitivity=cost)
    best = next(each for each in judged if each.model is trial.model)
    remark = f" with {len(trial.float_layers)} of {len(cost)} layers left out (with every layer it misses {failed})"
    return replace(best, float_layers=trial.float_layers, sensitivity=cost, remark=remark)


def _passed(candidate: Candidate) -> int:
    return sum(gate.passed for gate in candidate.gates)
