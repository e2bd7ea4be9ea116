"""Networks of timm, and torch.compile: a step of training, and the model file."""

import shutil

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("onnx", reason="the trainer needs onnx")

from tiny_networks import small_onnx  # noqa: E402

from edge_app.contract.preprocess import InputSpec  # noqa: E402
from trainer import checkpoint  # noqa: E402
from trainer.models.embedder import ModelSettings, blueprint_of, new_embedder  # noqa: E402


@pytest.mark.parametrize(
    "backbone", ["osnet_x0_25", "shufflenetv2_48_96_192", "resnet18", "repvgg_a0", "vit_tiny_patch16_224"]
)
def test_embedders_give_unit_rows(backbone):
    if not backbone.startswith(("osnet", "shuffle")):
        pytest.importorskip("timm", reason="the trainer needs timm")
    network = new_embedder(blueprint_of(ModelSettings(backbone=backbone), (64, 32))).eval()
    with torch.no_grad():
        rows = network(torch.randn(2, 3, 64, 32))
    assert rows.shape == (2, network.dimension)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))
    assert not network.neck.bias.requires_grad


def test_last_stride_doubles_the_map():
    pytest.importorskip("timm", reason="the trainer needs timm")
    maps = []
    for stride in (1, 2):
        network = new_embedder(blueprint_of(ModelSettings(backbone="resnet18", last_stride=stride), (64, 32))).eval()
        maps.append(network.trunk(torch.zeros(1, 3, 64, 32)).shape[2:])
    assert maps == [(4, 2), (2, 1)]


def steps(network, images, count=1):
    """Adam's steps on a loss that every parameter has a part in."""
    optimiser = torch.optim.Adam([weight for weight in network.parameters() if weight.requires_grad], lr=1e-3)
    target = torch.nn.functional.normalize(torch.arange(1.0, network.dimension + 1), dim=0)
    losses = []
    for _ in range(count):
        loss = (network(images) @ target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("backbone", ["resnet18", "repvgg_a0", "vit_tiny_patch16_224"])
def test_timm_networks_train_and_come_back_from_the_model_file(backbone, tmp_path):
    """Any picture size, also for the transformer, which is built for one; and the file holds all that is needed."""
    pytest.importorskip("timm", reason="the trainer needs timm")
    torch.manual_seed(0)
    network = new_embedder(blueprint_of(ModelSettings(backbone=backbone, ghost_group=4), (64, 32)))
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    images = torch.randn(8, 3, 64, 32)
    steps(network, images, 2)  # timm's residual branches begin at zero: their insides move with the second
    still = {name for name, tensor in network.named_parameters() if torch.equal(tensor, before[name])}
    assert still == (
        {"neck.bias", "pooling.exponent"} if backbone.startswith("vit") else {"neck.bias"}
    )  # it pools itself
    spec = InputSpec(width_px=32, height_px=64)
    checkpoint.save_model(tmp_path / "model.pt", checkpoint.Model(network, spec, {}, "none"))
    loaded = checkpoint.load_model(tmp_path / "model.pt")
    assert loaded.spec == spec
    assert torch.equal(loaded.network(images), network.eval()(images))


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_a_compiled_trunk_takes_the_same_step(tmp_path):
    settings = ModelSettings(backbone="onnx", weights=small_onnx(tmp_path / "small.onnx"), ghost_group=4)
    images = torch.randn(8, 3, 16, 8, generator=torch.Generator().manual_seed(0))
    eager, compiled = (new_embedder(blueprint_of(settings, (16, 8)), [images]) for _ in range(2))
    compiled.trunk.compile()
    losses = [steps(network, images, 3) for network in (eager, compiled)]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-4, rtol=0)
    first, second = eager.state_dict(), compiled.state_dict()
    assert first.keys() == second.keys()  # a model file does not know whether it was compiled
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], atol=1e-4, rtol=1e-4)
