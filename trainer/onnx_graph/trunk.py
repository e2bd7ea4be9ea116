"""A trainable trunk read from an ONNX file, so that any exported Re-ID network can be adapted.

The graph is followed from the image to the feature map before the last global pooling; what comes after (class or
embedding layers) is left out, or kept by naming a later value. Exporters fold batch norm into the convolutions:
`unfold_batch_norm` puts it back and `calibrate` sets its statistics, so that the network computes the same values as
before and can be normalised by batches again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import DataError
from trainer.onnx_graph.layers import LAYERS


@dataclass(frozen=True, slots=True)
class Step:
    """One node of the graph: a layer applied to earlier values. Layers with shared weights serve several steps."""

    layer: str
    inputs: tuple[str, ...]
    output: str
    pooled: bool  # computed from globally pooled values only, as in the gate of an attention block


class OnnxTrunk(nn.Module):
    """(B, 3, H, W) float32, normalised as the file expects → the last value of the graph: (B, C, h, w) or (B, D)."""

    def __init__(
        self, layers: dict[str, nn.Module], steps: list[Step], image: str, image_size: tuple[int, int] | None
    ) -> None:
        super().__init__()
        self.image_size = image_size  # height, width in pixels that the file names, if it does
        self.layers = nn.ModuleDict(layers)
        self.steps = steps
        self.image = image

    def forward(self, images: Tensor) -> Tensor:
        ((_, values),) = deque(self.run(images), maxlen=1)
        return values

    def run(self, images: Tensor) -> Iterator[tuple[Step, Tensor]]:
        """Every step with its value, in order. A value is let go of after its last use."""
        values = {self.image: images}
        last_use = {name: number for number, step in enumerate(self.steps) for name in step.inputs}
        for number, step in enumerate(self.steps):
            values[step.output] = self.layers[step.layer](*(values[name] for name in step.inputs))
            yield step, values[step.output]
            for name in step.inputs:
                if last_use[name] == number:
                    values.pop(name, None)


def read_trunk(content: bytes, where: str, output: str | None = None) -> OnnxTrunk:
    """The trunk of an ONNX file's `content`, up to the value `output`.

    By default that is the input of the last global pooling; "" is the file's first output.
    `where` names the file in the `DataError` raised when it cannot be read, has other inputs than one image, has no
    value `output`, or uses an unknown operator.
    """
    import onnx

    try:
        graph = onnx.load_model_from_string(content).graph
    except Exception as error:
        raise DataError(f"{where} cannot be read as an ONNX model: {error}") from None
    weights = _constants(graph)
    images = [item.name for item in graph.input if item.name not in weights]
    if len(images) != 1:
        raise DataError(f"{where}: expected one input, the image, found {images}")
    producers = {name: node for node in graph.node for name in node.output}
    output = graph.output[0].name if output == "" else output or _before_last_pooling(graph, where)
    if output not in producers:
        raise DataError(f"{where} has no value {output!r}; its outputs are {[item.name for item in graph.output]}")
    layers: dict[str, nn.Module] = {}
    steps: list[Step] = []
    names: dict[str, str] = {}  # operator, weights and attributes → layer, so that shared weights stay shared
    pooled: set[str] = set()
    for node in _needed(producers, output, {*images, *weights}):
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        used = [id(weights[name]) for name in node.input if name in weights]
        signature = f"{node.op_type} {used} {attributes}" if used else node.output[0]
        if signature not in names:
            names[signature] = _name(node, len(steps))
            layers[names[signature]] = _layer(node, attributes, tuple(map(weights.get, node.input)), where)
        inputs = tuple(name for name in _values_of(node) if name not in weights)
        if node.op_type in POOLING or all(name in pooled for name in inputs):
            pooled.update(node.output)
        steps.append(Step(names[signature], inputs, node.output[0], node.output[0] in pooled))
    return OnnxTrunk(layers, steps, images[0], _image_size(graph, images[0]))


def _image_size(graph: Any, image: str) -> tuple[int, int] | None:
    shape = next(item.type.tensor_type.shape for item in graph.input if item.name == image)
    sides = [side.dim_value for side in shape.dim[2:]]
    return (sides[0], sides[1]) if len(sides) == 2 and all(sides) else None


class UnitRows(nn.Module):
    """A network of which every output row gets unit length."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return functional.normalize(self.network(images).flatten(1), dim=1)


POOLING = ("GlobalAveragePool", "ReduceMean")


def _constants(graph: Any) -> dict[str, Tensor]:
    """By name. What an `Identity` calls otherwise, as exporters do with a shared weight, is the same tensor."""
    from onnx import numpy_helper

    tensors = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    found = {name: torch.from_numpy(np.array(numpy_helper.to_array(tensor))) for name, tensor in tensors.items()}
    for node in graph.node:  # in an order in which they can run
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _before_last_pooling(graph: Any, where: str) -> str:
    pooling = [node for node in graph.node if node.op_type in POOLING]
    if not pooling:
        raise DataError(f"{where} has no global pooling: name the feature map with model.onnx_output")
    return str(pooling[-1].input[0])


def _needed(producers: dict[str, Any], output: str, given: set[str]) -> list[Any]:
    """The nodes that `output` is computed from, in an order in which they can run."""
    ordered, done, waiting = [], set(given), [output]
    while waiting:
        name = waiting[-1]
        missing = [] if name in done else [item for item in _values_of(producers[name]) if item not in done]
        waiting.extend(missing)
        if not missing:
            waiting.pop()
            if name not in done:
                ordered.append(producers[name])
                done.update(producers[name].output)
    return ordered


def _values_of(node: Any) -> list[str]:
    """The inputs a node is computed from. The shape of a Reshape is not followed: it only describes the batch."""
    return [node.input[0]] if node.op_type == "Reshape" else [name for name in node.input if name]


def _name(node: Any, number: int) -> str:
    return (node.name or f"{node.op_type}_{number}").strip("/").replace("/", "_").replace(".", "_")


def _layer(node: Any, attributes: dict[str, Any], constants: tuple[Tensor | None, ...], where: str) -> nn.Module:
    if node.op_type not in LAYERS:
        raise DataError(
            f"{where}: operator {node.op_type} of {node.name!r} is not supported; known: {', '.join(sorted(LAYERS))}"
        )
    return LAYERS[node.op_type](attributes, constants)


class Unfolded(nn.Sequential):
    """A convolution and the batch norm that was folded into it."""

    @property
    def norm(self) -> nn.BatchNorm2d:
        norm = self[1]
        assert isinstance(norm, nn.BatchNorm2d)
        return norm


def unfold_batch_norm(trunk: OnnxTrunk) -> None:
    """Split every convolution that may hold a folded batch norm into convolution and batch norm.

    Those are the convolutions with a bias that serve one step only and see more than one pixel (gates have no batch
    norm). The values of the network do not change.
    """
    uses = Counter(step.layer for step in trunk.steps)
    for step in trunk.steps:
        layer = trunk.layers[step.layer]
        if isinstance(layer, nn.Conv2d) and layer.bias is not None and uses[step.layer] == 1 and not step.pooled:
            norm = nn.BatchNorm2d(layer.out_channels).train(trunk.training)
            norm.weight.data.fill_((1 + norm.eps) ** 0.5)
            norm.bias.data.copy_(layer.bias.data)
            layer.bias = None
            trunk.layers[step.layer] = Unfolded(layer, norm)


@torch.no_grad()
def calibrate(trunk: OnnxTrunk, batches: Iterable[Tensor]) -> None:
    """Set the statistics of unfolded batch norms to those of the data; the values of the network do not change.

    `batches` are (B, 3, H, W) float32; without any, nothing changes. Per channel with mean μ and variance σ² over the
    data and old output w·x + b: running mean μ, running variance σ², weight w·√(σ² + ε), bias b + w·μ; w is 1 before.
    """
    totals: dict[str, Tensor] = {}
    pixels: Counter[str] = Counter()
    was_training = trunk.training
    trunk.eval()
    for images in batches:
        for step, values in trunk.run(images):
            if isinstance(trunk.layers[step.layer], Unfolded):
                flat = values.transpose(0, 1).flatten(1).double()
                sums = torch.stack([flat.sum(1), flat.square().sum(1)])
                totals[step.layer] = totals.get(step.layer, torch.zeros_like(sums)) + sums
                pixels[step.layer] += flat.shape[1]
    trunk.train(was_training)
    for name, sums in totals.items():
        layer = trunk.layers[name]
        assert isinstance(layer, Unfolded)
        mean, square = sums / pixels[name]
        variance = (square - mean.square()).clamp(min=0)
        before = mean - layer.norm.bias  # values came after the bias
        weight = (variance + layer.norm.eps).sqrt()
        state = {"running_mean": before, "running_var": variance, "weight": weight, "bias": mean}
        layer.norm.load_state_dict(state, strict=False)
