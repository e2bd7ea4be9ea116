"""CUDA graphs: what a stream was given once, launched again as one piece of work. Small batches gain, because there the
processor takes longer to launch the layers one by one than the GPU to compute them.

NOT MEASURED, NOT YET RUN on a GPU. pycuda has no interface for graphs (its pull requests 343 and 424 are open), so
these are six calls of the driver itself, by ctypes; names and arguments as in `cuda.h`, since CUDA 11.4.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable
from typing import Any

from edge_app.errors import ModelError

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE: what other threads ask of the GPU meanwhile does no harm
_TRIALS = 9


class NotRecordedError(ModelError):
    """The driver refuses to record or to launch a graph."""


def open_driver() -> Any:
    """The library of NVIDIA's driver. Raises `NotRecordedError` when it is not there."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise NotRecordedError(f"CUDA graphs need NVIDIA's driver: {error}") from None


class CudaGraph:
    """The work that was given to one stream. Buffers and execution contexts that it uses must outlive it."""

    def __init__(self, driver: Any, stream: int, work: Callable[[], None]) -> None:
        """Record `work`, which gives the stream something to do and does not wait for it. Raises `NotRecordedError`."""
        self._driver, self._stream = driver, ctypes.c_void_p(stream)
        graph, self._graph = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(_THREAD_LOCAL))
        try:
            work()
        finally:  # a stream that still records could do nothing else
            ended = driver.cuStreamEndCapture(self._stream, ctypes.byref(graph))
        self._check("cuStreamEndCapture", ended)
        try:
            flags = ctypes.c_ulonglong(0)
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._graph), graph, flags)
        finally:
            driver.cuGraphDestroy(graph)

    def launch(self) -> None:
        """Give the recorded work to the stream. Raises `NotRecordedError`."""
        self._call("cuGraphLaunch", self._graph, self._stream)

    def close(self) -> None:
        self._driver.cuGraphExecDestroy(self._graph)

    def _call(self, name: str, *arguments: Any) -> None:
        self._check(name, getattr(self._driver, name)(*arguments))

    @staticmethod
    def _check(name: str, result: int) -> None:
        if result:
            raise NotRecordedError(f"{name} failed with the driver's error {result}")


def is_faster(one: Callable[[], None], other: Callable[[], None], clock: Callable[[], float]) -> bool:
    """Whether `one` takes less time than `other`: medians of a few runs in turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TRIALS):
        for run, spent in zip((one, other), seconds, strict=True):
            begin = clock()
            run()
            spent.append(clock() - begin)
    return statistics.median(seconds[0]) < statistics.median(seconds[1])
