"""The ONNX Runtime backend: batches of any size, time kept, and one clear error for each bad model."""

from pathlib import Path

import numpy as np
import pytest

from edge_app.contract.preprocess import InputSpec
from edge_app.errors import ModelError
from edge_app.runtime import open_engine
from edge_app.runtime.engine import EngineSettings, check_input

ONE_THREAD = EngineSettings(threads=1)
SPEC = InputSpec(width_px=32, height_px=32)


def batch(count: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, 3, 32, 32), np.float32)


@pytest.mark.parametrize("fixed", ["batch", 1, 4])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_any_batch_runs_on_free_and_fixed_models(tiny_onnx, fixed, count) -> None:
    engine = open_engine(tiny_onnx.mean_colour(batch=fixed), ONE_THREAD)
    images = batch(count)
    outputs = engine.run(images)
    assert len(outputs) == 1
    np.testing.assert_allclose(outputs[0], images.mean(axis=(2, 3)), rtol=1e-5)


def test_says_what_it_is_and_keeps_time(tiny_onnx, ticking) -> None:
    engine = open_engine(tiny_onnx.mean_colour(), ONE_THREAD, clock=ticking())
    assert engine.name == "onnxruntime/CPUExecutionProvider"
    assert engine.inputs[0].shape == (None, 3, 32, 32)
    assert engine.outputs[0].shape == (None, 3)
    engine.run(batch(1))
    engine.run(batch(2))
    assert (engine.busy_s, engine.runs) == (2.0, 2)


def test_missing_truncated_and_foreign_files(tmp_path: Path, tiny_onnx) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        open_engine(tmp_path / "nothing.onnx", ONE_THREAD)
    whole = tiny_onnx.mean_colour().read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "text": b"not a model" * 50, "empty": b""}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not a usable ONNX model") as caught:
            open_engine(path, ONE_THREAD)
        assert "\n" not in str(caught.value)
        assert "ONNXRuntimeError" not in str(caught.value)


def test_unknown_provider_names_what_is_there(tiny_onnx) -> None:
    with pytest.raises(ModelError, match="CPUExecutionProvider"):
        open_engine(tiny_onnx.mean_colour(), EngineSettings(providers=("NoSuchProvider",)))


def test_model_that_fails_or_mixes_its_batch(tiny_onnx) -> None:
    engine = open_engine(tiny_onnx.mean_colour(), ONE_THREAD)
    with pytest.raises(ModelError, match="failed on a batch"):
        engine.run(np.zeros((1, 3, 16, 16), np.float32))
    with pytest.raises(ModelError, match="batch as the first axis"):
        open_engine(tiny_onnx.without_batch(), ONE_THREAD).run(batch(2))
    engine.close()
    with pytest.raises(ModelError, match="closed"):
        engine.run(batch(1))


def test_input_is_checked_against_the_description(tiny_onnx) -> None:
    engine = open_engine(tiny_onnx.mean_colour(), ONE_THREAD)
    check_input(engine, SPEC, "here")
    with pytest.raises(ModelError, match=r"makes \(batch, 3, 64, 32\).*is \(batch, 3, 32, 32\)"):
        check_input(engine, InputSpec(width_px=32, height_px=64), "here")
    with pytest.raises(ModelError, match="images, more"):
        check_input(open_engine(tiny_onnx.two_inputs(), ONE_THREAD), SPEC, "here")
