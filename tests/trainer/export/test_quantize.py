"""INT8: the Q/DQ nodes, what is left out of them, the search, and the bundle that comes out."""

import time
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
onnx = pytest.importorskip("onnx", reason="the trainer needs onnx")
pytest.importorskip("cryptography", reason="bundles are signed")

from test_export import SPEC, made, pixels  # noqa: E402
from tiny_crops import write_market  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from edge_app.contract.bundle import read_bundle  # noqa: E402
from edge_app.contract.bundle_manifest import Judgement  # noqa: E402
from edge_app.contract.signature import read_public_key  # noqa: E402
from trainer.checkpoint import save_model  # noqa: E402
from trainer.cli import app  # noqa: E402
from trainer.errors import ConfigurationError, DataError  # noqa: E402
from trainer.export import bundle, run  # noqa: E402
from trainer.export.sensitivity import costs, most_trials, search  # noqa: E402
from trainer.export.verify import Limits  # noqa: E402
from trainer.onnx_graph.nodes import DEQUANTIZE, QUANTIZE, outside, quantized_layers, unquantized  # noqa: E402
from trainer.onnx_graph.session import rows_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("modelopt")
ANYTHING = Limits(cosine_min=-1, cosine_median=-1, map_loss=100, r1_loss=100, crops=1)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A checkpoint and its data."""
    folder = tmp_path_factory.mktemp("site")
    save_model(folder / "model.pt", made(backbone="shufflenetv2_48_96_192"))
    write_market(folder / "crops")
    return folder


def request(site, **changes) -> run.Request:
    return run.Request(site / "model.pt", site / "crops", None, site / "cache", **{"budget": 0.0, **changes})


def test_layers_are_int8_and_the_two_ends_are_not(plain, quantized):
    onnx.checker.check_model(quantized)
    layers = quantized_layers(quantized)
    kinds = {node.name: node.op_type for node in quantized.graph.node}
    assert sum(kinds[layer] == "Conv" for layer in layers) == sum(node.op_type == "Conv" for node in plain.graph.node)
    assert not outside(quantized) & set(layers)
    weights = {item.name: item for item in quantized.graph.initializer}
    zeros = [weights[node.input[2]] for node in quantized.graph.node if node.op_type == QUANTIZE]
    assert {item.data_type for item in zeros} == {onnx.TensorProto.INT8}
    assert not any(onnx.numpy_helper.to_array(item).any() for item in zeros)  # symmetric
    crops = pixels(4, seed=1)
    assert (rows_of(plain, crops) * rows_of(quantized, crops)).sum(1).min() > 0.7  # few channels, random weights


def test_biases_stay_float(quantized):
    computed = {name for node in quantized.graph.node for name in node.output}
    biases = [node.input[2] for node in quantized.graph.node if node.op_type == "Conv" and len(node.input) > 2]
    assert biases
    assert not computed & set(biases)


def test_without_its_pairs_the_network_is_the_float_one(plain, quantized):
    bare = unquantized(quantized, set(quantized_layers(quantized)))
    assert not [node for node in bare.graph.node if node.op_type in (QUANTIZE, DEQUANTIZE)]
    crops = pixels(4, seed=1)
    np.testing.assert_allclose(rows_of(bare, crops), rows_of(plain, crops), atol=1e-5)
    assert quantized_layers(quantized)  # the given model is as it was


def test_one_layer_is_left_out_and_the_others_stay(quantized):
    layers = quantized_layers(quantized)
    assert quantized_layers(unquantized(quantized, {layers[3]})) == layers[:3] + layers[4:]


def test_costs_find_the_layer_that_suffers(plain, quantized):
    hurt = type(quantized)()
    hurt.CopyFrom(quantized)
    victim = next(node for node in hurt.graph.node if node.op_type == "Conv" and node.name.endswith("0/Conv"))
    pair = {node.output[0]: node for node in hurt.graph.node if node.op_type in (QUANTIZE, DEQUANTIZE)}
    scale = pair[victim.input[1]].input[1]
    for item in hurt.graph.initializer:
        if item.name == scale:
            item.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(item) * 60, scale))
    crops = pixels(4, seed=1)
    keep = set(quantized_layers(hurt)[:6]) | {victim.name}
    few = unquantized(hurt, set(quantized_layers(hurt)) - keep)
    rows = rows_of(plain, crops)
    cost = costs(few, lambda model: float(1 - (rows_of(model, crops) * rows).sum(1).mean()))
    assert set(cost) == keep
    assert max(cost, key=cost.__getitem__) == victim.name
    trial = search(few, cost, lambda model: victim.name not in quantized_layers(model), budget=1.0)
    assert trial is not None
    assert trial.float_layers == (victim.name,)


@pytest.mark.parametrize(("needed", "found"), [(1, 1), (3, 3), (7, 7), (24, 24), (25, None)])
def test_the_search_stays_within_its_budget(quantized, needed, found):
    passes = []

    def good(count: int) -> bool:
        passes.append(count)
        return count >= needed

    assert searched(quantized, 0.6, good) == found
    assert max(passes) <= 24
    assert len(passes) <= most_trials(40, 0.6) == 9


@pytest.mark.parametrize(("passing", "found"), [({1}, 1), ({5, 7}, 5), ({12}, 12), (set(), None)])
def test_of_few_lengths_all_are_tried(quantized, passing, found):
    """The lowest of many cosines does not grow with each layer that is left out."""
    assert searched(quantized, 0.3, passing.__contains__) == found


def searched(quantized, budget: float, good) -> int | None:
    """How many of forty layers a search leaves out, the network being good when `good` says so of their number."""
    layers = quantized_layers(quantized)
    cost = {layer: 1.0 / (1 + number) for number, layer in enumerate(layers[:40])}
    trial = search(quantized, cost, lambda model: good(len(layers) - len(quantized_layers(model))), budget)
    return trial and len(trial.float_layers)


def test_a_bundle_in_int8(site):
    exported = run.export(request(site, precision="int8", limits=ANYTHING), lambda line: None)
    signer = bundle.signing_key(site / "key.pem")
    bundle.write(exported, site / "site 7.bundle", "site 7", signer, time.time())
    read = read_bundle(site / "site 7.bundle", [read_public_key(site / "key.pub.pem")])
    found = read.manifest
    assert (found.name, found.embedder.precision, found.config) == ("site-7", "int8", {"seed": 0})
    assert found.embedder.calibration.images == 54
    gates = ["int8_cosine_min", "int8_cosine_median", "int8_map_loss", "int8_r1_loss"]
    assert [gate.name for gate in found.embedder.gates] == gates
    assert found.embedder.judgement == Judgement(
        pictures=54,
        by="54 held-out crops and 18 queries with labels, which is few: fewer than 50 prove little",
        enough=True,
    )
    assert found.threshold_false_match_rate == 1e-3
    model = onnx.load_model_from_string(read.content("embedder.onnx"))
    golden = read.golden()
    shown = np.ascontiguousarray(golden.crops[:, :, :, ::-1])
    np.testing.assert_allclose(rows_of(model, shown), golden.rows, atol=1e-5)
    assert found.embedder.model.input.scale == 1
    assert SPEC.scale != 1


def test_what_misses_the_gate_is_not_shipped(site):
    strict = Limits(cosine_min=0.9999999)
    with pytest.raises(DataError, match="int8 misses int8_cosine_min"):
        run.export(request(site, precision="int8", limits=strict), lambda line: None)
    exported = run.export(request(site, limits=Limits(0.9999, -1, 100)), lambda line: None)
    assert exported.chosen.precision != "int8"
    assert exported.reason.startswith("int8 misses int8_cosine_min")
    assert exported.calibration is None
    with pytest.raises(ConfigurationError, match="int4"):
        run.export(request(site, precision="int4"), lambda line: None)


def test_layers_are_left_out_until_the_gate_passes(site):
    whole = run.export(request(site, precision="int8", limits=ANYTHING), lambda line: None)
    better = (1 + float(whole.chosen.comparison.cosines.min())) / 2  # half the loss
    limits = Limits(better, -1, 100, r1_loss=100)
    exported = run.export(request(site, precision="int8", limits=limits, budget=1.0), lambda line: None)
    chosen = exported.chosen
    assert chosen.comparison.cosines.min() >= better
    assert 0 < len(chosen.float_layers) <= len(chosen.sensitivity)
    assert not set(chosen.float_layers) & set(quantized_layers(chosen.model))
    assert "layers left out (with every layer it misses int8_cosine_min" in exported.reason


def test_what_too_few_crops_judged_is_not_called_judged(site):
    """`auto` ships FP32, which needs no judge; INT8 ships where it is asked for, and says what it is."""
    few = replace(ANYTHING, crops=55)
    said: list[str] = []
    exported = run.export(request(site, limits=few), said.append)
    assert exported.chosen.precision == "fp32"
    assert "int8 is not judged: 54 held-out crops and 18 queries" in exported.reason
    assert exported.reason.endswith("at least 55 crops are needed")
    asked = run.export(request(site, precision="int8", limits=few), said.append)
    assert asked.reason.startswith("int8 is what was asked for, not judged: 54 held-out crops")
    assert not asked.chosen.judgement.enough
    assert not [line for line in said if "every gate passed" in line]


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_real_builder_takes_the_file(site, precision):
    pytest.importorskip("tensorrt_rtx", reason="building ahead of time needs TensorRT-RTX")
    exported = run.export(request(site, precision=precision, limits=ANYTHING), lambda line: None)
    (engine,) = bundle.build_engines([exported], ["sm86"], site / "engines", lambda line: None)
    assert f"-{precision}-b16-sm86-tensorrt_rtx-" in engine.name
    assert engine.stat().st_size > 10_000
    with pytest.raises(DataError, match="the bundle is written, an engine for sm10 is not"):
        bundle.build_engines([exported], ["sm10"], site / "engines", lambda line: None)


def test_the_command(site):
    words = ["export", site / "model.pt", "--calibration", site / "crops", "--out", site / "a.bundle"]
    words += ["--precision", "fp32", "--cache", site / "cache"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "fp32 is what was asked for" not in result.output
    assert "fp32: not judged: 54 held-out crops and 18 queries with labels" in result.output
    assert (site / "a.bundle").is_file()
    assert (site / "signing-key.pub.pem").is_file()
