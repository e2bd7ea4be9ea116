"""The ladder of precisions: which ranges and which layers are tried, in what order, and what is said meanwhile."""

import re

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")

from test_export import made, pixels  # noqa: E402

from edge_app.contract.bundle_manifest import Gate  # noqa: E402
from trainer.errors import DataError  # noqa: E402
from trainer.export import ladder  # noqa: E402
from trainer.export.ladder import Candidate  # noqa: E402
from trainer.export.onnx import to_onnx  # noqa: E402
from trainer.export.quantize import quantize  # noqa: E402
from trainer.export.sensitivity import costs  # noqa: E402
from trainer.onnx_graph.nodes import quantized_layers, unquantized  # noqa: E402

pytestmark = pytest.mark.usefixtures("modelopt")


def test_a_long_search_says_how_long_it_takes(plain, quantized):
    """Three seconds a layer: a line about every ten."""
    keep = quantized_layers(quantized)[:9]
    few = unquantized(quantized, set(quantized_layers(quantized)) - set(keep))
    clock, said = iter(range(0, 300, 3)), []
    assert list(costs(few, lambda model: 0.0, said.append, lambda: float(next(clock)))) == keep
    assert said == ["layer 4 of 9, about 15 s left", "layer 8 of 9, about 3 s left"]
    bench = Judged(plain, quantized, lambda precision, ranges: False)
    with pytest.raises(DataError):
        ladder.settle("x", bench, "int8", 0.1, said.append)
    trials = [line for line in said if line.startswith("try ")]
    assert re.match(r"try 1 of at most \d+: int8_x .* s left at most$", trials[0])
    assert trials[-1].endswith("about 0 s left at most")


class Judged:
    """A bench whose verdict is a rule: `passes(precision, ranges)`; entropy's ranges are nearer."""

    def __init__(self, plain, quantized, passes) -> None:
        self.plain, self.passes, self.seen = plain, passes, []
        self.models = {"max": quantized, "entropy": type(quantized).FromString(quantized.SerializeToString())}

    def quantize(self, ranges):
        return self.models[ranges]

    def judge(self, precision, model):
        ranges = next((name for name, each in self.models.items() if each is model), "left out")
        self.seen.append((precision, ranges))
        good = self.passes(precision, ranges)
        return Candidate(
            precision=precision, model=model, gates=(Gate(name=f"{precision}_x", value=0, limit=0, passed=good),)
        )

    def loss(self, model):
        return 0.1 if model is self.models["entropy"] else 0.2


def settled(bench, precision="int8", budget=1.0):
    return ladder.settle("x", bench, precision, budget, lambda line: None)


def test_ranges_by_entropy_are_the_second_try(plain, quantized):
    bench = Judged(plain, quantized, lambda precision, ranges: ranges == "entropy")
    found = settled(bench)
    assert bench.seen == [("int8", "max"), ("int8", "entropy")]
    assert found.reason == "int8 passes every gate with ranges by entropy"
    assert len(found.gates) == 1
    bench = Judged(plain, quantized, lambda precision, ranges: ranges == "max")
    assert settled(bench).reason == "int8 passes every gate"
    bench = Judged(plain, quantized, lambda precision, ranges: ranges == "left out")
    found = settled(bench)
    assert "with ranges by entropy and 1 of" in found.reason  # the nearer of the two was searched
    assert found.chosen.float_layers


def test_the_other_ranges_are_searched_where_the_nearer_ones_fail(plain, quantized):
    bench = Judged(plain, quantized, lambda precision, ranges: False)
    said: list[str] = []
    with pytest.raises(DataError, match="int8 misses"):
        ladder.settle("x", bench, "int8", 0.1, said.append)
    looking = [line for line in said if "looking for the layers" in line]
    assert [("entropy" in line) for line in looking] == [True, False]


def test_auto_takes_no_int8_file_that_gains_nothing(plain, quantized):
    """Few channels: what INT8 saves of their weights, its nodes take again."""
    everything = Judged(plain, quantized, lambda precision, ranges: True)
    found = settled(everything, "auto")
    assert found.chosen.precision == "fp16"
    assert re.search(
        r"int8 passes, but its file of \S+ MB gains nothing on that of fp16, \S+ MB; fp16 pass", found.reason
    )
    assert settled(everything, "int8").chosen.precision == "int8"
    nothing_left_out = Judged(plain, quantized, lambda precision, ranges: precision != "int8")
    found = settled(nothing_left_out, "auto")
    assert found.chosen.precision == "fp16"
    assert re.match(r"int8 misses int8_x \S+ \(limit 0\), and its file of \S+ MB gains nothing", found.reason)
    assert [ranges for precision, ranges in nothing_left_out.seen if precision == "int8"] == ["max"]
    no_half = settled(Judged(plain, quantized, lambda precision, ranges: precision != "fp16"), "auto")
    assert no_half.chosen.precision == "int8"
    assert no_half.reason.endswith("int8 is still better than fp32")


def test_auto_takes_int8_where_it_gains():
    large = to_onnx(made(backbone="resnet10t"))
    bench = Judged(large, quantize(large, pixels(12)), lambda precision, ranges: True)
    assert settled(bench, "auto").chosen.precision == "int8"


def test_what_would_ship_must_pass_what_else_is_asked(plain, quantized):
    """Once a precision, and only of one that passed all before; what is refused there is the next precision's turn."""
    asked: list[str] = []

    def confirm(precision, model):
        asked.append(precision)
        return (Gate(name=f"{precision}_site", value=-0.01, limit=-0.005, passed=precision != "int8"),)

    bench = Judged(plain, quantized, lambda precision, ranges: True)
    found = ladder.settle("x", bench, "auto", 1.0, lambda line: None, confirm=confirm)
    assert asked == ["int8", "fp16"]
    assert found.chosen.precision == "fp16"
    assert found.reason == "int8 misses int8_site -0.0100 (limit -0.005); fp16 passes every gate"
    assert [gate.name for gate in found.gates] == ["int8_x", "int8_site", "fp16_x", "fp16_site"]
    with pytest.raises(DataError, match="int8 misses int8_site"):
        ladder.settle("x", bench, "int8", 1.0, lambda line: None, confirm=confirm)
