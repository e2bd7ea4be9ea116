"""The TensorRT backend on fakes of TensorRT and pycuda: batches, buffers, contexts and errors. No GPU was at hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_app.errors import ModelError
from edge_app.runtime import open_engine
from edge_app.runtime.engine import EngineSettings
from edge_app.runtime.tensorrt import EngineNotLoadedError, Libraries, TensorrtEngine

SIZE = (3, 4, 5)


class FakeCuda:
    """Device memory is a dict of bytes; everything asynchronous happens when the stream is waited for."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    def __init__(self, memory_bytes: int = 1 << 30) -> None:
        self.left, self.depth, self.attached, self.queue, self.device = memory_bytes, 0, 0, [], {}
        cuda = self

        class Context:
            @staticmethod
            def pop():
                cuda.depth -= 1

        class Primary:
            def push(self):
                cuda.depth += 1

            def detach(self):
                cuda.attached -= 1

        class Device:
            def __init__(self, index):
                assert index == 0

            def name(self):
                return "Fake GPU"

            def retain_primary_context(self):
                cuda.attached += 1
                return Primary()

        class Stream:
            handle = 77

            def synchronize(self):
                while cuda.queue:
                    cuda.queue.pop(0)()

        self.Context, self.Device, self.Stream = Context, Device, Stream

    def init(self):
        pass

    def pagelocked_empty(self, shape, dtype):
        assert self.depth == 1
        return np.full(shape, 9, dtype)

    def mem_alloc(self, size):
        assert self.depth == 1
        if size > self.left:
            raise self.MemoryError("out of memory")
        self.left -= size
        address = 1000 + len(self.device)
        self.device[address] = bytearray(size)
        return FakeMemory(self, address)

    def memcpy_htod_async(self, memory, host, stream):
        assert self.depth == 1
        assert host.flags.c_contiguous
        self.queue.append(lambda: self.device[int(memory)].__setitem__(slice(0, host.nbytes), host.tobytes()))

    def memcpy_dtoh_async(self, host, memory, stream):
        def copy():
            host[...] = np.frombuffer(bytes(self.device[int(memory)][: host.nbytes]), host.dtype).reshape(host.shape)

        self.queue.append(copy)


class FakeMemory:
    def __init__(self, cuda, address):
        self._cuda, self._address = cuda, address

    def __int__(self):
        return self._address

    def free(self):
        assert self._cuda.depth == 1
        del self._cuda.device[self._address]


class FakeEngine:
    """Gives the mean of each channel, and twice that; `batch` -1 is free up to `largest`."""

    num_io_tensors = 3

    def __init__(self, cuda, batch=-1, largest=4, output_first=None) -> None:
        self.cuda, self.batch, self.largest, self.output_first = cuda, batch, largest, output_first
        self.sizes, self.shape, self.addresses, self.fails = [], None, {}, False

    def get_tensor_name(self, index):
        return ("mean", "images", "twice")[index]

    def get_tensor_mode(self, name):
        return "in" if name == "images" else "out"

    def get_tensor_dtype(self, name):
        return "float"

    def get_tensor_profile_shape(self, name, profile):
        assert (name, profile) == ("images", 0)
        return [(1, *SIZE), (2, *SIZE), (self.largest, *SIZE)]

    def create_execution_context(self):
        return self

    def get_tensor_shape(self, name):  # of the engine before an input shape is set, of the context after
        if name == "images":
            return self.shape or (self.batch, *SIZE)
        return (self.shape[0] if self.output_first is None else self.output_first, 3)

    def set_input_shape(self, name, shape):
        self.shape = shape
        return True

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, handle):
        assert handle == 77
        size, device = self.shape[0], self.cuda.device

        def work():
            raw = bytes(device[self.addresses["images"]][: size * int(np.prod(SIZE)) * 4])
            mean = np.frombuffer(raw, np.float32).reshape(size, *SIZE).mean(axis=(2, 3))
            for name, value in (("mean", mean), ("twice", 2 * mean)):
                device[self.addresses[name]][: value.nbytes] = value.astype(np.float32).tobytes()

        self.sizes.append(size)
        self.cuda.queue.append(work)
        return not self.fails


def fake_trt(engine) -> SimpleNamespace:
    class ILogger:
        class Severity:
            ERROR, INTERNAL_ERROR = 1, 0

        def __init__(self):
            pass

    class Runtime:
        def __init__(self, logger):
            self._logger = logger

        def deserialize_cuda_engine(self, content):
            if content != b"engine":
                self._logger.log(1, "Serialization assertion\nstdVersionRead == kVERSION failed")
                return None
            return engine

    return SimpleNamespace(
        ILogger=ILogger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="in"),
        nptype=lambda dtype: np.float32,
        __name__="tensorrt",
        __version__="10.3.0",
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "x.engine").write_bytes(b"engine")
    return tmp_path / "x.engine"


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
        rtx.ICudaEngine: [name for name in dir(FakeEngine) if name.startswith(("get_tensor_", "create_", "num_io"))],
        rtx.IExecutionContext: ["set_input_shape", "get_tensor_shape", "set_tensor_address", "execute_async_v3"],
    }
    missing = [f"{owner}.{name}" for owner, names in used.items() for name in names if not hasattr(owner, name)]
    assert not missing
