"""What a detector does not keep, for whoever looks: real networks with known outputs, and boxes from a file."""

import numpy as np
from test_detect import detector, end2end, frame

from edge_app.perception.recorded import RecordedSettings, open_recorded
from edge_app.types import Frame


def test_weak_boxes_and_other_classes_stand_aside_where_somebody_looks(tiny_onnx) -> None:
    rows = end2end(
        (10, 20, 30, 40, 0.9, 1),
        (10, 20, 30, 41, 0.08, 1),  # the same car once more
        (40, 20, 60, 40, 0.07, 1),  # weak
        (40, 20, 60, 41, 0.06, 1),  # the same once more
        (10, 44, 30, 48, 0.5, 2),  # of a class that nobody asked for
        (40, 44, 60, 48, 0.02, 1),  # noise
    )
    model = detector(tiny_onnx.constant(rows, (64, 64)), classes=("car",))
    plain = model.detect([frame()])[0]
    assert plain.aside is None
    model.keeps_aside = True
    looked = model.detect([frame()])[0]
    np.testing.assert_array_equal(looked.boxes, plain.boxes)
    np.testing.assert_array_equal(looked.scores, plain.scores)
    assert looked.aside is not None
    assert sorted(looked.aside.why) == ["class", "weak"]
    np.testing.assert_allclose(sorted(looked.aside.scores), [0.07, 0.5], atol=1e-6)


def test_boxes_of_a_file_stand_aside_too(tmp_path) -> None:
    (tmp_path / "gate.txt").write_text("1,-1,10,10,15,20,0.9,3,1\n1,-1,60,10,15,20,0.2,3,1\n1,-1,30,10,15,20,0.9,4,1\n")
    boxes = open_recorded(
        RecordedSettings(recorded=tmp_path / "{camera}.txt", classes=("car",), score_threshold=0.5), ["gate"]
    )
    picture = Frame("gate", 0.0, np.zeros((60, 100, 3), np.uint8), 100, 60, number=0)
    assert boxes.detect([picture])[0].aside is None
    boxes.keeps_aside = True
    aside = boxes.detect([picture])[0].aside
    assert sorted(zip((boxes.class_names[index] for index in aside.classes), aside.why, strict=True)) == [
        ("bicycle", "class"),
        ("car", "weak"),
    ]
