"""A trained network as one ONNX file that takes grey levels and gives unit rows.

    (B, 3, H, W) uint8 ─► ·scale/std − mean/std ─► trunk ─► pooling ─► BN neck ─► unit length ─► (B, D) float32

The normalisation is part of the graph, so a crop travels to the device as bytes, and the description that goes along
says scale 1, mean 0, std 1. Batch norms are those of evaluation and are folded into the convolutions.
"""

from __future__ import annotations

import copy
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_app.contract.preprocess import InputSpec
from trainer.checkpoint import Model
from trainer.errors import TrainerError
from trainer.models.embedder import Embedder
from trainer.models.ghost_norm import use_plain_norm
from trainer.onnx_graph.nodes import name_layers
from trainer.onnx_graph.session import IMAGES, ROWS, planes, rows_of
from trainer.quiet import quietly

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
TOLERANCE = 1e-4  # between any value of a unit row in torch and in ONNX Runtime


class Deployed(nn.Module):
    """(B, 3, H, W) uint8 in the channel order of the spec → (B, D) float32 unit rows. Never in mixed precision."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Embedder, spec: InputSpec) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
        self.register_buffer("scale", (spec.scale / std).float())
        self.register_buffer("shift", (mean / std).float())

    def forward(self, images: Tensor) -> Tensor:
        return self.network.embed(self.network.trunk(images.float() * self.scale - self.shift))


def to_onnx(model: Model) -> ModelProto:
    """The ONNX model with a free batch size. Layers are named after their modules in the trunk.

    The exporter that traces: six times as fast as the newer one for networks of many small layers, without another
    dependency, and its files are old enough for the parser of JetPack 6. It folds batch norms into convolutions.
    """
    import onnx

    spec = model.spec
    deployed = Deployed(merged(model.network), spec).cpu().eval()
    example = torch.zeros(2, 3, spec.height_px, spec.width_px, dtype=torch.uint8)
    file: Any = io.BytesIO()  # the exporter writes into it, whatever its types say
    with torch.no_grad(), quietly():
        torch.onnx.export(
            deployed,
            (example,),
            file,
            dynamo=False,
            input_names=[IMAGES],
            output_names=[ROWS],
            dynamic_axes={IMAGES: {0: "batch"}, ROWS: {0: "batch"}},
            opset_version=OPSET,
        )
    exported = onnx.load_from_string(file.getvalue())
    name_layers(exported, "/trunk/")
    return exported


def merged(network: Embedder) -> Embedder:
    """The network in evaluation, with branches that add up to one convolution merged into it (RepVGG, MobileOne);
    without such branches as it is."""
    if not any(hasattr(layer, "reparameterize") for layer in network.modules()):
        return network
    copied = copy.deepcopy(network).eval()
    use_plain_norm(copied.trunk)
    blocks: list[Any] = [layer for layer in copied.modules() if hasattr(layer, "reparameterize")]
    for block in blocks:
        block.reparameterize()
    return copied


def check_against_torch(model: Model, exported: ModelProto, pixels: NDArray[np.uint8]) -> float:
    """The largest difference of any value of the rows of (N, H, W, 3) pixels. `TrainerError` above the tolerance."""
    images = planes(pixels)
    with torch.no_grad():
        expected = Deployed(model.network, model.spec).cpu().eval()(torch.from_numpy(images)).numpy()
    difference = float(np.abs(rows_of(exported, pixels) - expected).max())
    if not difference <= TOLERANCE:
        raise TrainerError(
            f"the ONNX file does not compute what the network computes: values differ by up to {difference:.2g}, "
            f"allowed is {TOLERANCE:g}; this is a bug, please report the backbone {model.network.blueprint.settings}"
        )
    return difference
