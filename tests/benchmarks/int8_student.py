"""A plain convolutional network that means something: SqueezeNet from ImageNet, taught by an adapted network.

Adaptation without labels needs a start that already tells persons apart; ImageNet's does not (3.7 mAP became 11.9). So
the plain network learns the teacher's embeddings of the training crops instead, which needs no labels either:

    L = mean_i (1 − cos(W s_i, t_i)) + 10 · mean_ij (s_i·s_j − t_i·t_j)²

Symbols: s_i, t_i unit rows of crop i by student and teacher, W a linear layer that is thrown away afterwards. The
second term is relational knowledge distillation (Park et al., CVPR 2019) on similarities: matching compares these.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edge_app.contract.preprocess import InputSpec
from trainer import checkpoint
from trainer.data import layouts
from trainer.data.cache import cached
from trainer.data.records import Crops
from trainer.data.transforms import Augment, AugmentSettings, normalise
from trainer.extract import ExtractSettings
from trainer.measure import with_network
from trainer.models.embedder import Embedder, ModelSettings, blueprint_of, new_embedder
from trainer.parallel import ALONE

# SqueezeNet 1.1 as Caffe trained it: blue first, grey levels less their means
SPEC = InputSpec(
    width_px=64, height_px=128, channel_order="BGR", scale=1.0, mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0)
)
FIRES = ((64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128), (256, 48, 192), (384, 48, 192), (384, 64, 256),
         (512, 64, 256))  # fmt: skip
POOL_BEFORE = (0, 2)  # fires; the pooling before the fifth is left out, which keeps a map of 15 × 7
HALF = 0x01306B47  # what ncnn writes before weights in float16
BATCH = 64


def distil(teacher: Path, data: Path, weights: Path, target: Path, steps: int, cache: Path) -> float:
    """Train the student on the training crops of `data` and write it to `target`, a model.pt; returns the seconds."""
    begin = time.perf_counter()
    loaded, crops = checkpoint.load_model(teacher), layouts.read(data).train
    rows, kept = _taught(loaded, crops, target.with_suffix(".rows.npz"), cache)
    pixels = cached(crops.take(kept), SPEC, cache).pixels
    source = target.with_suffix(".onnx")
    source.write_bytes(squeezenet(weights))
    settings = ModelSettings(backbone="onnx", weights=source, pooling="average")
    torch.manual_seed(0)
    start = [
        normalise(torch.from_numpy(np.array(pixels[first : first + BATCH])), SPEC) for first in range(0, 512, BATCH)
    ]
    student = new_embedder(blueprint_of(settings, (SPEC.height_px, SPEC.width_px)), start)
    _learn(student, pixels, torch.from_numpy(rows), steps)
    facts = {"teacher": teacher.name, "steps": steps, "batch": BATCH}
    checkpoint.save_model(target, checkpoint.Model(student.eval(), SPEC, facts, loaded.commit))
    return time.perf_counter() - begin


def _taught(teacher: checkpoint.Model, crops: Crops, file: Path, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """The teacher's rows of the readable crops, and which these are; from the file where a run was stopped."""
    if not file.exists():
        embed = with_network(teacher.network, teacher.spec, ExtractSettings(flip=True), cache, ALONE)
        rows, kept = embed(crops)
        np.savez(file, rows=rows, kept=kept)
    found = np.load(file)
    return found["rows"], found["kept"]


def _learn(student: Embedder, pixels: np.ndarray, rows: torch.Tensor, steps: int, rate: float = 2e-3) -> None:
    generator, augment = torch.Generator().manual_seed(0), Augment(AugmentSettings(pad_px=5, erase=0.3))
    head = nn.Linear(student.dimension, rows.shape[1])
    optimiser = torch.optim.AdamW([*student.parameters(), *head.parameters()], lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.15)
    student.train()
    for step in range(steps):
        chosen = torch.randint(0, len(rows), (BATCH,), generator=generator)
        draws = augment.draw(BATCH, (SPEC.height_px, SPEC.width_px), generator)
        taught = rows[chosen]
        own = student(augment.apply(torch.from_numpy(pixels[chosen.numpy()]), draws, SPEC))
        apart = (1 - functional.cosine_similarity(head(own), taught)).mean()
        loss = apart + 10 * (own @ own.T - taught @ taught.T).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(f"  step {step}: loss {loss.item():.3f}", flush=True)


def squeezenet(weights: Path) -> bytes:
    """SqueezeNet 1.1 up to its last feature map, as an ONNX file, from ncnn's `.bin`: for every convolution a mark,
    float16 weights, filled up to four bytes, and float32 biases."""
    from onnx import TensorProto, helper, numpy_helper

    content, place = weights.read_bytes(), 0
    nodes, constants = [], []

    def convolution(name: str, source: str, shape: tuple[int, int, int], stride: int = 1) -> str:
        nonlocal place
        outputs, inputs, side = shape
        count = outputs * inputs * side * side
        assert int.from_bytes(content[place : place + 4], "little") == HALF, f"{weights}: no float16 weights of {name}"
        kernel = np.frombuffer(content, np.float16, count, place + 4).astype(np.float32)
        place += 4 + (2 * count + 3) // 4 * 4
        bias = np.frombuffer(content, np.float32, outputs, place)
        place += 4 * outputs
        kernel = kernel.reshape(outputs, inputs, side, side)
        constants.extend(
            numpy_helper.from_array(value, f"{name}.{kind}") for kind, value in (("w", kernel), ("b", bias))
        )
        pads = [side // 2 if stride == 1 else 0] * 4
        names = [source, f"{name}.w", f"{name}.b"]
        nodes.append(helper.make_node("Conv", names, [f"{name}.c"], name=name, pads=pads, strides=[stride] * 2,
                                      kernel_shape=[side, side]))  # fmt: skip
        nodes.append(helper.make_node("Relu", [f"{name}.c"], [name], name=f"{name}.relu"))
        return name

    values = convolution("conv1", "image", (64, 3, 3), stride=2)
    for number, (inputs, squeezed, expanded) in enumerate(FIRES):
        if number in POOL_BEFORE:
            pooled = f"pool{number}"
            nodes.append(helper.make_node("MaxPool", [values], [pooled], kernel_shape=[3, 3], strides=[2, 2]))
            values = pooled
        fire = f"fire{number + 2}"
        narrow = convolution(f"{fire}.squeeze", values, (squeezed, inputs, 1))
        wide = [convolution(f"{fire}.expand{side}", narrow, (expanded, squeezed, side)) for side in (1, 3)]
        nodes.append(helper.make_node("Concat", wide, [fire], name=fire, axis=1))
        values = fire
    nodes.append(helper.make_node("GlobalAveragePool", [values], ["pooled"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SPEC.height_px, SPEC.width_px])
    output = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", 2 * FIRES[-1][2], 1, 1])
    graph = helper.make_graph(nodes, "squeezenet", [image], [output], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(made.SerializeToString())
