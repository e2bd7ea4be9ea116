"""TensorRT through pycuda: the backend of Jetsons and of workstations with an NVIDIA GPU.

NOT MEASURED, NOT YET RUN on a GPU: written from the documented interfaces and tested against fakes of them.

    batch ─► page-locked input ─► device ─► execute_async_v3 ─► device ─► page-locked output ─► arrays
             └────────────────────────── one stream ──────────────────────────┘

Buffers are made once, for the largest batch of the engine's profile. The CUDA context is the device's primary one,
which every other user of the GPU in this process shares; it is current only inside the calls of this file.

With `cuda_graphs`, batches up to that size get a graph and an execution context each, where a trial at the start says
that it is faster. TensorRT-RTX records graphs by itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_app.errors import ModelError
from edge_app.runtime.build import BuildRequest, BuiltEngine, build_engine, find_tensorrt, local_device
from edge_app.runtime.build_child import make_logger
from edge_app.runtime.cuda_graph import CudaGraph, NotRecordedError, is_faster, open_driver
from edge_app.runtime.engine import EngineSettings, Port

log = logging.getLogger(__name__)


def open_tensorrt(path: Path, settings: EngineSettings, clock: Callable[[], float]) -> TensorrtEngine:
    """Build the engine of an ONNX file for this GPU, or find it built, and load it. Raises `ModelError`."""
    cuda = _pycuda()
    built = build_for(path, settings)
    libraries = Libraries(find_tensorrt(None, local_device()), cuda, open_driver() if settings.cuda_graphs else None)
    try:
        return TensorrtEngine(built.path, libraries, clock, settings.cuda_graphs)
    except EngineNotLoadedError:
        built.path.with_suffix(".json").unlink(missing_ok=True)  # so that the next start builds it again
        raise


def build_for(path: Path, settings: EngineSettings) -> BuiltEngine:
    """The engine of an ONNX file for this GPU, built now or before. Raises `ModelError` or `StoreError`."""
    request = BuildRequest(
        path,
        settings.engines,
        precision=settings.precision,
        max_batch=settings.max_batch,
        memory_bytes=settings.scratch_mib << 20,
    )
    return build_engine(request, log.info)


class EngineNotLoadedError(ModelError):
    """TensorRT refuses an engine file that looked right."""


@dataclass(frozen=True, slots=True)
class Libraries:
    """What is behind an engine: the module `tensorrt` or `tensorrt_rtx`, `pycuda.driver`, and for graphs the driver."""

    trt: Any
    cuda: Any
    driver: Any = None


@dataclass(frozen=True, slots=True)
class _Buffer:
    """One tensor of the engine, for the largest batch."""

    port: Port
    host: NDArray[Any]  # (max_batch, …), page-locked
    device: Any


class TensorrtEngine:
    """An `Engine` on one GPU. Not thread-safe."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    _runtime: Any
    _engine: Any
    _context: Any  # None when closed
    _stream: Any
    _input: _Buffer
    _outputs: list[_Buffer]

    def __init__(
        self,
        path: Path,
        libraries: Libraries,
        clock: Callable[[], float] = time.perf_counter,
        cuda_graphs: int = 0,
    ) -> None:
        self._path, self._clock = path, clock
        self._trt, self._cuda = libraries.trt, libraries.cuda
        self._graphs: dict[int, tuple[CudaGraph, Any]] = {}  # batch size → graph, and the context that it uses
        self._logger = make_logger(self._trt)
        self.metadata: Mapping[str, str] = {}
        self.busy_s = 0.0
        self.runs = 0
        with self._named_errors("cannot be loaded"), ExitStack() as undo:
            self._cuda.init()
            device = self._cuda.Device(0)
            self._primary = device.retain_primary_context()
            undo.callback(self._primary.detach)
            self.name = f"{self._trt.__name__}-{self._trt.__version__}/{device.name()}"
            with self._current():
                self._load(path, cuda_graphs)
                self._warm_up()
                if self._trt.__name__ == "tensorrt":
                    self._record(libraries.driver, cuda_graphs)
            undo.pop_all()

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """(B, 3, h, w) of the engine's type or float32 → one array (B, …) per output. Raises `ModelError`."""
        if self._context is None:
            raise ModelError(f"{self._path}: the engine was closed")
        expected = self._input.host.shape[1:]
        if batch.shape[1:] != expected:
            raise ModelError(f"{self._path}: the engine takes pictures {expected}, got {batch.shape[1:]}")
        begin = self._clock()
        parts = [batch[start : start + self.max_batch] for start in range(0, len(batch), self.max_batch)]
        with self._named_errors(f"failed on a batch {batch.shape}"), self._current():
            results = [self._run_part(part) for part in parts]
        outputs = results[0] if len(results) == 1 else [np.concatenate(each) for each in zip(*results, strict=True)]
        self.busy_s += self._clock() - begin
        self.runs += 1
        return outputs

    def close(self) -> None:
        """Free the engine's memory; it cannot be used afterwards."""
        if self._context is None:
            return
        with self._current():  # what lives on the device is freed while its context is current
            for graph, _ in self._graphs.values():
                graph.close()
            self._graphs.clear()
            self._context = self._engine = self._runtime = None
            for buffer in (self._input, *self._outputs):
                buffer.device.free()
            del self._input, self._outputs, self._stream
        self._primary.detach()

    def _load(self, path: Path, cuda_graphs: int) -> None:
        self._runtime = self._trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineNotLoadedError(
                f"{path}: TensorRT refuses this engine: {self._reason()}; start again to build it"
            )
        self._context = self._new_context(cuda_graphs)
        self._stream = self._cuda.Stream()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT]
        if len(inputs) != 1:
            raise ModelError(f"{path}: expected an engine with one input, a batch of pictures; this one has {inputs}")
        shape = tuple(self._engine.get_tensor_shape(inputs[0]))
        self._free_batch = shape[0] < 0
        largest = tuple(self._engine.get_tensor_profile_shape(inputs[0], 0)[2]) if self._free_batch else shape
        self.max_batch = int(largest[0])
        self._context.set_input_shape(inputs[0], largest)  # outputs know their largest shapes from here on
        self._input = self._buffer(inputs[0])
        self._outputs = [self._buffer(name) for name in names if name != inputs[0]]
        self.inputs, self.outputs = (self._input.port,), tuple(buffer.port for buffer in self._outputs)

    def _new_context(self, cuda_graphs: int = 0) -> Any:
        if cuda_graphs and self._trt.__name__ == "tensorrt_rtx":
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise ModelError(
                f"{self._path}: not enough GPU memory for this engine: {self._reason()}; lower max_batch or cuda_graphs"
            )
        return context

    def _buffer(self, name: str) -> _Buffer:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape) or not shape or shape[0] != self.max_batch:
            raise ModelError(
                f"{self._path}: {name!r} is {shape} for a batch of {self.max_batch}; "
                "export the model with the batch as the first axis and no other free size"
            )
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        host = self._cuda.pagelocked_empty(shape, dtype)
        device = self._cuda.mem_alloc(host.nbytes)
        self._context.set_tensor_address(name, int(device))
        return _Buffer(Port(name, (None if self._free_batch else shape[0], *shape[1:]), dtype), host, device)

    def _warm_up(self) -> None:
        """The first runs of a context are slow (lazy loading, and compiling in TensorRT-RTX); not at the first crop."""
        for size in sorted({1, self.max_batch}):
            self._run_part(np.zeros((size, *self._input.host.shape[1:]), self._input.port.dtype))

    def _record(self, driver: Any, largest: int) -> None:
        """Graphs of the batches up to `largest`, where they are faster."""
        sizes = range(1, min(largest, self.max_batch) + 1) if self._free_batch else [self.max_batch] * bool(largest)
        for size in sizes:
            try:
                recorded = self._recorded(driver, size)
            except NotRecordedError as error:
                log.warning("%s: no CUDA graphs from batches of %d on: %s", self._path, size, error)
                return
            if recorded is not None:
                self._graphs[size] = recorded

    def _recorded(self, driver: Any, size: int) -> tuple[CudaGraph, Any] | None:
        """The graph of one batch size and the context that it uses, None where it is no faster. A graph changes with
        the context it was recorded from, so each has its own; the buffers are the same."""
        context = self._new_context()
        for buffer in (self._input, *self._outputs):
            context.set_tensor_address(buffer.port.name, int(buffer.device))
        layers = partial(self._enqueue, size, context)
        self._wait_for(layers)  # a context does more at its first run, which must not be recorded
        graph = CudaGraph(driver, self._stream.handle, layers)
        if is_faster(partial(self._wait_for, graph.launch), partial(self._wait_for, layers), self._clock):
            return graph, context
        graph.close()
        return None

    def _run_part(self, part: NDArray[Any]) -> list[NDArray[Any]]:
        """At most `max_batch` pictures. An engine of a fixed batch computes leftovers of earlier batches along."""
        count = len(part)
        size = count if self._free_batch else self.max_batch
        self._input.host[:count] = part
        recorded = self._graphs.get(size)
        self._wait_for(recorded[0].launch if recorded else partial(self._enqueue, size, self._context))
        return [buffer.host[:count].copy() for buffer in self._outputs]

    def _enqueue(self, size: int, context: Any) -> None:
        """Copies and layers of one batch, given to the stream."""
        self._cuda.memcpy_htod_async(self._input.device, self._input.host[:size], self._stream)
        context.set_input_shape(self._input.port.name, (size, *self._input.host.shape[1:]))
        if not context.execute_async_v3(self._stream.handle):
            raise ModelError(f"{self._path}: the engine did not run: {self._reason()}")
        for buffer in self._outputs:
            self._cuda.memcpy_dtoh_async(buffer.host[:size], buffer.device, self._stream)

    def _wait_for(self, work: Callable[[], None]) -> None:
        work()
        self._stream.synchronize()

    def _reason(self) -> str:
        return " | ".join(self._logger.errors[-3:]) or "it gives no reason"

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._primary.push()
        try:
            yield
        finally:
            self._cuda.Context.pop()

    @contextmanager
    def _named_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._cuda.MemoryError as error:
            raise ModelError(f"{self._path} {what}: not enough GPU memory ({error}); lower max_batch") from None
        except self._cuda.Error as error:
            raise ModelError(f"{self._path} {what}: {error}") from None
        except OSError as error:
            raise ModelError(f"{self._path} {what}: {error.strerror or error}") from None


def _pycuda() -> Any:
    try:
        import pycuda.driver
    except ImportError as error:
        raise ModelError(
            f"the backend tensorrt needs pycuda ({error}): pip install 'crosslane[jetson]' on a machine with CUDA, "
            "or set engine.backend to onnx"
        ) from None
    return pycuda.driver
