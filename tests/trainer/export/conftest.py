"""One small network, as it is and in INT8."""

import pytest


@pytest.fixture(scope="module")
def modelopt():
    """Imported by those who run it, not by all who collect: it takes seconds."""
    pytest.importorskip("modelopt.onnx.quantization", reason="INT8 needs nvidia-modelopt and its parts")


@pytest.fixture(scope="module")
def plain():
    from test_export import made

    from trainer.export.onnx import to_onnx

    return to_onnx(made(backbone="shufflenetv2_48_96_192"))


@pytest.fixture(scope="module")
def quantized(plain, modelopt):
    from test_export import pixels

    from trainer.export.quantize import quantize

    return quantize(plain, pixels(12))
