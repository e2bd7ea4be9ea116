"""Detectors in INT8: real networks on real recordings and drawn frames, the gate, the bundle, the real builder."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
onnx = pytest.importorskip("onnx", reason="the trainer needs onnx")
pytest.importorskip("cryptography", reason="bundles are signed")
pytest.importorskip("pycocotools", reason="mAP needs pycocotools")

from test_export import SPEC, made  # noqa: E402
from tiny_crops import write_market  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from deploy.demo_detector import labelled, pictures  # noqa: E402
from edge_app.contract.bundle import read_bundle  # noqa: E402
from edge_app.contract.model import ModelManifest  # noqa: E402
from edge_app.contract.preprocess import InputSpec  # noqa: E402
from edge_app.contract.signature import read_public_key  # noqa: E402
from edge_app.perception.class_names import COCO_NAMES  # noqa: E402
from edge_app.perception.detect import DetectorSettings, open_detector  # noqa: E402
from edge_app.runtime.bundles import unpack  # noqa: E402
from trainer.checkpoint import save_model  # noqa: E402
from trainer.cli import app  # noqa: E402
from trainer.data.cache import fit  # noqa: E402
from trainer.detector.frames import Frames  # noqa: E402
from trainer.detector.network import read_detector  # noqa: E402
from trainer.errors import ConfigurationError, DataError  # noqa: E402
from trainer.export import bundle, detector, ladder, run  # noqa: E402
from trainer.export.quantize import quantize  # noqa: E402
from trainer.export.verify import Limits  # noqa: E402
from trainer.onnx_graph.nodes import half, quantized_layers  # noqa: E402

pytestmark = pytest.mark.usefixtures("modelopt")
DEMO = Path(__file__).resolve().parents[3] / "configs" / "models" / "demo_detector.onnx"
YOLOX_INPUT = InputSpec(
    width_px=416, height_px=416, channel_order="BGR", scale=1, resize="letterbox", letterbox_align="top-left"
)
# What the search leaves out first; the first depthwise layer alone loses every box.
YOLOX_WORST = ["Conv_44", "Conv_47", "Conv_70", "Conv_321", "Conv_237", "Conv_354", "Conv_360", "Conv_327"]


def drawn(seed: int, per_camera: int, spec: InputSpec) -> Frames:
    """Frames of a simulated world with their truth."""
    found = list(pictures(range(seed, seed + 1), per_camera))
    places = [spec.place(each.image.shape[1], each.image.shape[0]) for each in found]
    pixels = np.stack([fit(each.image, spec) for each in found])
    return Frames(pixels, tuple(places), tuple(labelled(each) for each in found))


@pytest.fixture(scope="module")
def demo() -> detector.Bench:
    found = read_detector(DEMO)
    spec = found.manifest.input
    return detector.Bench(found, drawn(1900, 2, spec), drawn(2000, 3, spec), detector.Limits(map_loss=3.0))


@pytest.fixture(scope="module")
def exported(demo) -> detector.ExportedDetector:
    settled = ladder.settle("demo", demo, "int8", 0.0, lambda line: None)
    calibration = detector.describe(demo.spare.pixels, Path("drawn"))
    return detector.ExportedDetector(demo.detector, settled.chosen, settled.reason, settled.gates, calibration)


@pytest.mark.long
def test_the_demos_detector_in_int8_sees_the_same(demo, exported):
    chosen = exported.chosen
    assert chosen.comparison.labelled
    assert chosen.comparison.found_again >= 0.97
    assert chosen.comparison.mAP_float > 50
    assert [gate.name for gate in exported.gates] == ["int8_found_again", "int8_map_loss"]
    boxes = chosen.comparison.boxes
    assert chosen.judgement.by.startswith(
        f"{len(demo.held)} held-out frames with {boxes} sure boxes of the float network"
    )
    assert chosen.judgement.enough == (boxes >= 60)
    kinds = {node.name: node.op_type for node in chosen.model.graph.node}
    layers = quantized_layers(chosen.model)
    assert sum(kinds[layer] == "Conv" for layer in layers) > 0.9 * list(kinds.values()).count("Conv")
    assert not [layer for layer in layers if kinds[layer] in ("Cast", "Sigmoid", "Sub", "Div")]  # the two ends


def test_half_precision_sees_the_same(demo):
    comparison = demo.compare(half(demo.plain))
    assert comparison.found_again >= 0.99
    assert comparison.mAP == pytest.approx(comparison.mAP_float, abs=0.5)


def test_without_labels_its_own_boxes_judge(demo):
    unlabelled = replace(demo, held=replace(demo.held, truth=None))
    comparison = unlabelled.compare(demo.plain)
    assert (comparison.mAP_float, comparison.mAP, comparison.labelled) == (100, pytest.approx(100), False)
    assert [gate.name for gate in detector.gates(comparison, detector.Limits())] == ["found_again", "own_ap50_loss"]


def test_the_real_builder_takes_the_file(exported, tmp_path):
    """Its engine is larger than that of FP32: half a million weights weigh less than the kernels for INT8."""
    pytest.importorskip("tensorrt_rtx", reason="building ahead of time needs TensorRT-RTX")
    (engine,) = bundle.build_engines([exported], ["sm86"], tmp_path, lambda line: None)
    assert "-int8-b16-sm86-tensorrt_rtx-" in engine.name
    assert engine.stat().st_size > 500_000


def test_the_file_is_smaller(exported, demo):
    assert exported.chosen.model.ByteSize() < 0.6 * demo.plain.ByteSize()


def test_a_bundle_carries_the_detector(exported, tmp_path):
    save_model(tmp_path / "model.pt", made(backbone="shufflenetv2_48_96_192"))
    request = run.Request(
        tmp_path / "model.pt", write_market(tmp_path / "crops"), None, tmp_path / "cache", precision="fp32",
        limits=Limits(-1, -1, 100),
    )  # fmt: skip
    embedder = run.export(request, lambda line: None)
    key, path = bundle.signing_key(tmp_path / "key.pem"), tmp_path / "site.bundle"
    bundle.write(embedder, path, "site", key, time.time(), detector=exported)
    read = read_bundle(path, [read_public_key(tmp_path / "key.pub.pem")])
    found = read.manifest.detector
    assert (found.precision, found.model.head, found.calibration.chosen) == (
        "int8",
        "ultralytics-raw",
        "evenly from drawn",
    )
    assert read.manifest.embedder.model.input.width_px == SPEC.width_px
    edge = open_detector(DetectorSettings(path=unpack(read, tmp_path / "bundles") / "detector.onnx"))
    assert edge.class_names == exported.source.manifest.class_names


def test_yolox_in_int8_on_a_real_recording(shared_data, tmp_path):
    described = ModelManifest(kind="detector", version="yolox-nano", input=YOLOX_INPUT, class_names=COCO_NAMES)
    (tmp_path / "yolox.json").write_text(described.model_dump_json(by_alias=True))
    clip, path = shared_data / "videos" / "traffic.mp4", shared_data / "weights" / "yolox_nano.onnx"
    bench = detector.open_bench(detector.Request(path, clip, tmp_path / "yolox.json", images=6, judges=4))
    small = quantize(bench.plain, bench.spare.pixels, leave_out=YOLOX_WORST)
    comparison = bench.compare(small)
    assert sum(len(each.above(detector.SURE)) for each in bench.float_boxes) > 40
    assert comparison.found_again >= 0.9
    assert comparison.mAP > 85
    pytest.importorskip("tensorrt_rtx", reason="building ahead of time needs TensorRT-RTX")
    candidate = detector.Candidate(precision="int8", model=small, gates=(), comparison=comparison)
    made_of = detector.ExportedDetector(bench.detector, candidate, "", (), None)
    (engine,) = bundle.build_engines([made_of], ["sm86"], tmp_path, lambda line: None)
    assert engine.stat().st_size > 500_000


def test_the_command_says_what_is_missing(tmp_path):
    words = ["export", "model.pt", "--calibration", "crops", "--out", tmp_path / "a.bundle", "--detector", DEMO]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, ConfigurationError)
    assert "--detector needs --frames" in str(result.exception)
    with pytest.raises(ConfigurationError, match="int4"):
        detector.export(detector.Request(DEMO, tmp_path, precision="int4"), lambda line: None)
    with pytest.raises(DataError, match="no pictures below"):
        detector.export(detector.Request(DEMO, tmp_path), lambda line: None)
