"""The smallest precision that passes the gate: INT8, with its worst layers left out where it must be, else FP16, else
FP32. The same for every kind of network; what is measured on it is the bench's business.

INT8 ranges reach to the largest value, or to what entropy keeps (NVIDIA's clipping): the first that passes the gate.
Where neither does, layers are left out, first of the one that calibration data like better. Clipping is nearer in the
middle and further off at the worst crop, so neither is best for all networks.

`auto` does not take an INT8 file that is hardly smaller than FP16's. Weights halve; where the file does not, it is made
of what stays float and of Q/DQ nodes around small layers, each of which keeps a runtime from fusing: risk, no gain.

Nothing is chosen silently: what comes back carries the figures of every precision that was tried, what they were
measured on, and why this one won. What too little judged is not called judged: `auto` does not ship it, but FP32, which
is the network as it was trained; a precision that was asked for ships and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, get_args

from edge_app.contract.bundle_manifest import Gate, Judgement, Precision
from trainer.errors import ConfigurationError, DataError
from trainer.export import sensitivity
from trainer.export.quantize import Ranges
from trainer.export.verify import failures
from trainer.onnx_graph.nodes import half
from trainer.onnx_graph.weights import with_int8_weights

if TYPE_CHECKING:
    from onnx import ModelProto

PRECISIONS: tuple[Precision, ...] = get_args(Precision)  # smallest first
TRIED: dict[str, tuple[Precision, ...]] = {"auto": PRECISIONS, **{each: (each,) for each in PRECISIONS}}
MADE: dict[Precision, Callable[[ModelProto], ModelProto]] = {"fp16": half, "fp32": lambda plain: plain}  # INT8: below
MIN_COSINE: dict[Precision, float] = {"int8": 0.98, "fp16": 0.999, "fp32": 0.999}  # two engines that run the same file
RANGES: dict[Ranges, str] = {"max": "", "entropy": " with ranges by entropy"}
WORTH = 0.8  # of the FP16 file; an INT8 file that is larger gains nothing
Report = Callable[[str], None]
Confirm = Callable[["Precision", "ModelProto"], "tuple[Gate, ...]"]  # what else the network that would ship must pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A network as it would ship."""

    precision: Precision
    model: ModelProto
    gates: tuple[Gate, ...]
    float_layers: tuple[str, ...] = ()
    sensitivity: dict[str, float] = field(default_factory=dict)
    remark: str = ""  # how it came to pass
    judgement: Judgement | None = None  # what the gates are from; None where the bench does not say

    @property
    def judged(self) -> bool:
        return self.judgement is None or self.judgement.enough


AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)
Judged_co = TypeVar("Judged_co", bound=Candidate, covariant=True)


class Bench(Protocol[Judged_co]):
    """A float network, and what smaller ones are made from and measured on."""

    @property
    def plain(self) -> ModelProto: ...

    def judge(self, precision: Precision, model: ModelProto) -> Judged_co:
        """What the gate says, on data that made no choice about the model."""

    def quantize(self, ranges: Ranges) -> ModelProto:
        """Every layer in INT8 that can be."""

    def loss(self, model: ModelProto) -> float:
        """How far a network is from the float one, 0 when they say the same, on calibration data."""


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


def unasked(precision: Precision, model: ModelProto) -> tuple[Gate, ...]:
    """Nobody else is asked."""
    return ()


def settle(
    name: str,
    bench: Bench[AnyCandidate],
    precision: str,
    budget: float,
    report: Report,
    *,
    confirm: Confirm = unasked,
) -> Settled[AnyCandidate]:
    """The first of the precisions, a key of `TRIED`, that passes; at most the share `budget` of the layers is left out
    of INT8. `confirm` is asked once of a precision that passed all else, so it may be slow. `DataError`, about the
    network `name`, when none passes."""
    found: list[Gate] = []
    missed: list[str] = []
    spare: AnyCandidate | None = None  # INT8 that passes and gains nothing: better than FP32 all the same
    thrifty = precision == "auto"
    for each in TRIED[precision]:
        if each == "int8":
            candidate = _int8(bench, budget, report, thrifty)
        elif each == "fp32" and spare is not None:
            break
        else:
            candidate = bench.judge(each, MADE[each](bench.plain))
        found += candidate.gates
        failed = failures(candidate.gates)
        report(f"{each}: {failed or _verdict(candidate)}{candidate.remark}")
        if failed:
            missed.append(f"{each} misses {failed}{candidate.remark}")
            continue
        if thrifty and not candidate.judged and each != "fp32":
            missed.append(f"{each} is {_verdict(candidate)}")
            continue
        candidate = replace(candidate, model=with_int8_weights(candidate.model))
        more = confirm(each, candidate.model)
        found += more
        if failed := failures(more):
            report(f"{each}: {failed}")
            missed.append(f"{each} misses {failed}{candidate.remark}")
            continue
        if each == "int8" and thrifty and (small := _no_gain(candidate.model, bench.plain)):
            report(f"int8: {small}")
            missed.append(f"int8 passes{candidate.remark}, but {small}")
            spare = candidate
            continue
        return Settled(candidate, "; ".join([*missed, _why(candidate, thrifty)]), tuple(found))
    if spare is not None:
        return Settled(spare, "; ".join([*missed, "int8 is still better than fp32"]), tuple(found))
    raise DataError(f"{name}: {'; '.join(missed)}; export with --precision auto, which ships what passes")


def _int8(bench: Bench[AnyCandidate], budget: float, report: Report, thrifty: bool) -> AnyCandidate:
    """INT8 as it comes, and where that misses the gate, with its worst layers left out, which makes the file larger;
    `thrifty` does not look for them where it gains nothing already. What is not INT8 stays FP32."""
    wholes: list[AnyCandidate] = []
    for ranges, remark in RANGES.items():
        whole = replace(bench.judge("int8", bench.quantize(ranges)), remark=remark)
        if not (failed := failures(whole.gates)) or (thrifty and not whole.judged):
            return whole
        if thrifty and (small := _no_gain(with_int8_weights(whole.model), bench.plain)):
            return replace(whole, remark=f"{remark}, and {small}")
        report(f"int8 with every layer{remark}: {failed}")
        wholes.append(whole)
    wholes.sort(key=lambda each: bench.loss(each.model))
    if not budget:
        return wholes[0]
    found: list[AnyCandidate] = []
    for whole in wholes:
        found.append(_with_layers_left_out(bench, whole, budget, report))
        if not failures(found[-1].gates):
            return found[-1]
    return max(found, key=_passed)


def _with_layers_left_out(
    bench: Bench[AnyCandidate], whole: AnyCandidate, budget: float, report: Report
) -> AnyCandidate:
    """The first that passes with some layers left out; else the one that passes most, among them all."""
    report(f"int8{whole.remark}: looking for the layers to leave out")
    begin = time.monotonic()
    cost = sensitivity.costs(whole.model, bench.loss, report)
    report(f"the cost of each of {len(cost)} layers, in {time.monotonic() - begin:.0f} s")
    judged: list[AnyCandidate] = []
    most, begin = sensitivity.most_trials(len(cost), budget), time.monotonic()

    def passes(model: ModelProto) -> bool:
        judged.append(bench.judge("int8", model))
        failed = failures(judged[-1].gates)
        left = sensitivity.time_left(time.monotonic() - begin, len(judged), most)
        report(f"try {len(judged)} of at most {most}: {failed or 'every gate passed'}; {left} at most")
        return not failed

    trial = sensitivity.search(whole.model, cost, passes, budget)
    if trial is None:
        report(f"int8{whole.remark} misses the gate with up to {budget:.0%} of the layers left out")
        return replace(max(reversed([whole, *judged]), key=_passed), sensitivity=cost, remark=whole.remark)
    best = next(each for each in judged if each.model is trial.model)
    left_out = f"{len(trial.float_layers)} of {len(cost)} layers left out"
    remark = f"{whole.remark or ' with'}{' and' * bool(whole.remark)} {left_out}"
    remark += f" (with every layer it misses {failures(whole.gates)})"
    return replace(best, float_layers=trial.float_layers, sensitivity=cost, remark=remark)


def _verdict(candidate: Candidate) -> str:
    """Of a candidate that missed no gate."""
    by = "" if candidate.judgement is None else candidate.judgement.by
    if not candidate.judged:
        return f"not judged: {by}"
    return "every gate passed" + f", judged by {by}" * bool(by)


def _why(candidate: Candidate, thrifty: bool) -> str:
    """Why the candidate that missed no gate ships."""
    if candidate.judged:
        by = "" if candidate.judgement is None else f", judged by {candidate.judgement.by}"
        return f"{candidate.precision} passes every gate{candidate.remark}{by}"
    what = "the network as it was trained" if candidate.precision == "fp32" else "what was asked for"
    return f"{candidate.precision} is {what}{candidate.remark}, {_verdict(candidate)}"


def _passed(candidate: Candidate) -> int:
    return sum(gate.passed for gate in candidate.gates)


def _no_gain(model: ModelProto, plain: ModelProto) -> str:
    """In words, where an INT8 file is hardly smaller than that of FP16; else empty."""
    sizes = [each.ByteSize() for each in (model, half(plain))]
    if sizes[0] <= WORTH * sizes[1]:
        return ""
    return f"its file of {sizes[0] / 1e6:.2f} MB gains nothing on that of fp16, {sizes[1] / 1e6:.2f} MB"
