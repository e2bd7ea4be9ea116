"""The network: image → trunk → pooling → BN neck → unit vector.

Recipe: Luo et al., "Bag of Tricks" (BN neck, last stride 1), GeM pooling as in Cluster-Contrast. Mixed precision
reaches the trunk only; pooling, normalisation and everything after it are float32.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from edge_app.contract.yaml import FilePath
from trainer.errors import ConfigurationError, DataError
from trainer.models import osnet, shufflenet
from trainer.models.ghost_norm import use_ghost_norm
from trainer.onnx_graph import trunk as onnx_trunk
from trainer.settings import Settings


class ModelSettings(Settings):
    """The network and where its weights start."""

    backbone: str = "resnet50"
    """`onnx`, `osnet_x1_0`, `osnet_x0_75`, `osnet_x0_5`, `osnet_x0_25`, `shufflenetv2_48_96_192`, or a timm model."""
    weights: FilePath | None = None
    """File to start from: the ONNX file, or a state dict (torchreid's for OSNet, timm's otherwise)."""
    pretrained: bool = False
    """Fetch timm's ImageNet weights; `weights` wins when both are given."""
    onnx_output: str | None = None
    """Value of the ONNX graph to stop at; by default the feature map before the last global pooling."""
    unfold_batch_norm: bool = True
    """ONNX only: put the batch norm that the exporter folded into the convolutions back, calibrated on the crops."""
    last_stride: Literal[1, 2] = 1
    """Stride of the last stage of a timm network or ShuffleNet; 1 doubles the feature map."""
    pooling: Literal["gem", "average"] = "gem"
    """Generalised mean with one trained exponent, or the plain mean."""
    gem_exponent: float = Field(default=3.0, gt=0)
    """Where the exponent of GeM starts; 1 is the plain mean."""
    ghost_group: int = Field(default=64, ge=2)
    """Images that are normalised together: 64 for Cluster-Contrast, 16 for SpCL."""
    bf16: bool = False
    """Run the trunk in bfloat16 (autocast)."""
    channels_last: bool = True
    """Memory layout of the trunk."""

    @model_validator(mode="after")
    def _onnx_needs_a_file(self) -> ModelSettings:
        if self.backbone == "onnx" and self.weights is None:
            raise ValueError("backbone onnx needs weights: the ONNX file")
        return self


_scalar = np.float32(0).__reduce__()[0]
NUMPY_NUMBERS: list[Any] = [  # what a checkpoint may hold besides tensors and plain values: torchreid's hold a score
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    (codecs.encode, "_codecs.encode"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int64")),
]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """All that is needed to build the same network again, without any other file."""

    settings: ModelSettings
    image_size: tuple[int, int]  # height, width in pixels
    onnx: bytes | None  # content of the ONNX file, for its graph


class GeM(nn.Module):
    """Generalised mean over the feature map: (mean of x^p)^(1/p), p trained. (B, C, h, w) → (B, C).

    Source: Radenović et al., "Fine-tuning CNN Image Retrieval with No Human Annotation" (TPAMI 2018).
    """

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(float(exponent)))

    def forward(self, maps: Tensor) -> Tensor:
        return maps.clamp(min=1e-6).pow(self.exponent).mean((2, 3)).pow(1 / self.exponent)


class AveragePool(nn.Module):
    """(B, C, h, w) → (B, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


class Embedder(nn.Module):
    """(B, 3, H, W) float32 normalised images → (B, D) float32 unit rows."""

    def __init__(self, trunk: nn.Module, pooling: nn.Module, dimension: int, blueprint: Blueprint) -> None:
        super().__init__()
        self.trunk = trunk
        self.pooling = pooling
        self.neck = nn.BatchNorm1d(dimension)
        self.neck.bias.requires_grad_(False)
        self.dimension = dimension
        self.blueprint = blueprint

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(self.maps(images))

    def maps(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, D, h, w) float32, the feature map; (B, D) of a trunk that pools by itself."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.blueprint.settings.bf16):
            maps = self.trunk(images)
        return maps.float()

    def embed(self, maps: Tensor) -> Tensor:
        """Feature maps → (B, D) float32 unit rows."""
        pooled = self.pooling(maps) if maps.dim() == 4 else maps
        return functional.normalize(self.neck(pooled), dim=1)


def blueprint_of(settings: ModelSettings, image_size: tuple[int, int]) -> Blueprint:
    """Read what the network is built from. Raises `DataError` when the ONNX file cannot be read."""
    content = None
    if settings.backbone == "onnx" and settings.weights is not None:
        content = _read(settings.weights).read_bytes()
    return Blueprint(settings, image_size, content)


def new_embedder(blueprint: Blueprint, calibration: Iterable[Tensor] = ()) -> Embedder:
    """The network with its starting weights. `calibration`: (B, 3, H, W) batches for an unfolded ONNX trunk."""
    network = bare_embedder(blueprint)
    settings = blueprint.settings
    if isinstance(network.trunk, onnx_trunk.OnnxTrunk):
        if settings.unfold_batch_norm:
            onnx_trunk.calibrate(network.trunk, calibration)
    elif settings.weights is not None:
        _load_start(network.trunk, settings.weights)
    elif settings.pretrained:
        network.trunk = _timm(settings, blueprint.image_size, pretrained=True)
    return _finish(network)


def blank_embedder(blueprint: Blueprint) -> Embedder:
    """The network without its weights, for those of a checkpoint."""
    return _finish(bare_embedder(blueprint))


def bare_embedder(blueprint: Blueprint) -> Embedder:
    """The layers, weights as they come."""
    settings = blueprint.settings
    if settings.backbone == "onnx":
        trunk: nn.Module = _onnx(blueprint)
    elif settings.backbone.startswith("osnet"):
        trunk = osnet.build(settings.backbone)
    elif settings.backbone == shufflenet.NAME:
        trunk = shufflenet.ShuffleNet(settings.last_stride)
    else:
        trunk = _timm(settings, blueprint.image_size, pretrained=False)
    with torch.no_grad():
        shape = trunk.eval()(torch.zeros(1, 3, *blueprint.image_size)).shape
    trunk.train()
    pooling = GeM(settings.gem_exponent) if settings.pooling == "gem" else AveragePool()
    return Embedder(trunk, pooling, shape[1], blueprint)


def _finish(network: Embedder) -> Embedder:
    use_ghost_norm(network, network.blueprint.settings.ghost_group)
    if network.blueprint.settings.channels_last:
        network.trunk.to(memory_format=torch.channels_last)
    return network


def _onnx(blueprint: Blueprint) -> nn.Module:
    settings = blueprint.settings
    if blueprint.onnx is None:
        raise DataError("the checkpoint holds no ONNX graph: it was not written by this program")
    trunk = onnx_trunk.read_trunk(blueprint.onnx, str(settings.weights), settings.onnx_output)
    if settings.unfold_batch_norm:
        onnx_trunk.unfold_batch_norm(trunk)
    return trunk


def _timm(settings: ModelSettings, image_size: tuple[int, int], pretrained: bool) -> nn.Module:
    import timm

    if not timm.is_model(settings.backbone):
        near = ", ".join(timm.list_models(f"*{settings.backbone[:6]}*")[:5]) or "see timm.list_models()"
        raise ConfigurationError([f"model.backbone {settings.backbone!r} is not a timm model; near: {near}"])
    size: dict[str, Any] = {"img_size": image_size} if settings.backbone.startswith(("vit", "deit", "swin")) else {}
    pooling = "token" if size else ""
    try:
        trunk = timm.create_model(settings.backbone, pretrained=pretrained, num_classes=0, global_pool=pooling, **size)
    except Exception as error:
        if not pretrained:
            raise
        raise DataError(
            f"ImageNet weights of {settings.backbone} cannot be fetched ({error}): give a state dict with model.weights"
        ) from None
    if settings.last_stride == 1:
        _keep_last_resolution(trunk)
    return trunk


def _keep_last_resolution(trunk: nn.Module) -> None:
    """Set every stride of the last stage to 1, without dilation, as the Re-ID literature does."""
    last, stages = getattr(trunk, "layer4", None), getattr(trunk, "stages", None)
    if last is None and isinstance(stages, nn.Sequential):
        last = stages[-1]
    for layer in last.modules() if last is not None else ():
        if isinstance(layer, nn.Conv2d | nn.AvgPool2d) and layer.stride in (2, (2, 2)):
            layer.stride = (1, 1) if isinstance(layer, nn.Conv2d) else 1
            if isinstance(layer, nn.AvgPool2d):
                layer.kernel_size, layer.padding = 1, 0


def _load_start(trunk: nn.Module, path: Path) -> None:
    """Load the weights that fit; refuse a file of which less than nine tenths of the trunk can be filled."""
    try:
        with torch.serialization.safe_globals(NUMPY_NUMBERS):
            content: Any = torch.load(_read(path), map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path} cannot be read as a state dict: {error}") from None
    for key in ("state_dict", "model"):
        content = content.get(key, content)
    given = {name.removeprefix("module."): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    wanted = trunk.state_dict()
    fitting = {name: tensor for name, tensor in given.items() if name in wanted and tensor.shape == wanted[name].shape}
    if len(fitting) < 0.9 * len(wanted):
        missing = [name for name in wanted if name not in fitting][:3]
        raise DataError(
            f"{path} fits {len(fitting)} of {len(wanted)} tensors of the backbone "
            f"(missing or of another shape: {missing}, …): it belongs to another network; set model.backbone to match"
        )
    trunk.load_state_dict(fitting, strict=False)


def _read(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"model.weights {path} is not a file")
    return path
