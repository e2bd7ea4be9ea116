"""The cases of `int8.py` that need an NVIDIA GPU: an engine built here and run, against ONNX Runtime on the processor.

NOT MEASURED yet: where TensorRT, pycuda or the GPU is missing, a row says so and nothing else.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import int8_cases
import int8_networks
import numpy as np

from edge_app.errors import ModelError
from edge_app.runtime import open_engine
from edge_app.runtime.engine import EngineSettings
from trainer.onnx_graph.session import planes, rows_of

WARM, RUNS = 20, 100
GIGA = 1e9


def speed(name: str, precision: str, batch: int) -> dict[str, Any]:
    """Latency of a whole run with its copies, likeness to ONNX Runtime, and how near the limits of the device it is."""
    network = int8_networks.network(name, int8_cases.CALIBRATION)
    model = int8_cases.of_precision(network, precision)
    pixels = network.pixels[np.arange(batch) % len(network.pixels)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(model.SerializeToString())
        settings = EngineSettings(backend="tensorrt", engines=Path(folder), max_batch=batch)
        graphs = settings.model_copy(update={"cuda_graphs": batch})
        try:
            with opened(path, settings) as engine:
                rows = engine.run(planes(pixels))[0]
                times_s = [run_s(engine, planes(pixels)) for _ in range(WARM + RUNS)][WARM:]
                found = {"device": engine.name, **against_limits(model, batch, float(np.median(times_s)))}
            with opened(path, graphs) as engine:
                graph_s = [run_s(engine, planes(pixels)) for _ in range(WARM + RUNS)][WARM:]
        except ModelError as error:
            return {"not_measured": str(error)}
    cosines = (rows.reshape(batch, -1) * rows_of(model, pixels)).sum(1)
    milliseconds = {f"p{share}_ms": 1000 * float(np.percentile(times_s, share)) for share in (50, 95)}
    milliseconds["p50_graphs_ms"] = 1000 * float(np.median(graph_s))
    return {**found, **milliseconds, "cosine_min": float(cosines.min())}


@contextmanager
def opened(path: Path, settings: EngineSettings) -> Iterator[Any]:
    engine = open_engine(path, settings)
    try:
        yield engine
    finally:
        engine.close()


def run_s(engine: Any, batch: np.ndarray) -> float:
    begin = time.perf_counter()
    engine.run(batch)
    return time.perf_counter() - begin


def against_limits(model: Any, batch: int, seconds: float) -> dict[str, Any]:
    """Arithmetic per second, and the share of the memory's bandwidth that weights and pictures alone would take."""
    import pycuda.driver as cuda

    device = cuda.Device(0)
    limit = 2 * 1000 * device.memory_clock_rate * device.global_memory_bus_width / 8  # both edges of a clock in kHz
    least = sum(item.ByteSize() for item in model.graph.initializer) + batch * picture_bytes(model)
    operations = 2 * batch * multiply_adds(model)
    return {"gflops": operations / seconds / GIGA, "bandwidth_share": least / seconds / limit}


def picture_bytes(model: Any) -> int:
    sides = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim][1:]
    return int(np.prod(sides))


def multiply_adds(model: Any) -> int:
    """Of the convolutions and matrix products, for one picture: weights of an output value times output values."""
    import onnx

    known = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        item.name: [side.dim_value or 1 for side in item.type.tensor_type.shape.dim]
        for item in (*known.value_info, *known.output)
    }
    stored = {item.name: list(item.dims) for item in known.initializer}
    producers = {name: node for node in known.node for name in node.output}
    total = 0
    for node in known.node:
        if node.op_type in ("Conv", "Gemm"):
            weight = node.input[1]
            while weight not in stored:  # before it was dequantized
                weight = producers[weight].input[0]
            outputs = int(np.prod(shapes[node.output[0]]))
            total += outputs * int(np.prod(stored[weight])) // stored[weight][0]
    return total
