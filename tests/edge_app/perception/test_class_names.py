"""What a detector's file says of its classes is taken, and held against what was configured."""

from pathlib import Path

import numpy as np
import pytest

from edge_app.contract.preprocess import InputSpec
from edge_app.errors import ModelError
from edge_app.perception.class_names import LONGEST, agree, names_in
from edge_app.perception.detect import DetectorSettings, OnnxDetector, open_detector

IN_FILE = "{0: 'person', 1: 'car', 2: 'truck'}"
NAMES = ("person", "car", "truck")
BOX = np.array([[10, 20, 30, 40, 0.9, 1]], np.float32)


def opened(path: Path, said: str, **changes) -> OnnxDetector:
    """A detector without a manifest, whose file says `said` of its classes, as Ultralytics writes it."""
    import onnx

    model = onnx.load(path)
    entry = model.metadata_props.add()
    entry.key, entry.value = "names", said
    onnx.save(model, path)
    return open_detector(DetectorSettings(path=path, input=InputSpec(width_px=64, height_px=64), **changes))


def test_a_file_that_names_its_classes_needs_no_others(tiny_onnx) -> None:
    model = opened(tiny_onnx.constant(BOX, (64, 64)), IN_FILE, classes=("car",))
    assert (model.class_names, model.head) == (NAMES, "ultralytics-end2end")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("person", "car"), "gives 2 classes, the model file says that it has 3: person, car, truck; leave"),
        (("person", "truck", "car"), "class 1 is 'truck' in `class_names`, and 'car' in the model file, whose 'truck'"),
    ],
)
def test_names_that_contradict_the_file_are_one_clear_error(tiny_onnx, given, words) -> None:
    with pytest.raises(ModelError, match=words):
        opened(tiny_onnx.constant(BOX, (64, 64)), IN_FILE, class_names=given)


def test_own_words_for_the_same_classes_are_taken_and_said(tiny_onnx, caplog) -> None:
    model = opened(tiny_onnx.constant(BOX, (64, 64)), IN_FILE, class_names=("Person", "automobile", "truck"))
    assert model.class_names == ("Person", "automobile", "truck")
    assert "car is called automobile" in caplog.text
    assert "Person" not in caplog.text


@pytest.mark.parametrize(
    "said", ["", "names", "{0: 'a', 2: 'b'}", "[]", "7", "{" * 3000, "[" * LONGEST, "__import__('os')", "{'a': 'b'}"]
)
def test_what_cannot_be_read_says_nothing(said) -> None:
    assert names_in({"names": said}) is None
    assert names_in({}) is None


def test_a_list_of_names_is_read_too() -> None:
    assert names_in({"names": "['person', 'car']"}) == ("person", "car")
    assert agree(None, None, "x") is None
