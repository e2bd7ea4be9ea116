"""INT8 after training: which crops measure the ranges, and the Q/DQ nodes that say so in the ONNX file.

The nodes are placed by NVIDIA's Model Optimizer (Apache-2.0), which knows what TensorRT fuses: symmetric INT8, weights
per channel, activations per tensor, biases left in float. It runs on a CPU. Its extra `[onnx]` would bring
onnxruntime-gpu, which cannot share an environment with onnxruntime, so its parts are required one by one.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.bundle_manifest import Calibration
from trainer.data.records import Crops
from trainer.errors import ConfigurationError, DataError
from trainer.onnx_graph.nodes import outside, unquantized
from trainer.onnx_graph.session import planes
from trainer.quiet import quietly

if TYPE_CHECKING:
    from onnx import ModelProto

Ranges = Literal["max", "entropy"]
HOUR_S = 3600.0
EVERYDAY = 24  # hours; a crop without a time belongs to none of them


def choose(crops: Crops, count: int) -> NDArray[np.int64]:
    """Rows (n,) int64, ascending, of at most `count` crops, spread over cameras and hours of the day.

    Crops are grouped by (camera, hour); groups are drawn from in turns, each evenly over its length, so that a quiet
    camera or night hour counts as much as a busy one. No chance is involved.
    """
    hours = np.where(np.isfinite(crops.times_s), np.floor(crops.times_s / HOUR_S) % EVERYDAY, -1).astype(np.int64)
    groups = crops.cameras * (EVERYDAY + 1) + hours
    turns, order = np.zeros(len(crops)), np.arange(len(crops))
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        turns[rows[_spread(len(rows))]] = np.arange(len(rows))
    return np.sort(np.lexsort((order, groups, turns))[:count])


def describe(crops: Crops, rows: NDArray[np.int64]) -> Calibration:
    """What the bundle says about the chosen crops. `DataError` when one cannot be read any more."""
    chosen = crops.take(rows)
    try:
        digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in chosen.paths)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror or error}") from None
    timed = chosen.times_s[np.isfinite(chosen.times_s)]
    hours = len(np.unique(np.floor(timed / HOUR_S) % EVERYDAY))
    spread = f"{hours} hours of the day" if len(timed) else "unknown hours"
    return Calibration(
        images=len(rows),
        sha256=hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest(),
        chosen=f"in turns over {len(np.unique(chosen.cameras))} cameras and {spread}",
    )


def quantize(
    exported: ModelProto, pixels: NDArray[np.uint8], ranges: Ranges = "max", leave_out: Sequence[str] = ()
) -> ModelProto:
    """The model with Q/DQ nodes, their ranges measured on pictures (N, H, W, 3) uint8 in the network's channel order.

    Normalisation, pooling, BN neck and unit length stay float, and so do the layers of `leave_out`, by their names. Two
    pictures are shown at a time where the batch is free: with one, the quantizer takes a last matrix product for one
    that never sees a batch, and leaves it out. `ConfigurationError` when the quantizer is not installed.
    """
    import onnx

    image = exported.graph.input[0]
    pairs = image.type.tensor_type.shape.dim[0].dim_value == 0
    images = planes(pixels if len(pixels) % 2 == 0 or not pairs else np.concatenate([pixels, pixels[-1:]]))
    try:
        with quietly():
            from modelopt.onnx.quantization import quantize as optimise
    except ImportError as error:
        raise ConfigurationError(
            [f"INT8 needs nvidia-modelopt ({error}): install crosslane[trainer], or export with --precision fp16"]
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(exported, str(source))
        with quietly():
            optimise(
                str(source),
                quantize_mode="int8",
                calibration_data={image.name: images},
                calibration_shapes=f"{image.name}:{'x'.join(map(str, (2, *images.shape[1:])))}" if pairs else None,
                calibration_method=ranges,
                calibration_eps=["cpu"],
                high_precision_dtype="fp32",
                log_level="ERROR",
                output_path=str(target),
            )
        quantized = onnx.load(str(target))
    return unquantized(quantized, outside(quantized) | set(leave_out))


def _spread(count: int) -> NDArray[np.int64]:
    """A permutation of 0 … count − 1 of which every beginning is spread over the whole: bit-reversed order."""
    bits = max(1, (count - 1).bit_length())
    numbers = np.arange(1 << bits)
    reverse = sum(((numbers >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    order = np.asarray(reverse, np.int64)
    return order[order < count]
