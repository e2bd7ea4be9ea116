"""Networks as the trainer exports them, to quantize and to build engines of: float ONNX that takes grey levels.

Weights of timm's networks are random: the sizes of engines do not depend on them. The trunk's batch norms have seen
pictures, and beside every shortcut the branches are weak, as at the start of training. The neck is fresh: one that has
learned the small differences between random features would magnify every rounding with them. What is compared is thus
the noise of INT8 in the features, not what it does to a trained embedding; real weights and crops are in `int8.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edge_app.contract.model import read_manifest
from edge_app.contract.preprocess import InputSpec, preprocess
from edge_app.simulation.render import Renderer
from edge_app.simulation.world import World
from trainer.checkpoint import Model
from trainer.data.transforms import normalise
from trainer.export.onnx import to_onnx
from trainer.models.embedder import Embedder, ModelSettings, blueprint_of, new_embedder
from trainer.onnx_graph.session import IMAGES, grey_spec

DEMO = Path(__file__).resolve().parents[2] / "configs" / "models" / "demo_embedder.onnx"
PERSONS = InputSpec(width_px=64, height_px=128, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PLAIN = ("resnet18", "resnet50", "repvgg_a0")
WEAK = 0.3


@dataclass(frozen=True, slots=True)
class Network:
    """A float network and pictures of what it is made for."""

    plain: Any  # onnx.ModelProto
    pixels: np.ndarray  # (N, H, W, 3) uint8 in the network's channel order


def network(name: str, count: int = 24) -> Network:
    """One of `PLAIN`, or `demo`, with `count` pictures."""
    if name == "demo":
        manifest = read_manifest(DEMO)
        assert manifest is not None
        return Network(demo(manifest.input), drawn(manifest.input, count))
    pixels = coarse(PERSONS, count)
    torch.manual_seed(67280421310721)  # what a new process has: the weights do not hang on what ran before
    made = new_embedder(blueprint_of(ModelSettings(backbone=name), (PERSONS.height_px, PERSONS.width_px)))
    settle(made, coarse(PERSONS, 24, seed=1), PERSONS)
    return Network(to_onnx(Model(made.eval(), PERSONS, {}, "")), pixels)


def settle(made: Embedder, pixels: np.ndarray, spec: InputSpec) -> None:
    """Weaken what runs beside a shortcut, then let the trunk's batch norms see (N, H, W, 3) pictures."""
    for layer in made.trunk.modules():
        for norm in beside_shortcut(layer):
            norm.weight.data.fill_(WEAK)
        if hasattr(layer, "running_mean"):
            layer.momentum = 1.0
    with torch.no_grad():
        made.train().trunk(normalise(torch.from_numpy(pixels), spec))


def beside_shortcut(block: nn.Module) -> list[nn.Module]:
    """The last norms of a block's branches; those of a ResNet start at zero in timm, which would be no branches."""
    if getattr(block, "identity", None) is not None:  # RepVGG
        return [block.conv_kxk.bn, block.conv_1x1.bn]
    return [norm for norm in (getattr(block, "bn3", None) or getattr(block, "bn2", None),) if norm is not None]


def coarse(spec: InputSpec, count: int, seed: int = 0) -> np.ndarray:
    """(count, H, W, 3) uint8: squares of eight pixels in random colours."""
    size = (count, spec.height_px // 8, spec.width_px // 8, 3)
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).repeat(8, axis=1).repeat(8, axis=2)


def drawn(spec: InputSpec, count: int, seed: int = 2000) -> np.ndarray:
    """(count, H, W, 3) uint8: vehicles of the simulated site, cut out by their true boxes, as the network sees them."""
    world = World("town", seed=seed, difficulty=0.5, seconds=120.0)
    camera = world.cameras[0].id
    renderer, crops = Renderer(world, camera), []
    for passage in world.camera_passages(camera):
        for share in (0.3, 0.45, 0.6, 0.75):
            moment = passage.entry_time_s + share * (passage.exit_time_s - passage.entry_time_s)
            seen = world.visible(camera, moment)
            image = renderer.frame(moment)
            for box, hidden in zip(seen.boxes, seen.occluded, strict=True):
                left, top, right, bottom = np.clip(box, 0, None).astype(int)
                crop = image[top:bottom, left:right]
                if hidden < 0.4 and min(crop.shape[:2]) >= 16:
                    crops.append(preprocess(crop, grey_spec(spec)).transpose(1, 2, 0).astype(np.uint8))
            if len(crops) >= count:
                return np.stack(crops[:count])
    raise AssertionError(f"the site showed {len(crops)} vehicles, expected {count}")


def demo(spec: InputSpec) -> Any:
    """The demo's embedder with its normalisation inside, as `to_onnx` writes networks of the trainer."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(DEMO))
    image = model.graph.input[0]
    mean, std = (np.array(values, np.float64).reshape(1, 3, 1, 1) for values in (spec.mean, spec.std))
    constants = {"scale": spec.scale / std, "shift": mean / std}
    nodes = [
        helper.make_node("Cast", [IMAGES], ["grey"], name="Cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["grey", "scale"], ["scaled"], name="Mul"),
        helper.make_node("Sub", ["scaled", "shift"], [image.name], name="Sub"),
        *model.graph.node,
    ]
    fresh = [type(node).FromString(node.SerializeToString()) for node in nodes]
    model.graph.ClearField("node")
    model.graph.node.extend(fresh)
    for name, values in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    image.name, image.type.tensor_type.elem_type = IMAGES, TensorProto.UINT8
    return model
