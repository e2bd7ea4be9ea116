"""A detector's file and its boxes: tiny networks with known outputs."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
onnx = pytest.importorskip("onnx", reason="the trainer needs onnx")
pytest.importorskip("onnxruntime", reason="boxes are found on ONNX Runtime")

from tiny_onnx import TinyOnnx  # noqa: E402

from edge_app.contract.model import ModelManifest, write_manifest  # noqa: E402
from edge_app.contract.preprocess import InputSpec, preprocess  # noqa: E402
from edge_app.perception.detect import DetectorSettings, open_detector  # noqa: E402
from edge_app.types import Frame  # noqa: E402
from trainer.data.cache import fit  # noqa: E402
from trainer.detector.network import boxes_of, read_detector, take_grey_levels  # noqa: E402
from trainer.detector.weights import write_detector  # noqa: E402
from trainer.errors import DataError  # noqa: E402

SPEC = InputSpec(width_px=64, height_px=64, resize="letterbox")
NAMES = ("person", "car", "truck")
ROWS = [(10, 20, 30, 40, 0.9, 1), (11, 20, 30, 40, 0.5, 1), (40, 20, 60, 40, 0.7, 2), (2, 20, 9, 40, 0.2, 0)]


def raw(rows=ROWS) -> np.ndarray:
    """(4 + 3, 84) of rows x1 y1 x2 y2 score class."""
    output = np.zeros((7, 84), np.float32)
    for column, (x1, y1, x2, y2, score, kind) in enumerate(rows):
        output[:4, column] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        output[4 + kind, column] = score
    return output


def described(path, **changes):
    values = {"kind": "detector", "version": "1", "input": SPEC, "class_names": NAMES}
    write_manifest(path, ModelManifest(**{**values, **changes}))
    return path


@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_boxes_are_those_of_the_roadside(tmp_path, batch):
    path = described(TinyOnnx(tmp_path).constant(raw(), (64, 64), batch))
    pictures = [np.zeros((64, 128, 3), np.uint8), np.zeros((128, 64, 3), np.uint8)] * 5
    detector = read_detector(path)
    assert (detector.manifest.head, detector.manifest.input.scale) == ("ultralytics-raw", 1)
    places = [SPEC.place(each.shape[1], each.shape[0]) for each in pictures]
    pixels = np.stack([fit(each, SPEC) for each in pictures])
    found = boxes_of(detector.model, detector.manifest, pixels, places, 0.1)
    edge = open_detector(DetectorSettings(path=path, duplicate_iou=1, part_share=1))
    expected = edge.detect([Frame("c", 0.0, each, each.shape[1], each.shape[0]) for each in pictures])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-4)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)
        assert ours.classes.tolist() == theirs.classes.tolist()


@pytest.mark.parametrize(
    "numbers",
    [{}, {"scale": 1.0}, {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}, {"scale": 1.0, "mean": (9.0, 9.0, 9.0)}],
)
def test_normalisation_becomes_a_part_of_the_network(tmp_path, numbers):
    spec = SPEC.model_copy(update=numbers)
    model = onnx.load(str(TinyOnnx(tmp_path).mean_colour((64, 64))))
    grey = take_grey_levels(model, spec)
    onnx.checker.check_model(grey)
    assert grey.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert take_grey_levels(grey, spec) is grey
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    import onnxruntime

    session = onnxruntime.InferenceSession(grey.SerializeToString())
    rows = session.run(None, {"images": fit(image, spec).transpose(2, 0, 1)[None]})[0]
    np.testing.assert_allclose(rows[0], preprocess(image, spec).mean((1, 2)), rtol=1e-4, atol=1e-4)


def test_what_is_written_the_roadside_can_open(tmp_path):
    detector = read_detector(described(TinyOnnx(tmp_path).constant(raw(), (64, 64))))
    write_detector(detector, tmp_path / "out" / "grey.onnx")
    edge = open_detector(DetectorSettings(path=tmp_path / "out" / "grey.onnx"))
    assert edge.engine.inputs[0].dtype == np.uint8
    assert len(edge.detect([Frame("c", 0.0, np.zeros((64, 64, 3), np.uint8), 64, 64)])[0]) == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["grey.json", "grey.onnx"]


def test_each_wrong_detector_is_one_clear_error(tmp_path):
    tiny = TinyOnnx(tmp_path)
    path = tiny.constant(raw(), (64, 64))
    with pytest.raises(DataError, match=r"put constant\.json beside it"):
        read_detector(path)
    with pytest.raises(DataError, match="does not fit exactly one known head with 2 classes"):
        read_detector(described(path, class_names=("a", "b")))
    with pytest.raises(DataError, match="its description says"):
        read_detector(described(path, input=SPEC.model_copy(update={"width_px": 96})))
    with pytest.raises(DataError, match="expected a detector"):
        read_detector(described(path, kind="embedder", class_names=(), dimension=3))
    described(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_detector(path, tmp_path / "none.json")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="not the one its manifest describes"):
        read_detector(path)
    (tmp_path / "noise.onnx").write_bytes(b"noise" * 100)
    with pytest.raises(DataError, match=r"not an? (usable )?ONNX model"):
        read_detector(described(tmp_path / "noise.onnx"))
    with pytest.raises(DataError, match="one input and one output"):
        read_detector(described(tiny.two_outputs((64, 64))))
