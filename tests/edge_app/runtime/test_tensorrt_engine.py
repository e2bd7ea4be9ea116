"""The TensorRT backend on fakes of TensorRT and pycuda: batches, buffers, contexts and errors. No GPU was at hand."""

from pathlib import Path

import numpy as np
import pytest
from fake_gpu import SIZE, FakeCuda, FakeEngine, fake_trt

from edge_app.errors import ModelError
from edge_app.runtime import open_engine
from edge_app.runtime.engine import EngineSettings
from edge_app.runtime.tensorrt import EngineNotLoadedError, Libraries, TensorrtEngine


def opened(file: Path, cuda: FakeCuda, ticking=None, **options) -> tuple[TensorrtEngine, FakeEngine]:
    fake = FakeEngine(cuda, **options)
    clock = {"clock": ticking()} if ticking else {}
    return TensorrtEngine(file, Libraries(fake_trt(fake), cuda), **clock), fake


@pytest.mark.parametrize("options", [{}, {"batch": 4}, {"largest": 1}])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_any_batch_runs_on_free_and_fixed_engines(file, options, count) -> None:
    engine, _ = opened(file, FakeCuda(), **options)
    images = np.random.default_rng(count).random((count, *SIZE), np.float32)
    for _ in range(2):  # the buffers are used again
        mean, twice = engine.run(images)
        np.testing.assert_allclose(mean, images.mean(axis=(2, 3)), rtol=1e-5)
        np.testing.assert_allclose(twice, 2 * mean, rtol=1e-6)
    first = engine.run(images)[0]
    engine.run(images * 0)
    np.testing.assert_allclose(first, mean)  # what was given out is not a view of a buffer


def test_it_says_what_it_is_warms_up_and_keeps_time(file, ticking) -> None:
    engine, fake = opened(file, FakeCuda(), ticking)
    assert fake.sizes == [1, 4]
    assert engine.name == "tensorrt-10.3.0/Fake GPU"
    assert engine.inputs[0].shape == (None, *SIZE)
    assert [port.name for port in engine.outputs] == ["mean", "twice"]
    engine.run(np.zeros((6, *SIZE), np.float32))
    assert fake.sizes == [1, 4, 4, 2]
    assert (engine.busy_s, engine.runs) == (1.0, 1)


def test_the_context_is_current_only_inside_and_memory_goes_back(file) -> None:
    cuda = FakeCuda()
    engine, _ = opened(file, cuda)
    engine.run(np.zeros((1, *SIZE), np.float32))
    assert (cuda.depth, cuda.attached, len(cuda.device)) == (0, 1, 3)
    engine.close()
    engine.close()
    assert (cuda.depth, cuda.attached, len(cuda.device)) == (0, 0, 0)
    with pytest.raises(ModelError, match="the engine was closed"):
        engine.run(np.zeros((1, *SIZE), np.float32))


def test_each_failure_is_named_and_leaves_no_context(file, tmp_path) -> None:
    cuda = FakeCuda()
    file.write_bytes(b"engine of another version")
    with pytest.raises(EngineNotLoadedError, match="refuses this engine: Serialization assertion stdVersionRead"):
        opened(file, cuda)
    file.write_bytes(b"engine")
    with pytest.raises(ModelError, match=r"'mean' is \(1, 3\) for a batch of 4"):
        opened(file, cuda, output_first=1)
    with pytest.raises(ModelError, match="cannot be loaded: No such file"):
        opened(tmp_path / "none.engine", cuda)
    poor = FakeCuda(memory_bytes=300)
    with pytest.raises(ModelError, match=r"not enough GPU memory .*lower max_batch"):
        opened(file, poor)
    engine, fake = opened(file, cuda)
    fake.fails = True
    with pytest.raises(ModelError, match="the engine did not run"):
        engine.run(np.zeros((1, *SIZE), np.float32))
    with pytest.raises(ModelError, match=r"takes pictures \(3, 4, 5\), got \(3, 5, 4\)"):
        engine.run(np.zeros((1, 3, 5, 4), np.float32))
    assert (cuda.depth, cuda.attached, poor.depth, poor.attached) == (0, 1, 0, 0)


def test_without_pycuda_the_backend_says_so(tiny_onnx) -> None:
    try:
        import pycuda.driver  # noqa: F401
    except ImportError:
        with pytest.raises(ModelError, match=r"needs pycuda .*crosslane\[jetson\].*backend to onnx"):
            open_engine(tiny_onnx.mean_colour(), EngineSettings(backend="tensorrt"))


def test_the_real_module_has_every_name_that_is_used() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed (extra dev)")
    used = {
        rtx: ["Runtime", "ILogger", "nptype", "TensorIOMode"],
        rtx.TensorIOMode: ["INPUT"],
        rtx.Runtime: ["deserialize_cuda_engine"],
        rtx.CudaGraphStrategy: ["WHOLE_GRAPH_CAPTURE"],
        rtx.IRuntimeConfig: ["cuda_graph_strategy"],
        rtx.ICudaEngine: [name for name in dir(FakeEngine) if name.startswith(("get_tensor_", "create_", "num_io"))],
        rtx.IExecutionContext: ["set_input_shape", "get_tensor_shape", "set_tensor_address", "execute_async_v3"],
    }
    missing = [f"{owner}.{name}" for owner, names in used.items() for name in names if not hasattr(owner, name)]
    assert not missing
