"""Engines: how a model file is run on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge_app.runtime.engine import Engine, EngineSettings
from edge_app.runtime.onnx import OnnxEngine


def _open_tensorrt(path: Path, settings: EngineSettings, clock: Callable[[], float]) -> Engine:
    from edge_app.runtime.tensorrt import open_tensorrt

    return open_tensorrt(path, settings, clock)


_BACKENDS: dict[str, Callable[[Path, EngineSettings, Callable[[], float]], Engine]] = {
    "onnx": OnnxEngine,
    "tensorrt": _open_tensorrt,
}


def open_engine(path: Path, settings: EngineSettings, clock: Callable[[], float] = time.perf_counter) -> Engine:
    """Load a model. `clock` gives monotonic seconds for `busy_s`. Raises `ModelError`."""
    return _BACKENDS[settings.backend](path, settings, clock)


def build_ahead(path: Path, settings: EngineSettings) -> None:
    """What takes minutes and has a time limit of its own, done before a model is tried: TensorRT's engine. Raises
    `ModelError` or `StoreError`."""
    if settings.backend == "tensorrt":
        from edge_app.runtime.tensorrt import build_for

        build_for(path, settings)
