"""INT8 by the real tools, from network to engine: Q/DQ nodes by the quantizer, numbers on ONNX Runtime, an engine for
SM86 by the TensorRT-RTX builder, which needs no GPU."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
onnx = pytest.importorskip("onnx", reason="the trainer needs onnx")
pytest.importorskip("timm", reason="the networks are timm's")
pytest.importorskip("modelopt.onnx.quantization", reason="INT8 needs nvidia-modelopt and its parts")
pytest.importorskip("tensorrt_rtx", reason="building ahead of time needs TensorRT-RTX (extra dev)")

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import int8_device  # noqa: E402
import int8_networks  # noqa: E402

from edge_app.runtime.build import BuildRequest, build_engine  # noqa: E402
from trainer.export.graph import HEAVY, QUANTIZE, quantized_layers  # noqa: E402
from trainer.export.onnx import rows_of  # noqa: E402
from trainer.export.quantize import quantize  # noqa: E402
from trainer.export.weights import with_int8_weights  # noqa: E402

CALIBRATION = 16
SMALLER = 0.4  # an INT8 engine against that of FP32
# The demo's embedder is small: 1.8 MB of weights in FP32, 0.8 MB with INT8 (its last product stays float). What else is
# in an engine, 1.0 MB in FP32, is 1.9 MB in INT8 and eats nearly all that is saved.
RATIOS = {"resnet18": SMALLER, "resnet50": SMALLER, "repvgg_a0": SMALLER, "demo": 1.0}
# RepVGG has no shortcut past its 22 layers: each rounding goes through all that follow.
COSINES = {"resnet18": (0.98, 0.995), "resnet50": (0.98, 0.995), "repvgg_a0": (0.95, 0.96), "demo": (0.98, 0.995)}


@pytest.fixture(scope="module", params=RATIOS)
def case(request):
    """Name, float network, the same with every layer in INT8, and the pictures that measured no ranges."""
    found = int8_networks.network(request.param, CALIBRATION + 8)
    ranges, others = found.pixels[:CALIBRATION], found.pixels[CALIBRATION:]
    return request.param, found.plain, quantize(found.plain, ranges), others


def test_int8_says_what_float_says(case):
    name, plain, quantized, pixels = case
    wanted = [node.name for node in plain.graph.node if node.op_type == "Conv"]
    assert set(wanted) <= set(quantized_layers(quantized))
    cosines = (rows_of(plain, pixels) * rows_of(quantized, pixels)).sum(1)
    lowest, median = COSINES[name]
    assert cosines.min() > lowest, name
    assert np.median(cosines) > median, name
    assert cosines.max() < 1 - 1e-6  # something was rounded


def test_the_engine_for_sm86_is_smaller(case, tmp_path):
    name, plain, quantized, _ = case
    sizes = {}
    for precision, model in (("fp32", plain), ("int8", with_int8_weights(quantized))):
        path = tmp_path / f"{precision}.onnx"
        path.write_bytes(model.SerializeToString())
        built = build_engine(BuildRequest(path, tmp_path / "engines", "sm86", precision, max_batch=16))
        assert f"-{precision}-b16-sm86-tensorrt_rtx-" in built.path.name
        sizes[precision] = built.path.stat().st_size
    assert sizes["int8"] <= RATIOS[name] * sizes["fp32"], (name, sizes)


def test_the_file_keeps_its_weights_in_int8(case):
    name, plain, quantized, pixels = case
    kept = with_int8_weights(quantized)
    onnx.checker.check_model(kept)
    stored = {item.name for item in kept.graph.initializer}
    assert not [node for node in kept.graph.node if node.op_type == QUANTIZE and node.input[0] in stored]
    assert quantized_layers(kept) == quantized_layers(quantized)
    np.testing.assert_array_equal(rows_of(kept, pixels), rows_of(quantized, pixels))
    assert kept.ByteSize() < 0.3 * plain.ByteSize() or name == "demo"


def test_branches_that_are_one_convolution_are_merged():
    plain = int8_networks.network("repvgg_a0", 2).plain
    assert sum(node.op_type in HEAVY for node in plain.graph.node) == 22


def test_work_is_counted_alike_before_and_after_quantizing(case):
    _, plain, quantized, _ = case
    assert int8_device.multiply_adds(with_int8_weights(quantized)) == int8_device.multiply_adds(plain) > 1e6
