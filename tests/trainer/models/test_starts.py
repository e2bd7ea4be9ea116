"""Weights that a run can start from: torchreid's, an ONNX file's, ImageNet's."""

import itertools
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("onnx", reason="the trainer needs onnx")

from torch import nn  # noqa: E402

from trainer.errors import ConfigurationError, DataError  # noqa: E402
from trainer.models import osnet  # noqa: E402
from trainer.models.embedder import ModelSettings, blueprint_of, new_embedder  # noqa: E402
from trainer.onnx_graph.trunk import read_trunk  # noqa: E402


def norm(name, channels):
    shapes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
    return {**{f"{name}.{part}": shape for part, shape in shapes.items()}, f"{name}.num_batches_tracked": ()}


def light(name, channels):
    convolutions = {f"{name}.conv1.weight": (channels, channels, 1, 1), f"{name}.conv2.weight": (channels, 1, 3, 3)}
    return {**convolutions, **norm(f"{name}.bn", channels)}


def layer(name, inputs, outputs, kernel=1):
    return {f"{name}.conv.weight": (outputs, inputs, kernel, kernel), **norm(f"{name}.bn", outputs)}


def block(name, inputs, outputs):
    middle = outputs // 4
    shapes = {**layer(f"{name}.conv1", inputs, middle), **light(f"{name}.conv2a", middle)}
    for chain, length in (("conv2b", 2), ("conv2c", 3), ("conv2d", 4)):
        for number in range(length):
            shapes.update(light(f"{name}.{chain}.{number}", middle))
    for number, (into, out) in enumerate(((middle, middle // 16), (middle // 16, middle)), start=1):
        shapes.update({f"{name}.gate.fc{number}.weight": (out, into, 1, 1), f"{name}.gate.fc{number}.bias": (out,)})
    shapes.update(layer(f"{name}.conv3", middle, outputs))
    return {**shapes, **(layer(f"{name}.downsample", inputs, outputs) if inputs != outputs else {})}


def torchreid_names(channels, classes=4101):
    """Every tensor of torchreid's OSNet by its name there, with the layers behind the feature map."""
    shapes = layer("conv1", 3, channels[0], 7)
    for stage, (inputs, outputs) in enumerate(itertools.pairwise(channels), start=2):
        shapes.update({**block(f"conv{stage}.0", inputs, outputs), **block(f"conv{stage}.1", outputs, outputs)})
        if stage < 4:
            shapes.update(layer(f"conv{stage}.2.0", outputs, outputs))
    shapes.update(layer("conv5", channels[-1], channels[-1]))
    shapes.update({"fc.0.weight": (512, channels[-1]), "fc.0.bias": (512,), **norm("fc.1", 512)})
    return {**shapes, "classifier.weight": (classes, 512), "classifier.bias": (classes,)}


def torchreid_state(name):
    generator = torch.Generator().manual_seed(0)
    shapes = torchreid_names(osnet.CHANNELS[name])
    return {
        key: torch.tensor(7) if key.endswith("tracked") else torch.rand(shape, generator=generator) + 0.5
        for key, shape in shapes.items()
    }


@pytest.mark.parametrize("name", list(osnet.CHANNELS))
def test_osnet_has_the_names_and_shapes_of_torchreid(name):
    ours = {key: tuple(tensor.shape) for key, tensor in osnet.build(name).state_dict().items()}
    theirs = torchreid_names(osnet.CHANNELS[name])
    assert ours == {key: shape for key, shape in theirs.items() if not key.startswith(("fc.", "classifier."))}


@pytest.mark.parametrize("wrap", ["plain", "checkpoint of several GPUs"])
def test_a_torchreid_checkpoint_loads(tmp_path, wrap):
    """Its zoo has plain state dicts; its training writes `module.` before every name when it ran on several GPUs, and
    epoch, score (a numpy number) and optimiser beside them. The class layers are left out."""
    state = torchreid_state("osnet_x0_25")
    optimiser = torch.optim.Adam([nn.Parameter(torch.zeros(2))]).state_dict()
    content = state
    if wrap != "plain":
        content = {
            "state_dict": {f"module.{key}": tensor for key, tensor in state.items()},
            **{"epoch": 250, "rank1": np.float32(0.7), "optimizer": optimiser},
        }
    torch.save(content, tmp_path / "osnet.pth.tar-250")
    settings = ModelSettings(backbone="osnet_x0_25", weights=tmp_path / "osnet.pth.tar-250")
    loaded = new_embedder(blueprint_of(settings, (64, 32))).trunk.state_dict()
    assert len(loaded) == len(state) - 9  # fc: 7, classifier: 2
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.items())


def test_a_file_that_could_run_code_is_refused(tmp_path):
    torch.save({"state_dict": torchreid_state("osnet_x0_25"), "hook": print}, tmp_path / "hook.pth")
    settings = ModelSettings(backbone="osnet_x0_25", weights=tmp_path / "hook.pth")
    with pytest.raises(DataError, match="cannot be read as a state dict"):
        new_embedder(blueprint_of(settings, (64, 32)))


def test_the_real_file_read_as_a_trunk_computes_what_onnx_runtime_computes(shared_data):
    runtime = pytest.importorskip("onnxruntime")
    file = shared_data / "weights" / "osnet_x0_25_msmt17.onnx"
    session = runtime.InferenceSession(str(file))
    (image,) = session.get_inputs()
    height, width = image.shape[2:]
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    batch = image.shape[0] if isinstance(image.shape[0], int) else 2
    expected = np.concatenate([session.run(None, {image.name: part.numpy()})[0] for part in images.split(batch)])
    with torch.no_grad():
        found = read_trunk(file.read_bytes(), file.name, "").eval()(images)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_the_real_network_read_from_onnx_is_osnet(shared_data):
    """The same weights in our OSNet and in the graph give the same map: both follow torchreid's architecture."""
    file = shared_data / "weights" / "osnet_x0_25_msmt17.onnx"
    trunk = read_trunk(file.read_bytes(), file.name).eval()
    network = osnet.build("osnet_x0_25").eval()
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            folded = _layer_of(trunk, name)
            module.weight.data.copy_(folded.weight.data)
            norm = _norm_behind(network, name)
            if module.bias is not None:
                module.bias.data.copy_(folded.bias.data)
            elif norm is not None:
                norm.running_var.fill_(1 - norm.eps)
                norm.bias.data.copy_(folded.bias.data)
    images = torch.randn(2, 3, 64, 32)
    torch.testing.assert_close(network(images), trunk(images), atol=1e-4, rtol=1e-4)


def _layer_of(trunk, name):
    """The graph calls `conv2.0.conv2b.1.conv1` `/conv2/conv2.0/conv2b/conv2b.1/conv1/Conv`."""
    path, parts = [], name.split(".")
    for number, part in enumerate(parts):
        path.append(f"{parts[number - 1]}.{part}" if part.isdigit() and not parts[number - 1].isdigit() else part)
        if part.isdigit() and number and parts[number - 1].isdigit():
            path[-1] = f"{path[-2]}.{part}"
    stem = "_".join(path).replace(".", "_")  # a shared gate carries the name of one of its four uses
    (found,) = [layer for key, layer in trunk.layers.items() if re.fullmatch(rf"{stem}(_\d)?_Conv", key)]
    return found


def _norm_behind(network, name):
    parent, leaf = name.rsplit(".", 1)
    modules = dict(network.named_modules())
    if leaf in ("conv", "conv2") and f"{parent}.bn" in modules:
        return modules[f"{parent}.bn"]
    return None


def test_the_published_shufflenet_weights_load(shared_data):
    weights = shared_data / "weights" / "shufflenetv2_imagenet.pth"
    settings = ModelSettings(backbone="shufflenetv2_48_96_192", weights=weights, pooling="average")
    network = new_embedder(blueprint_of(settings, (64, 32))).eval()
    assert network(torch.randn(2, 3, 64, 32)).shape == (2, 192)


def test_unusable_starts_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match="not an OSNet"):
        new_embedder(blueprint_of(ModelSettings(backbone="osnet_x3"), (64, 32)))
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pth")
    settings = ModelSettings(backbone="osnet_x0_25", weights=tmp_path / "other.pth")
    with pytest.raises(DataError, match="fits 0 of"):
        new_embedder(blueprint_of(settings, (64, 32)))
    with pytest.raises(DataError, match="is not a file"):
        blueprint_of(ModelSettings(backbone="onnx", weights=tmp_path / "none.onnx"), (64, 32))
