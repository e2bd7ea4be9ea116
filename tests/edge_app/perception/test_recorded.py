"""A detector that reads its boxes in a file."""

import numpy as np
import pytest

from edge_app.config import parse
from edge_app.errors import ConfigurationError, ModelError
from edge_app.perception.recorded import RecordedSettings, open_recorded
from edge_app.types import Frame

ROWS = "1,-1,-5,10,15,20,0.9,3,1\n1,-1,0,0,10,10,0.95,1,1\n3,-1,20,20,5,5,0.2,3,1\n3,-1,200,20,5,5,0.2,3,1\n"


@pytest.fixture
def detector(tmp_path):
    def make(**settings):
        (tmp_path / "gate.txt").write_text(ROWS)
        return open_recorded(RecordedSettings(recorded=tmp_path / "{camera}.txt", **settings), ["gate"])

    return make


def frame(number, camera="gate"):
    return Frame(camera, 100.0, np.zeros((60, 100, 3), np.uint8), 100, 60, number=number)


def found(detector, *numbers):
    return [
        [(detector.class_names[index], *box) for box, index in zip(each.boxes.tolist(), each.classes, strict=True)]
        for each in detector.detect([frame(number) for number in numbers])
    ]


def test_every_frame_gets_its_boxes_in_the_picture_strongest_first(detector):
    boxes = detector()
    assert boxes.class_names == ("car", "person")
    assert found(boxes, 0, 1, 2) == [[("person", 0, 0, 10, 10), ("car", 0, 10, 10, 30)], [], [("car", 20, 20, 25, 25)]]
    assert boxes.detect([frame(2)])[0].lost == {"strong_boxes_without_size": 1}


def test_weak_boxes_and_other_classes_are_left_out(detector):
    assert found(detector(score_threshold=0.5), 0, 2) == [[("person", 0, 0, 10, 10), ("car", 0, 10, 10, 30)], []]
    assert found(detector(classes=["car"]), 0) == [[("person", 0, 0, 10, 10), ("car", 0, 10, 10, 30)]], "persons always"
    assert found(detector(classes=["person"]), 0) == [[("person", 0, 0, 10, 10)]]
    with pytest.raises(ConfigurationError, match="no box is a bus; there are car, person"):
        detector(classes=["bus"])


def test_boxes_of_frames_that_never_came_are_said(detector):
    boxes = detector()
    boxes.detect([frame(0)])
    assert boxes.told() == [
        "camera gate: 2 of 4 recorded boxes are of frames that did not come (the recording ends earlier, frames are "
        "left out by `fps`, or its numbers are others)"
    ]
    boxes.detect([frame(2)])
    assert boxes.told() == []
    with pytest.raises(ModelError, match="this camera is live"):
        boxes.detect([frame(None)])


def raw(**detector):
    cameras = [{"id": "gate", "source": "gate.mp4"}, {"id": "live", "source": "rtsp://camera/1"}]
    return {
        "site": "town",
        "node": "edge-1",
        "cameras": cameras,
        "detector": detector,
        "embedder": {"path": "e.onnx"},
    }


def test_the_configuration_knows_both_kinds_of_detector(tmp_path):
    with pytest.raises(ConfigurationError, match="camera live is live: give `path`, a model"):
        parse(raw(recorded="boxes.jsonl"), tmp_path / "site.yaml")
    with pytest.raises(ConfigurationError, match=r"detector\.recordde: unknown key; did you mean `recorded`"):
        parse(raw(recordde="boxes.jsonl", path="d.onnx"), tmp_path / "site.yaml")
    with pytest.raises(ConfigurationError, match=r"detector\.iou_threshold: unknown key"):
        parse(raw(recorded="boxes.jsonl", iou_threshold=0.5), tmp_path / "site.yaml")
    with pytest.raises(ConfigurationError, match=r"detector\.path: missing"):
        parse(raw(score_threshold=0.5), tmp_path / "site.yaml")
    only = {**raw(recorded="boxes.jsonl"), "cameras": raw()["cameras"][:1]}
    config = parse(only, tmp_path / "site.yaml")
    assert config.detector.path == tmp_path / "boxes.jsonl"
    assert parse({**only, "detector": {"path": "d.onnx"}}, tmp_path / "site.yaml").detector.path.name == "d.onnx"
