"""A network as ONNX, the crops that are chosen, and the gate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
onnx = pytest.importorskip("onnx", reason="the trainer needs onnx")
pytest.importorskip("onnxruntime", reason="the export is checked on ONNX Runtime")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tiny_networks import small_onnx  # noqa: E402

from edge_app.contract.preprocess import InputSpec, preprocess  # noqa: E402
from trainer.checkpoint import Model  # noqa: E402
from trainer.data.records import Crops  # noqa: E402
from trainer.data.transforms import normalise  # noqa: E402
from trainer.errors import TrainerError  # noqa: E402
from trainer.export.held_out import identities_within  # noqa: E402
from trainer.export.onnx import check_against_torch, to_onnx  # noqa: E402
from trainer.export.quantize import choose, describe  # noqa: E402
from trainer.export.verify import (  # noqa: E402
    Judges,
    Limits,
    compare,
    failures,
    gates,
    histogram,
    judgement,
    match_threshold,
)
from trainer.metrics.retrieval import Truth  # noqa: E402
from trainer.models.embedder import ModelSettings, blueprint_of, new_embedder  # noqa: E402
from trainer.onnx_graph.nodes import half  # noqa: E402
from trainer.onnx_graph.session import grey_spec, rows_of  # noqa: E402

SPEC = InputSpec(width_px=16, height_px=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def made(spec: InputSpec = SPEC, **chosen: object) -> Model:
    """A network whose batch norms have seen pictures, so that its rows tell them apart."""
    torch.manual_seed(0)
    network = new_embedder(blueprint_of(ModelSettings(**chosen), (spec.height_px, spec.width_px)))
    for layer in network.modules():
        if hasattr(layer, "running_mean"):
            layer.momentum = 1.0
    with torch.no_grad():
        network.train()(normalise(torch.from_numpy(pixels(48, spec, seed=2)), spec))
    return Model(network.eval(), spec, {"seed": 0}, "0123abc")


def pixels(count: int, spec: InputSpec = SPEC, seed: int = 0) -> np.ndarray:
    """(count, H, W, 3) uint8, smooth enough to differ from noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, spec.height_px // 4, spec.width_px // 4, 3), np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.mark.parametrize(
    "chosen",
    [
        {"backbone": "onnx", "pooling": "average"},
        {"backbone": "osnet_x0_25", "bf16": True},
        {"backbone": "shufflenetv2_48_96_192"},
        {"backbone": "resnet10t"},
    ],
    ids=lambda chosen: chosen["backbone"],
)
def test_the_file_computes_what_the_network_computes(tmp_path, chosen):
    if chosen["backbone"] == "onnx":
        chosen = {**chosen, "weights": small_onnx(tmp_path / "small.onnx")}
    model = made(**chosen)
    exported = to_onnx(model)
    onnx.checker.check_model(exported)
    crops = pixels(5)
    assert check_against_torch(model, exported, crops) <= 1e-4
    rows = rows_of(exported, crops)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows_of(exported, crops[2:3]), rows[2:3], atol=1e-5)  # any batch
    kinds = [node.op_type for node in exported.graph.node]
    assert kinds.count("BatchNormalization") <= 1  # the neck's; the others are folded
    names = [node.name for node in exported.graph.node]
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith("/trunk")]
    narrow = half(exported)
    onnx.checker.check_model(narrow)
    assert (rows * rows_of(narrow, crops)).sum(1).min() > 0.999
    assert narrow.ByteSize() < 0.6 * exported.ByteSize() or exported.ByteSize() < 10_000


def test_the_file_normalises_by_itself():
    model = made(backbone="osnet_x0_25")
    exported = to_onnx(model)
    picture = pixels(1)[0, :, :, ::-1]  # blue first, as the edge has it
    seen = preprocess(picture, grey_spec(SPEC)).astype(np.uint8)
    with torch.no_grad():
        expected = model.network(torch.from_numpy(preprocess(picture, SPEC))[None]).numpy()
    np.testing.assert_allclose(rows_of(exported, seen.transpose(1, 2, 0)[None]), expected, atol=1e-4)


def test_a_file_that_computes_something_else_is_a_bug():
    exported = to_onnx(made(backbone="osnet_x0_25"))
    other = made(InputSpec(width_px=16, height_px=32), backbone="osnet_x0_25")  # not normalised
    with pytest.raises(TrainerError, match="does not compute what the network computes"):
        check_against_torch(other, exported, pixels(3))


def crops_of(cameras: list[int], hours: list[float]) -> Crops:
    count = len(cameras)
    return Crops(
        tuple(Path(f"{number}.png") for number in range(count)),
        np.array(cameras, np.int64),
        np.array(hours, np.float64) * 3600,
        np.full(count, -1),
    )


def test_calibration_takes_turns_over_cameras_and_hours():
    crops = crops_of([0] * 90 + [1] * 6 + [2] * 4, [8] * 80 + [20] * 10 + [8] * 6 + [float("nan")] * 4)
    rows = choose(crops, 16)
    assert np.bincount(crops.cameras[rows]).tolist() == [8, 4, 4]  # camera 0 has two hours
    assert np.sum((rows >= 80) & (rows < 90)) == 4
    assert rows[:4].tolist() == [0, 16, 32, 64]  # spread over the busy hour
    assert choose(crops, 1000).tolist() == list(range(100))


@given(st.lists(st.tuples(st.integers(-1, 3), st.floats(0, 1e6)), min_size=1, max_size=60), st.integers(1, 70))
@settings(max_examples=50, deadline=None)
def test_calibration_is_a_function_of_the_crops(found, count):
    crops = crops_of([camera for camera, _ in found], [hour for _, hour in found])
    rows = choose(crops, count)
    assert len(rows) == min(count, len(crops)) == len(set(rows.tolist()))
    assert rows.tolist() == choose(crops, count).tolist()


def test_calibration_is_recorded_by_digest(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(bytes([number]))
    crops = Crops(tuple(sorted(tmp_path.iterdir())), np.array([0, 0, 1]), np.array([0.0, 3600, 7200]), np.full(3, -1))
    said = describe(crops, np.array([0, 2]))
    assert (said.images, said.chosen) == (2, "in turns over 2 cameras and 2 hours of the day")
    assert said.sha256 == describe(crops.take(np.array([2, 0])), np.array([1, 0])).sha256  # the order does not matter
    assert said.sha256 != describe(crops, np.array([0, 1])).sha256


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def people(noise: float, seed: int = 0) -> tuple[np.ndarray, Judges]:
    """40 crops of 10 identities on two cameras."""
    generator = np.random.default_rng(seed)
    identities, cameras = np.arange(40) % 10, np.arange(40) // 20
    rows = unit(generator.standard_normal((10, 16))[identities] + noise * generator.standard_normal((40, 16)))
    everyone = np.arange(40)
    return rows, Judges(Truth(identities, cameras), everyone, everyone, False)


def test_the_gate_passes_what_did_not_change():
    rows, judges = people(0.5)
    comparison = compare(rows, rows, judges)
    found = gates(comparison, prefix="int8_")
    assert [gate.name for gate in found] == ["int8_cosine_min", "int8_cosine_median", "int8_map_loss", "int8_r1_loss"]
    assert failures(found) == ""
    assert comparison.threshold_shift == 0
    assert sum(histogram(comparison.cosines)) == 40
    assert histogram(comparison.cosines)[-1] == 40


def test_the_gate_names_what_failed():
    rows, judges = people(0.5)
    changed = rows.copy()
    changed[3] = np.roll(rows[3], 1)
    found = gates(compare(rows, changed, judges))
    assert not found[0].passed
    assert found[1].passed
    assert "cosine_min" in failures(found)
    broken = compare(rows, np.full_like(rows, np.nan), None)
    assert broken.cosines.max() == -1
    assert len(gates(broken)) == 2  # no judges, no mAP


def test_the_gate_is_not_finer_than_one_query():
    rows, judges = people(0.5)
    (gate,) = (each for each in gates(compare(rows, rows, judges)) if each.name == "map_loss")
    assert gate.limit == pytest.approx(50 / 40)  # 40 queries: first to second place is half of 100 / 40
    comparison = compare(rows, rows, judges)
    one_rank = replace(comparison, mAP_float=80.0, mAP=80.0 - 50 / 150, queries=150)
    assert failures(gates(one_rank)) == ""
    assert "map_loss" in failures(gates(replace(one_rank, mAP=79.6)))
    assert "map_loss 0.3333 (limit 0.3)" in failures(gates(replace(one_rank, queries=3000)))


def test_the_gate_looks_at_the_first_place():
    """5.2 points of R1 went unseen while mAP stayed."""
    rows, judges = people(0.5)
    comparison = replace(compare(rows, rows, judges), mAP_float=80.0, mAP=80.0, queries=500)
    assert failures(gates(replace(comparison, R1_float=90.0, R1=89.0))) == ""
    assert failures(gates(replace(comparison, R1_float=90.0, R1=84.8))) == "r1_loss 5.2000 (limit 1)"
    one_of_forty = replace(comparison, R1_float=90.0, R1=87.5, queries=40, pseudo=True)
    assert failures(gates(one_of_forty)) == ""
    assert failures(gates(replace(one_of_forty, R1=85.0))) == "pseudo_r1_loss 5.0000 (limit 2.5)"


def test_what_was_judged_is_said():
    rows, judges = people(0.5)
    said = judgement(compare(rows, rows, judges), Limits(crops=40))
    assert (said.pictures, said.enough) == (40, True)
    assert said.by == "40 held-out crops and 40 queries with labels, which is few: fewer than 50 prove little"
    nobody = judgement(compare(rows, rows, None))
    assert not nobody.enough
    assert nobody.by == (
        "40 held-out crops, by cosine alone: retrieval was not measured, nobody is found on two cameras; "
        "at least 60 crops are needed"
    )


def test_the_threshold_is_the_quantile_of_pairs_of_two_identities():
    rows, judges = people(0.5)
    truth = judges.truth
    pairs = [
        float(rows[first] @ rows[second])
        for first in range(40)
        for second in range(first)
        if truth.identities[first] != truth.identities[second] and truth.cameras[first] != truth.cameras[second]
    ]
    assert match_threshold(rows, truth, 0.1) == pytest.approx(np.quantile(pairs, 0.9), abs=1e-6)
    assert match_threshold(rows[:1], Truth(np.zeros(1, int), np.zeros(1, int)), 0.1) is None


def test_whole_identities_are_held_out():
    everyone = np.repeat(np.arange(30), 4)
    chosen = identities_within(everyone, np.arange(20), 40)
    assert len(chosen) == 10
    assert chosen.max() < 20
    assert len(identities_within(everyone, np.arange(20), 1)) == 1
