"""ONNX Runtime: the backend that works on any machine."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_app.errors import ModelError
from edge_app.runtime.engine import EngineSettings, Port, describe

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


class OnnxEngine:
    """One ONNX model on ONNX Runtime. A model with a fixed batch size is run several times per batch."""

    def __init__(self, path: Path, settings: EngineSettings, clock: Callable[[], float] = time.perf_counter) -> None:
        if not path.is_file():
            raise ModelError(f"model file {path} does not exist; correct the path or fetch the model")
        self._path, self._clock = path, clock
        self._session = _open_session(path, settings)
        self.name = f"onnxruntime/{self._session.get_providers()[0]}"
        self.inputs = tuple(_port(value, path) for value in self._session.get_inputs())
        self.outputs = tuple(_port(value, path) for value in self._session.get_outputs())
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.busy_s = 0.0
        self.runs = 0

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """(B, 3, h, w) float32 or uint8 → one array (B, …) per output. Raises `ModelError` when the model fails."""
        begin = self._clock()
        port = self.inputs[0]
        values = batch if batch.dtype == port.dtype else batch.astype(port.dtype)
        fixed = port.shape[0] if port.shape else None
        if fixed is None or fixed == len(values):
            outputs = self._run_once(values)
        else:
            parts = [self._run_padded(values[start : start + fixed], fixed) for start in range(0, len(values), fixed)]
            outputs = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        self.busy_s += self._clock() - begin
        self.runs += 1
        return outputs

    def close(self) -> None:
        """Free the model's memory; the engine cannot be used afterwards."""
        self._session = None

    def _run_padded(self, part: NDArray[Any], size: int) -> list[NDArray[Any]]:
        if len(part) == size:
            return self._run_once(part)
        padded = np.zeros((size, *part.shape[1:]), part.dtype)
        padded[: len(part)] = part
        return [output[: len(part)] for output in self._run_once(padded)]

    def _run_once(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        if self._session is None:
            raise ModelError(f"{self._path}: the engine was closed")
        try:
            outputs: list[NDArray[Any]] = self._session.run(None, {self.inputs[0].name: values})
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelError(f"{self._path}: the model failed on a batch {values.shape}: {_reason(error)}") from None
        for port, output in zip(self.outputs, outputs, strict=True):
            if not isinstance(output, np.ndarray) or output.ndim < 1 or len(output) != len(values):
                found = describe(output.shape) if isinstance(output, np.ndarray) else type(output).__name__
                raise ModelError(
                    f"{self._path}: output {port.name!r} is {found} for a batch of {len(values)}; "
                    "export the model with the batch as the first axis of its input and outputs"
                )
        return outputs


def _open_session(path: Path, settings: EngineSettings) -> Any:
    import onnxruntime as ort

    missing = [name for name in settings.providers if name not in ort.get_available_providers()]
    if missing:
        raise ModelError(
            f"{path}: ONNX Runtime here has no {', '.join(missing)}; it has {', '.join(ort.get_available_providers())}"
        )
    options = ort.SessionOptions()
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = settings.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spin else "0")
    options.log_severity_level = 4  # what it has to say comes as an exception
    try:
        return ort.InferenceSession(str(path), options, providers=list(settings.providers))
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"{path} is not a usable ONNX model: {_reason(error)}; fetch or export it again") from None


def _port(value: Any, path: Path) -> Port:
    dtype = _DTYPES.get(value.type)
    if dtype is None:
        raise ModelError(f"{path}: {value.name!r} has the unknown type {value.type}; export the model as float32")
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape or ())
    return Port(value.name, shape, np.dtype(dtype))


def _reason(error: Exception) -> str:
    """ONNX Runtime's text without its prefix `[ONNXRuntimeError] : 7 : X : Load model from … failed:`."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if re.search(r"AllocateRaw|bad_alloc|allocate memory", text):
        return "there is not enough memory for it"
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Load model from .*? failed:", "", text)
    return text[:200].strip().rstrip(".")
