"""Fakes of a GPU for the TensorRT backend: pycuda's driver, the driver's calls for graphs, TensorRT."""

# ruff: noqa: N802  the names are NVIDIA's
from types import SimpleNamespace

import numpy as np

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


class FakeDriver:
    """Six calls of the driver: while it records, what is queued is kept instead of run. Each answer may be an error."""

    def __init__(self, cuda, **errors) -> None:
        self.cuda, self.errors, self.graphs, self.begun, self.launched = cuda, errors, {}, None, 0

    def answer(self, name):
        return self.errors.get(name, 0)

    def cuStreamBeginCapture_v2(self, stream, mode):
        assert (stream.value, mode.value) == (77, 1)
        self.begun = len(self.cuda.queue)
        return self.answer("cuStreamBeginCapture_v2")

    def cuStreamEndCapture(self, stream, graph):
        graph._obj.value = 500 + len(self.graphs)
        self.graphs[graph._obj.value] = self.cuda.queue[self.begun :]
        del self.cuda.queue[self.begun :]
        self.begun = None
        return self.answer("cuStreamEndCapture")

    def cuGraphInstantiateWithFlags(self, executable, graph, flags):
        assert flags.value == 0
        executable._obj.value = graph.value + 1000
        self.graphs[graph.value + 1000] = self.graphs[graph.value]
        return self.answer("cuGraphInstantiateWithFlags")

    def cuGraphLaunch(self, executable, stream):
        self.launched += 1
        self.cuda.queue.extend(self.graphs[executable.value])
        return self.answer("cuGraphLaunch")

    def cuGraphDestroy(self, graph):
        del self.graphs[graph.value]

    def cuGraphExecDestroy(self, executable):
        del self.graphs[executable.value]


class FakeContext:
    """One execution context: its own input shape, its own addresses, on a `FakeEngine`."""

    def __init__(self, engine) -> None:
        self.engine, self.shape, self.addresses = engine, None, {}

    def get_tensor_shape(self, name):
        return self.engine.shape_of(name, self.shape)

    def set_input_shape(self, name, shape):
        self.shape = shape
        return True

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, handle):
        assert handle == 77
        size, device = self.shape[0], self.engine.cuda.device

        def work():
            raw = bytes(device[self.addresses["images"]][: size * int(np.prod(SIZE)) * 4])
            mean = np.frombuffer(raw, np.float32).reshape(size, *SIZE).mean(axis=(2, 3))
            for name, value in (("mean", mean), ("twice", 2 * mean)):
                device[self.addresses[name]][: value.nbytes] = value.astype(np.float32).tobytes()

        self.engine.sizes.append(size)
        self.engine.cuda.queue.append(work)
        return not self.engine.fails


class FakeEngine:
    """Gives the mean of each channel, and twice that; `batch` -1 is free up to `largest`."""

    num_io_tensors = 3

    def __init__(self, cuda, batch=-1, largest=4, output_first=None) -> None:
        self.cuda, self.batch, self.largest, self.output_first = cuda, batch, largest, output_first
        self.sizes, self.contexts, self.fails = [], 0, False

    def get_tensor_name(self, index):
        return ("mean", "images", "twice")[index]

    def get_tensor_mode(self, name):
        return "in" if name == "images" else "out"

    def get_tensor_dtype(self, name):
        return "float"

    def get_tensor_profile_shape(self, name, profile):
        assert (name, profile) == ("images", 0)
        return [(1, *SIZE), (2, *SIZE), (self.largest, *SIZE)]

    def create_execution_context(self, config=None):
        self.contexts += 1
        self.config = config
        return FakeContext(self)

    def create_runtime_config(self):
        return SimpleNamespace(cuda_graph_strategy="disabled")

    def get_tensor_shape(self, name):
        return self.shape_of(name, None)

    def shape_of(self, name, shape):
        if name == "images":
            return shape or (self.batch, *SIZE)
        return (shape[0] if self.output_first is None else self.output_first, 3)


def fake_trt(engine, name="tensorrt") -> SimpleNamespace:
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
        CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph"),
        __name__=name,
        __version__="10.3.0",
    )
