"""Ultralytics, where it is installed: a short training on drawn frames, the export, the roadside's detector."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("onnx", reason="the trainer needs onnx")

from tiny_onnx import TinyOnnx

from edge_app.contract.model import ModelManifest, write_manifest
from edge_app.contract.preprocess import InputSpec
from edge_app.perception.detect import DetectorSettings, open_detector
from edge_app.types import Frame
from trainer.cli import app
from trainer.detector import weights
from trainer.detector.network import read_detector
from trainer.detector.pseudo import write_labels
from trainer.errors import ConfigurationError, DataError


@pytest.fixture
def teacher(tmp_path):
    """A detector that always sees a car on the left and a truck on the right."""
    output = np.zeros((10, 6), np.float32)
    output[:2] = (4, 8, 28, 56, 0.9, 1), (40, 8, 60, 56, 0.6, 2)
    path = TinyOnnx(tmp_path).constant(output, (64, 64))
    names = ("person", "car", "truck")
    write_manifest(
        path, ModelManifest(kind="detector", version="1", input=InputSpec(width_px=64, height_px=64), class_names=names)
    )
    return read_detector(path)


@pytest.fixture
def frames(tmp_path):
    import cv2

    (tmp_path / "frames").mkdir()
    for number in range(12):
        picture = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "frames" / f"{number:02d}.png"), picture)
    return tmp_path / "frames"


def test_a_teacher_labels_frames(teacher, frames, tmp_path):
    data = write_labels(teacher, frames, tmp_path / "out", ("truck", "car"), count=10)
    about = yaml.safe_load(data.read_text())
    assert about["names"] == {0: "truck", 1: "car"}
    assert [len(list((tmp_path / "out" / "images" / part).iterdir())) for part in ("train", "val")] == [8, 2]
    (first, *_) = sorted((tmp_path / "out" / "labels" / "val").iterdir())
    assert first.read_text().splitlines() == [
        "1 0.250000 0.500000 0.375000 0.750000",
        "0 0.781250 0.500000 0.312500 0.750000",
    ]
    sure = write_labels(teacher, frames, tmp_path / "sure", score=0.8)
    assert [line.split()[0] for line in next((sure.parent / "labels" / "val").iterdir()).read_text().splitlines()] == [
        "1"
    ]


def test_a_teacher_that_finds_nothing_is_no_teacher(teacher, frames, tmp_path):
    with pytest.raises(DataError, match="finds nothing of person in 12 frames"):
        write_labels(teacher, frames, tmp_path / "out", ("person",))
    with pytest.raises(ConfigurationError, match="knows no bus; it knows person, car, truck"):
        write_labels(teacher, frames, tmp_path / "out", ("bus",))


def test_without_ultralytics_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(ConfigurationError, match=r"AGPL-3\.0 and optional: pip install 'crosslane\[detector\]'"):
        weights.to_detector(tmp_path / "a.pt")
    with weights.as_onnx(tmp_path / "a.onnx") as path:  # ONNX needs none
        assert path == tmp_path / "a.onnx"


def test_weights_that_are_none(tmp_path):
    pytest.importorskip("ultralytics", reason="training of detectors needs the extra `detector`")
    (tmp_path / "noise.pt").write_bytes(b"noise")
    with pytest.raises(DataError, match="no such file"):
        weights.to_detector(tmp_path / "a.pt")
    with pytest.raises(DataError, match="not a detector that Ultralytics can read"):
        weights.to_detector(tmp_path / "noise.pt")


class Attack:
    """A pickle that writes a file when it is opened, as a pickle may."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def evil(tmp_path):
    """Weights whose opening leaves a marker, and the marker."""
    import torch

    torch.save({"model": Attack(tmp_path / "marker")}, tmp_path / "evil.pt")
    return tmp_path / "evil.pt", tmp_path / "marker"


@pytest.fixture
def restricted(monkeypatch):
    """As in a command of its own: Ultralytics reads its switch when it is imported."""
    pytest.importorskip("ultralytics", reason="training of detectors needs the extra `detector`")
    for name in [name for name in sys.modules if name.split(".")[0] == "ultralytics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv(weights.SAFE, "")


@pytest.mark.parametrize(
    "command",
    [
        ("detector", "export", "EVIL", "--out", "OUT"),
        ("detector", "train", "DATA", "--weights", "EVIL", "--out", "OUT"),
        ("detector", "train", "--teacher", "EVIL", "--frames", "FRAMES", "--weights", "yolo26n.yaml", "--out", "OUT"),
        ("export", "m.pt", "--calibration", "FRAMES", "--detector", "EVIL", "--frames", "FRAMES", "--out", "OUT"),
    ],
    ids=lambda words: " ".join(word for word in words if not word.isupper()),
)
def test_weights_run_no_code(restricted, evil, frames, tmp_path, command):
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [car]\n")
    places = {
        "EVIL": evil[0],
        "OUT": tmp_path / "out",
        "FRAMES": frames,
        "DATA": tmp_path / "data.yaml",
        "MODEL": "m.pt",
    }
    with pytest.raises(DataError, match=r"evil\.pt is not a detector .*--trust-pickle"):
        app([str(places.get(word, word)) for word in command], standalone_mode=False)
    assert not evil[1].exists()


def test_weights_that_are_trusted_by_name(restricted, evil):
    with pytest.raises(DataError, match="not a detector that Ultralytics can read"):
        weights.to_detector(evil[0], trusted=True)
    assert evil[1].exists()  # the attack is one


def test_an_ultralytics_without_a_restricted_loader_opens_nothing(restricted, evil, monkeypatch):
    monkeypatch.setattr(weights, "_restricted", lambda: False)
    with pytest.raises(ConfigurationError, match="update them"):
        weights.to_detector(evil[0])
    assert not evil[1].exists()


def test_a_yaml_of_layers_is_not_evaluated(restricted, tmp_path):
    package = Path(importlib.util.find_spec("ultralytics").origin).parent
    known = (package / "cfg" / "models" / "26" / "yolo26.yaml").read_text()
    code = f"__import__('pathlib').Path({str(tmp_path / 'marker')!r}).touch()"
    (tmp_path / "yolo26n.yaml").write_text(f'activation: "{code}"\n{known}')
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [car]\n")
    with pytest.raises(DataError):
        weights.train(str(tmp_path / "yolo26n.yaml"), tmp_path / "data.yaml", tmp_path / "out", weights.Training())
    assert not (tmp_path / "marker").exists()


def test_a_data_set_that_would_run_a_script(tmp_path):
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [car]\ndownload: print(1)\n")
    with pytest.raises(ConfigurationError, match="`download` is a script"):
        weights.train("yolo26n.yaml", tmp_path / "data.yaml", tmp_path / "out", weights.Training())


@pytest.mark.slow
def test_train_export_detect(teacher, frames, tmp_path):
    pytest.importorskip("ultralytics", reason="training of detectors needs the extra `detector`")
    data = write_labels(teacher, frames, tmp_path / "site", ("car", "truck"))
    training = weights.Training(epochs=1, batch=4, width_px=64, device="cpu")
    best = weights.train("yolo26n.yaml", data, tmp_path / "run", training)
    for head in ("end2end", "raw"):
        made = weights.to_detector(best, head, 96, 64)
        assert (made.manifest.head, made.manifest.class_names) == (f"ultralytics-{head}", ("car", "truck"))
        assert not {"Shape", "Range", "ConstantOfShape"} & {node.op_type for node in made.model.graph.node}
        weights.write_detector(made, tmp_path / f"{head}.onnx")
        edge = open_detector(DetectorSettings(path=tmp_path / f"{head}.onnx", score_threshold=0.001))
        assert edge.engine.inputs[0].shape == (None, 3, 64, 96)
        assert edge.head == f"ultralytics-{head}"
        edge.detect([Frame("c", 0.0, np.zeros((60, 90, 3), np.uint8), 90, 60)] * 3)
