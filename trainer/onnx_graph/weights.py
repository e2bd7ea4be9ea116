"""Weights as they are kept in the file.

A quantizer writes them in float32 before a pair `QuantizeLinear ─► DequantizeLinear`, so that an INT8 file is as large
as the float one. Here the first half of each pair is computed once: the file keeps INT8 weights before their
`DequantizeLinear`, computes the same, bit for bit, and is a quarter as large on its way to the roadside. TensorRT takes
both forms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.onnx_graph.nodes import QUANTIZE, copied

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto


def with_int8_weights(model: ModelProto) -> ModelProto:
    """The model with every quantized weight stored in INT8; without Q/DQ nodes, as it was."""
    changed = copied(model)
    graph = changed.graph
    stored = {item.name: item for item in graph.initializer}
    quantizers = [node for node in graph.node if node.op_type == QUANTIZE and node.input[0] in stored]
    small = [_quantized(node, stored) for node in quantizers]
    gone = {node.output[0] for node in quantizers}
    nodes = [node for node in graph.node if node.output[0] not in gone]
    needed = {name for node in nodes for name in node.input}
    weights = [item for item in graph.initializer if item.name in needed]
    fresh = [type(item).FromString(item.SerializeToString()) for item in (*nodes, *weights)]
    graph.ClearField("node")
    graph.ClearField("initializer")
    graph.node.extend(fresh[: len(nodes)])
    graph.initializer.extend([*fresh[len(nodes) :], *small])
    return changed


def _quantized(node: NodeProto, stored: dict[str, TensorProto]) -> TensorProto:
    """What `QuantizeLinear` gives for a stored weight: w / scale, rounded half to even, within the integers' range."""
    from onnx import numpy_helper

    weight, scale, zero = (numpy_helper.to_array(stored[name]) for name in node.input)
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    limits = np.iinfo(zero.dtype)
    values = np.rint(weight / _along(scale, axis, weight.ndim)) + _along(zero, axis, weight.ndim).astype(np.float32)
    return numpy_helper.from_array(np.clip(values, limits.min, limits.max).astype(zero.dtype), node.output[0])


def _along(values: NDArray[np.generic], axis: int, dimensions: int) -> NDArray[np.generic]:
    """One value per channel, shaped so that it meets its axis; a single value stays one."""
    return values.reshape([-1 if place == axis else 1 for place in range(dimensions)]) if values.ndim else values
