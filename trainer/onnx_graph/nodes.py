"""What is done to the nodes of an ONNX model: names, Q/DQ pairs taken out again, half precision. Pure: a new model.

A layer's input is quantized where it comes from a pair `QuantizeLinear ─► DequantizeLinear`; the runtime fuses the pair
into the layer. Taking the pair out of one layer's way leaves every other layer as it was.

    head  ─►  body: from the first to the last convolution or matrix product  ─►  tail
    normalisation                                                                 pooling, BN neck, unit length

Head and tail stay float32, whatever the body is: they cost nothing, and small sums of squares need the digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def name_layers(model: ModelProto, prefix: str) -> None:
    """Give every node the name of its module below `prefix`, and one of its own."""
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        node.name = node.name.removeprefix(prefix)
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}_{number}"
        taken.add(node.name)


def quantized_layers(model: ModelProto) -> list[str]:
    """Names of the nodes that take at least one quantized input, in the order of the graph."""
    quantized = {node.output[0] for node in model.graph.node if node.op_type == DEQUANTIZE}
    return [
        node.name
        for node in model.graph.node
        if node.op_type not in (QUANTIZE, DEQUANTIZE) and any(name in quantized for name in node.input)
    ]


def unquantized(model: ModelProto, layers: set[str]) -> ModelProto:
    """The model with the Q/DQ pairs before these layers taken out."""
    changed = copied(model)
    producers = {name: node for node in changed.graph.node for name in node.output}
    for node in changed.graph.node:
        if node.name in layers:
            for place, name in enumerate(node.input):
                node.input[place] = _before_pair(name, producers)
    _drop_unused(changed)
    return changed


def outside(model: ModelProto) -> set[str]:
    """Names of the nodes of head and tail. What is computed from weights alone belongs to the layer it is for."""
    seen, from_image = set(), {item.name for item in model.graph.input}
    head: set[str] = set()
    for node in model.graph.node:
        if node.op_type in (*HEAVY, QUANTIZE) or any(name in seen for name in node.input):
            seen.update(node.output)
        elif any(name in from_image for name in node.input):
            head.add(node.name)
            from_image.update(node.output)
    needed: set[str] = set()
    tail: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type in HEAVY or any(name in needed for name in node.output):
            needed.update(node.input)
        else:
            tail.add(node.name)
    return head | tail


def half(model: ModelProto) -> ModelProto:
    """The model with a body of float16: casts at its two ends, weights in float16. Inputs and outputs keep their types.

    Not for a model with Q/DQ nodes: ONNX Runtime (1.31, CPU) fuses pairs with float16 scales into wrong numbers.
    """
    from onnx import TensorProto, helper

    changed = copied(model)
    graph, floats = changed.graph, _float_values(model)
    apart = outside(model)
    single = _always_single(model)
    narrow = {name for node in graph.node if node.name not in apart for name in node.output} - single
    _narrow_weights(changed, apart)
    nodes: list[Any] = []
    cast: set[str] = set()
    for node in graph.node:
        inside = node.name not in apart
        for place, name in _values(node):
            if name in floats and (name in narrow) != inside:
                wanted = f"{name}_{'half' if inside else 'single'}"
                if wanted not in cast:
                    kind = TensorProto.FLOAT16 if inside else TensorProto.FLOAT
                    nodes.append(helper.make_node("Cast", [name], [wanted], name=f"{wanted}_cast", to=kind))
                    cast.add(wanted)
                node.input[place] = wanted
        if inside and not single & set(node.output):
            _narrow_attributes(node)
        nodes.append(node)
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.ClearField("value_info")
    return changed


def copied(model: ModelProto) -> ModelProto:
    """A model of its own with the same content."""
    changed = type(model)()
    changed.CopyFrom(model)
    return changed


def _before_pair(name: str, producers: dict[str, NodeProto]) -> str:
    after = producers.get(name)
    before = producers.get(after.input[0]) if after is not None and after.op_type == DEQUANTIZE else None
    return before.input[0] if before is not None and before.op_type == QUANTIZE else name


def _drop_unused(model: ModelProto) -> None:
    """Remove the nodes and weights that no output needs."""
    needed = {item.name for item in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if any(name in needed for name in node.output):
            kept.append(_copy_node(node))
            needed.update(node.input)
    weights = [item for item in model.graph.initializer if item.name in needed]
    model.graph.ClearField("node")
    model.graph.node.extend(reversed(kept))
    del model.graph.value_info[:]
    if len(weights) < len(model.graph.initializer):
        fresh = [type(item).FromString(item.SerializeToString()) for item in weights]
        model.graph.ClearField("initializer")
        model.graph.initializer.extend(fresh)


def _copy_node(node: NodeProto) -> NodeProto:
    copied = type(node)()
    copied.CopyFrom(node)
    return copied


def _float_values(model: ModelProto) -> set[str]:
    """Names of the float32 values that nodes compute or that come from outside; weights are not among them."""
    from onnx import TensorProto, shape_inference

    known = shape_inference.infer_shapes(model).graph
    items = [*known.value_info, *known.input, *known.output]
    return {item.name for item in items if item.type.tensor_type.elem_type == TensorProto.FLOAT}


def _values(node: NodeProto) -> list[tuple[int, str]]:
    """Place and name of the inputs that may be of either precision; how much `Resize` scales is always float32."""
    found = list(enumerate(node.input))
    return found[:1] if node.op_type == "Resize" else found


def _always_single(model: ModelProto) -> set[str]:
    return {name for node in model.graph.node if node.op_type == "Resize" for name in node.input[1:] if name}


def _narrow_weights(model: ModelProto, apart: set[str]) -> None:
    """Float weights of the body become float16; those that head or tail use too exist twice then."""
    from onnx import TensorProto, numpy_helper

    used_apart = {name for node in model.graph.node if node.name in apart for name in node.input}
    used_apart |= _always_single(model)
    used_inside = {name for node in model.graph.node if node.name not in apart for _, name in _values(node)}
    renamed: dict[str, str] = {}
    for item in list(model.graph.initializer):
        if item.data_type != TensorProto.FLOAT or item.name not in used_inside:
            continue
        name = f"{item.name}_half" if item.name in used_apart else item.name
        values = np.clip(numpy_helper.to_array(item), -65504, 65504).astype(np.float16)
        narrow = numpy_helper.from_array(values, name)
        if name == item.name:
            item.CopyFrom(narrow)
        else:
            model.graph.initializer.append(narrow)
            renamed[item.name] = name
    for node in model.graph.node:
        if node.name not in apart:
            for place, name in _values(node):
                node.input[place] = renamed.get(name, name)


def _narrow_attributes(node: NodeProto) -> None:
    """Casts to float32 and float32 constants inside the body."""
    from onnx import TensorProto, numpy_helper

    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(attribute.t).astype(np.float16)
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
