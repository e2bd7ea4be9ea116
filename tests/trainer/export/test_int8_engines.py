"""INT8 by the real tools, from network to engine: Q/DQ nodes by the quantizer, numbers on ONNX Runtime, an engine for
SM86 by the TensorRT-RTX builder, which needs no GPU."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
onnx = pytest.importorskip("onnx", reason="the trainer needs onnx")

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import int8_cases  # noqa: E402
import int8_device  # noqa: E402
import int8_networks  # noqa: E402

from trainer.detector.network import read_detector  # noqa: E402
from trainer.export.quantize import quantize  # noqa: E402
from trainer.onnx_graph.nodes import HEAVY, QUANTIZE, quantized_layers  # noqa: E402
from trainer.onnx_graph.session import rows_of  # noqa: E402
from trainer.onnx_graph.weights import with_int8_weights  # noqa: E402

pytestmark = pytest.mark.usefixtures("modelopt", "builder")
DETECTOR = Path(__file__).resolve().parents[3] / "configs" / "models" / "demo_detector.onnx"
CALIBRATION = 16
SMALLER = 0.4  # INT8 against FP32: what an engine holds beside the program text of its kernels
# The whole engine as well, where the network is large enough for the text not to matter: 0.1 MB for each fused kernel.
WHOLE = {"resnet18": SMALLER, "resnet50": SMALLER, "repvgg_a0": SMALLER, "demo": 1.0, "demo_detector": 2.5}
# RepVGG has no shortcut past its 22 layers: each rounding goes through all that follow.
COSINES = {"resnet18": (0.98, 0.995), "resnet50": (0.98, 0.995), "repvgg_a0": (0.95, 0.96), "demo": (0.98, 0.995)}


@pytest.fixture(scope="module")
def builder():
    pytest.importorskip("timm", reason="the networks are timm's")
    pytest.importorskip("tensorrt_rtx", reason="building ahead of time needs TensorRT-RTX (extra dev)")


LONG = {"resnet50"}  # resnet18 is its short form


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in COSINES]
)
def case(request):
    """Name, float network, the same with every layer in INT8, and the pictures that measured no ranges."""
    found = int8_networks.network(request.param, CALIBRATION + 8)
    ranges, others = found.pixels[:CALIBRATION], found.pixels[CALIBRATION:]
    return request.param, found.plain, quantize(found.plain, ranges), others


def test_int8_says_what_float_says(case):
    name, plain, quantized, pixels = case
    wanted = [node.name for node in plain.graph.node if node.op_type == "Conv"]
    assert set(wanted) <= set(quantized_layers(quantized))
    if name == "demo":
        assert "/neck/Gemm" in quantized_layers(quantized)  # a quarter of its weights
    cosines = (rows_of(plain, pixels) * rows_of(quantized, pixels)).sum(1)
    lowest, median = COSINES[name]
    assert cosines.min() > lowest, name
    assert np.median(cosines) > median, name
    assert cosines.max() < 1 - 1e-6  # something was rounded


def test_the_engine_for_sm86_is_smaller(case):
    name, plain, quantized, _ = case
    assert_smaller(name, plain, quantized)


def test_the_detectors_engine_for_sm86_is_smaller():
    """On noise: sizes do not depend on the ranges. What its boxes lose is in test_export_detector.py."""
    detector = read_detector(DETECTOR)
    spec = detector.manifest.input
    noise = np.random.default_rng(0).integers(0, 256, (2, spec.height_px, spec.width_px, 3), np.uint8)
    assert_smaller("demo_detector", detector.model, quantize(detector.model, noise))


def assert_smaller(name: str, plain, quantized) -> None:
    float_engine, small = (int8_cases.engine_bytes(model) for model in (plain, with_int8_weights(quantized)))
    assert small["builder"].startswith("tensorrt_rtx ")
    assert small["engine_bytes"] <= WHOLE[name] * float_engine["engine_bytes"], name
    weights = [each["engine_bytes"] - each["program_bytes"] for each in (float_engine, small)]
    assert weights[1] <= SMALLER * weights[0], (name, weights)
    assert weights[0] == pytest.approx(plain.ByteSize(), rel=0.15)  # little else is in there


def test_the_file_keeps_its_weights_in_int8(case):
    _, plain, quantized, pixels = case
    kept = with_int8_weights(quantized)
    onnx.checker.check_model(kept)
    stored = {item.name for item in kept.graph.initializer}
    assert not [node for node in kept.graph.node if node.op_type == QUANTIZE and node.input[0] in stored]
    assert quantized_layers(kept) == quantized_layers(quantized)
    np.testing.assert_array_equal(rows_of(kept, pixels), rows_of(quantized, pixels))
    assert kept.ByteSize() < 0.3 * plain.ByteSize()


def test_branches_that_are_one_convolution_are_merged():
    plain = int8_networks.network("repvgg_a0", 2).plain
    assert sum(node.op_type in HEAVY for node in plain.graph.node) == 22


def test_work_is_counted_alike_before_and_after_quantizing(case):
    _, plain, quantized, _ = case
    assert int8_device.multiply_adds(with_int8_weights(quantized)) == int8_device.multiply_adds(plain) > 1e6
