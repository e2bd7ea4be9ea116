"""What every inference engine looks like: one batch of pictures in, arrays out.

A backend for another device is one file with a class that follows `Engine`, raises `ModelError` for a model it cannot
load or run, and one line in the dict of `edge_app.runtime.open_engine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_app.contract.bundle_manifest import Precision
from edge_app.contract.preprocess import InputSpec
from edge_app.errors import ModelError
from edge_app.settings import FilePath, Settings


class EngineSettings(Settings):
    """How a model is run."""

    backend: Literal["onnx", "tensorrt"] = "onnx"
    """`onnx`: ONNX Runtime, on any machine. `tensorrt`: an engine for this machine's GPU, built at first."""
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """ONNX Runtime's execution providers, preferred first."""
    threads: int = Field(default=1, ge=0, le=1024)
    """Threads inside one run; 0 takes one per core. Small models gain little from more than one."""
    spin: bool = False
    """Let waiting threads spin: shorter runs with several threads, for about twice the processor time."""
    engines: FilePath = Path("state/engines")
    """TensorRT: the folder of built engines. Made when it is missing."""
    max_batch: int = Field(default=16, gt=0, le=1024)
    """TensorRT: the largest batch of the engine; larger ones are run in turns."""
    precision: Literal["as-exported"] | Precision = "as-exported"
    """TensorRT: part of the engine's name; a bundle says it itself. The model file decides how it computes."""
    scratch_mib: int = Field(default=1024, ge=16, le=1_000_000)
    """TensorRT: memory that the engine's layers may use for scratch."""
    trial_s: float = Field(default=60.0, gt=0, le=3600)
    """A model that is new here is loaded and run in a process of its own first, and refused when that takes longer."""
    trial_mib: int = Field(default=4096, ge=256, le=1_000_000)
    """Memory that it may use there, with ONNX Runtime on the processor."""
    cuda_graphs: int = Field(default=0, ge=0, le=64)
    """TensorRT: batches of up to this size run as CUDA graphs where that is faster; each takes scratch memory again."""


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a model."""

    name: str
    shape: tuple[int | None, ...]  # None where the size is free
    dtype: np.dtype[Any]


class Engine(Protocol):
    """A loaded model with one input. Not thread-safe: one engine belongs to one thread."""

    name: str  # backend and device, for logs
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    busy_s: float  # seconds spent inside `run` since the engine was opened
    runs: int  # batches run since the engine was opened

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """(B, 3, h, w) float32, or uint8 for a network that takes grey levels; any B ≥ 1 → one array (B, …) per output.

        Raises `ModelError`.
        """
        ...

    def close(self) -> None: ...


def check_input(engine: Engine, spec: InputSpec, where: str) -> None:
    """Raise `ModelError` unless the engine takes exactly one picture batch of the size that `spec` makes."""
    expected = (3, spec.height_px, spec.width_px)
    if len(engine.inputs) != 1:
        names = ", ".join(port.name for port in engine.inputs)
        raise ModelError(f"{where}: expected a model with one input, a batch of pictures; this one has: {names}")
    port = engine.inputs[0]
    fits = len(port.shape) == 4 and all(
        found in (None, size) for found, size in zip(port.shape[1:], expected, strict=True)
    )
    if not fits or port.dtype not in (np.float32, np.float16, np.uint8):
        raise ModelError(
            f"{where}: the input description makes {describe((None, *expected))} float32, but the model's input "
            f"{port.name!r} is {describe(port.shape)} {port.dtype}; correct width_px and height_px or use another model"
        )


def describe(shape: tuple[int | None, ...]) -> str:
    """A shape in words: `(batch, 3, 416, 416)`, a free size as `any`."""
    words = ["any" if size is None else str(size) for size in shape]
    if words and words[0] == "any":
        words[0] = "batch"
    return f"({', '.join(words)})"
