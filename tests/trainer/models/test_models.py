"""Networks: ghost batch norm, a trunk read from ONNX, the whole embedder."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
onnx = pytest.importorskip("onnx", reason="the trainer needs onnx")

from tiny_networks import small_onnx  # noqa: E402
from torch import nn  # noqa: E402

from trainer.errors import DataError  # noqa: E402
from trainer.models.average import Average  # noqa: E402
from trainer.models.embedder import GeM, ModelSettings, blank_embedder, blueprint_of, new_embedder  # noqa: E402
from trainer.models.ghost_norm import GhostBatchNorm, use_ghost_norm  # noqa: E402
from trainer.onnx_graph.trunk import calibrate, read_trunk, unfold_batch_norm  # noqa: E402


def test_ghost_norm_is_batch_norm_of_each_group_and_follows_the_first():
    torch.manual_seed(0)
    rows = torch.randn(12, 5, 3, 2) * 3 + 1
    ghost = GhostBatchNorm(5, group=4)
    groups = [nn.BatchNorm2d(5) for _ in range(3)]
    expected = torch.cat([norm(part) for norm, part in zip(groups, rows.split(4), strict=True)])
    torch.testing.assert_close(ghost(rows), expected)
    torch.testing.assert_close(ghost.running_mean, groups[0].running_mean)
    torch.testing.assert_close(ghost.running_var, groups[0].running_var)
    ghost.eval()
    torch.testing.assert_close(ghost(rows), groups[0].eval()(rows))


def test_ghost_norm_shares_out_a_group_that_is_not_full():
    ghost = GhostBatchNorm(2, group=4)
    assert ghost(torch.randn(9, 2)).shape == (9, 2)  # groups of 5 and 4
    assert ghost(torch.randn(3, 2)).shape == (3, 2)


def test_use_ghost_norm_keeps_weights_and_frozen_biases():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))
    network[1].bias.requires_grad_(False)
    network[2][0].weight.data.fill_(2.0)
    use_ghost_norm(network, 8)
    assert isinstance(network[1], GhostBatchNorm)
    assert not network[1].bias.requires_grad
    assert network[2][0].weight.tolist() == [2.0] * 4


def test_use_ghost_norm_keeps_the_activation_of_timm_layers():
    timm = pytest.importorskip("timm", reason="the trainer needs timm")
    plain = timm.layers.BatchNormAct2d(4)
    ghost = use_ghost_norm(nn.Sequential(plain), 8)[0].eval()
    values = torch.randn(3, 4, 2, 2)
    torch.testing.assert_close(ghost(values), plain.eval()(values))


def test_trunk_computes_what_onnx_runtime_computes(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    path = small_onnx(tmp_path / "small.onnx")
    images = torch.randn(5, 3, 16, 8)
    trunk = read_trunk(path.read_bytes(), "small", "").eval()
    expected = runtime.InferenceSession(str(path)).run(None, {"image": images.numpy()})[0]
    np.testing.assert_allclose(trunk(images).detach().numpy(), expected, atol=1e-5)
    assert trunk.image_size == (16, 8)
    assert read_trunk(path.read_bytes(), "small")(images).shape == (5, 6, 8, 4)


def test_a_weight_under_a_second_name_is_the_same_weight(tmp_path):
    """Exporters say `Identity` of a weight that two layers share: known as a constant, trained as one."""
    from onnx import helper, numpy_helper

    runtime = pytest.importorskip("onnxruntime")
    weight = np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Identity", ["w"], ["w2"]),
        helper.make_node("Identity", ["w2"], ["w3"]),
        helper.make_node("Conv", ["image", "w"], ["once"]),
        helper.make_node("Conv", ["once", "w3"], ["twice"]),
    ]
    image, twice = (helper.make_tensor_value_info(name, 1, ["n", 3, 4, 4]) for name in ("image", "twice"))
    graph = helper.make_graph(nodes, "g", [image], [twice], [numpy_helper.from_array(weight, "w")])
    opsets = [helper.make_opsetid("", 17)]
    content = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    trunk, images = read_trunk(content, "shared", ""), torch.randn(2, 3, 4, 4)
    expected = runtime.InferenceSession(content).run(None, {"image": images.numpy()})[0]
    np.testing.assert_allclose(trunk(images).detach().numpy(), expected, atol=1e-5)
    assert len(list(trunk.parameters())) == 1


def test_unfolding_and_calibrating_change_no_value_and_give_batch_norm_back(tmp_path):
    content = small_onnx(tmp_path / "small.onnx").read_bytes()
    images = torch.randn(32, 3, 16, 8) * 2 + 1
    trunk = read_trunk(content, "small").eval()
    expected = trunk(images)
    unfold_batch_norm(trunk)
    norms = [layer for layer in trunk.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 2  # not the gate's
    torch.testing.assert_close(trunk(images), expected, atol=1e-5, rtol=1e-5)
    calibrate(trunk, images.split(8))
    torch.testing.assert_close(trunk(images), expected, atol=1e-5, rtol=1e-5)
    trunk.train()  # the batch is the data: its statistics are the calibrated ones
    torch.testing.assert_close(trunk(images), expected, atol=1e-3, rtol=1e-3)


def test_unusable_onnx_files_are_named(tmp_path):
    from onnx import helper

    with pytest.raises(DataError, match=r"x\.onnx cannot be read as an ONNX model"):
        read_trunk(b"nonsense", "x.onnx")
    content = small_onnx(tmp_path / "small.onnx").read_bytes()
    with pytest.raises(DataError, match="no value 'nowhere'"):
        read_trunk(content, "small", "nowhere")
    model = onnx.load_model_from_string(content)
    model.graph.node[1].CopyFrom(helper.make_node("Softplus", ["c1"], ["r1"], name="odd"))
    with pytest.raises(DataError, match="operator Softplus of 'odd' is not supported"):
        read_trunk(model.SerializeToString(), "small")


def test_an_onnx_embedder_is_rebuilt_from_its_blueprint_without_the_file(tmp_path):
    path = small_onnx(tmp_path / "small.onnx")
    blueprint = blueprint_of(ModelSettings(backbone="onnx", weights=path, ghost_group=4), (16, 8))
    images = torch.randn(8, 3, 16, 8)
    network = new_embedder(blueprint, [images])
    network(images).sum().backward()
    path.unlink()
    again = blank_embedder(blueprint)
    again.load_state_dict(network.state_dict())
    again.eval()
    assert torch.equal(again(images), network.eval()(images))


def test_bf16_stays_inside_the_trunk(tmp_path):
    path = small_onnx(tmp_path / "small.onnx")
    blueprint = blueprint_of(ModelSettings(backbone="onnx", weights=path, bf16=True), (16, 8))
    network = new_embedder(blueprint)
    assert network(torch.randn(4, 3, 16, 8)).dtype == torch.float32
    assert network.maps(torch.randn(4, 3, 16, 8)).dtype == torch.float32


def test_gem_with_exponent_one_is_the_mean():
    maps = torch.rand(2, 3, 4, 4) + 0.1
    torch.testing.assert_close(GeM(1.0)(maps), maps.mean((2, 3)))
    assert (GeM(50.0)(maps) > 0.9 * maps.amax((2, 3))).all()


def test_average_follows_slowly():
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    average = Average(network, momentum=0.9)
    network.weight.data.fill_(1.0)
    average.update(network, steps=10_000)
    torch.testing.assert_close(average.network.weight.data, torch.tensor([[0.1]]))
    average.update(network, steps=0)  # a young average learns fast
    torch.testing.assert_close(average.network.weight.data, torch.tensor([[0.91]]))
