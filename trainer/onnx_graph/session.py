"""An ONNX file on ONNX Runtime's CPU, and the pictures that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_app.contract.preprocess import InputSpec

if TYPE_CHECKING:
    from onnx import ModelProto

IMAGES, ROWS = "images", "rows"
BATCH = 32


def grey_spec(spec: InputSpec) -> InputSpec:
    """What the exported file wants to see: the same picture, not normalised."""
    return spec.model_copy(update={"scale": 1.0, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})


def rows_of(exported: ModelProto, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, D) float32 rows of pictures (N, H, W, 3) uint8 in the network's channel order, on ONNX Runtime's CPU."""
    session = session_of(exported)
    blocks = [
        session.run(None, {IMAGES: planes(pixels[first : first + BATCH])})[0] for first in range(0, len(pixels), BATCH)
    ]
    return np.concatenate(blocks).astype(np.float32)


def session_of(model: ModelProto) -> Any:
    """The model on ONNX Runtime's CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def planes(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W, 3) → (N, 3, H, W), contiguous."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
