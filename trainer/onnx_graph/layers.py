"""The operators of an ONNX graph as torch layers: those that convolutional Re-ID networks are exported with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import DataError

Attributes = dict[str, Any]
Constants = tuple[Tensor | None, ...]  # one entry per input of the node; None where it is computed
Builder = Callable[[Attributes, Constants], nn.Module]


class Apply(nn.Module):
    """A function of tensors without weights."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *values: Tensor) -> Tensor:
        return self.function(*values)


class WithConstant(nn.Module):
    """A sum or product with a constant of the graph."""

    constant: Tensor

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], constant: Tensor) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("constant", constant)

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values, self.constant)


class RowNorm(nn.BatchNorm2d):
    """Batch norm of (B, C, H, W) or, after a linear layer, (B, C)."""

    def _check_input_dim(self, values: Tensor) -> None:
        if values.dim() not in (2, 4):
            raise ValueError(f"expected (B, C) or (B, C, H, W), got {tuple(values.shape)}")


def _convolution(attributes: Attributes, constants: Constants) -> nn.Module:
    weight, bias = constants[1], constants[2] if len(constants) > 2 else None
    assert weight is not None
    padding = _symmetric(attributes.get("pads", [0, 0, 0, 0]))
    groups = attributes.get("group", 1)
    layer = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        stride=tuple(attributes.get("strides", [1, 1])),
        padding=padding,
        dilation=tuple(attributes.get("dilations", [1, 1])),
        groups=groups,
        bias=bias is not None,
    )
    layer.weight.data.copy_(weight)
    if bias is not None and layer.bias is not None:
        layer.bias.data.copy_(bias)
    return layer


def _symmetric(pads: list[int]) -> tuple[int, int]:
    if pads[:2] != pads[2:]:
        raise DataError(
            f"padding {pads} differs between the sides of the image: export the model with symmetric padding"
        )
    return pads[0], pads[1]


def _linear(attributes: Attributes, constants: Constants) -> nn.Module:
    weight, bias = constants[1], constants[2] if len(constants) > 2 else None
    assert weight is not None
    weight = weight if attributes.get("transB") else weight.T
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data.copy_(weight)
    if bias is not None:
        layer.bias.data.copy_(bias)
    return layer


def _batch_norm(attributes: Attributes, constants: Constants) -> nn.Module:
    weight, bias, mean, variance = constants[1:5]
    assert weight is not None
    layer = RowNorm(len(weight), eps=attributes.get("epsilon", 1e-5))
    layer.load_state_dict({"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}, strict=False)
    return layer


def _pool(kind: type[nn.MaxPool2d] | type[nn.AvgPool2d]) -> Builder:
    def build(attributes: Attributes, constants: Constants) -> nn.Module:
        sizes: dict[str, Any] = {
            "stride": tuple(attributes.get("strides", [1, 1])),
            "padding": _symmetric(attributes.get("pads", [0, 0, 0, 0])),
        }
        extra: dict[str, Any] = (
            {"count_include_pad": bool(attributes.get("count_include_pad"))} if kind is nn.AvgPool2d else {}
        )
        return kind(tuple(attributes["kernel_shape"]), ceil_mode=bool(attributes.get("ceil_mode")), **sizes, **extra)

    return build


def _with_constant(function: Callable[[Tensor, Tensor], Tensor]) -> Builder:
    def build(attributes: Attributes, constants: Constants) -> nn.Module:
        fixed = [constant for constant in constants if constant is not None]
        return WithConstant(function, fixed[0]) if fixed else Apply(function)

    return build


def _clip(attributes: Attributes, constants: Constants) -> nn.Module:
    """Limits are inputs in newer files and attributes in older ones; one that is not given does not limit."""
    lowest, highest = (None if item is None else float(item) for item in (*constants[1:], None, None)[:2])
    return nn.Hardtanh(
        attributes.get("min", -math.inf) if lowest is None else lowest,
        attributes.get("max", math.inf) if highest is None else highest,
    )


def _reshape(attributes: Attributes, constants: Constants) -> nn.Module:
    """A fixed shape keeps its batch dimension open; a computed one is how exporters write "flatten"."""
    if constants[1] is None:
        return Apply(lambda values: values.flatten(1))
    shape = constants[1].tolist()
    return Apply(lambda values: values.reshape(len(values), *shape[1:]))


def _plain(function: Callable[..., Tensor]) -> Builder:
    return lambda attributes, constants: Apply(function)


LAYERS: dict[str, Builder] = {
    "Add": _with_constant(torch.add),
    "AveragePool": _pool(nn.AvgPool2d),
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda attributes, constants: Apply(lambda *values: torch.cat(values, attributes["axis"])),
    "Conv": _convolution,
    "Flatten": _plain(lambda values: values.flatten(1)),
    "Gemm": _linear,
    "GlobalAveragePool": _plain(lambda values: values.mean((2, 3), keepdim=True)),
    "HardSigmoid": _plain(functional.hardsigmoid),
    "HardSwish": _plain(functional.hardswish),
    "Identity": _plain(lambda values: values),
    "LeakyRelu": lambda attributes, constants: nn.LeakyReLU(attributes.get("alpha", 0.01)),
    "MaxPool": _pool(nn.MaxPool2d),
    "Mul": _with_constant(torch.mul),
    "Relu": _plain(functional.relu),
    "Reshape": _reshape,
    "Sigmoid": _plain(torch.sigmoid),
    "Transpose": lambda attributes, constants: Apply(lambda values: values.permute(*attributes["perm"])),
}
