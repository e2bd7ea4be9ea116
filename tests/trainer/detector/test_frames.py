"""Frames and labels: what is found where, what judges, and what is refused."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="the trainer needs torch")

from edge_app.contract.preprocess import InputSpec
from trainer.data.records import spread
from trainer.detector.frames import gather, pictures_of
from trainer.detector.labels import class_numbers, find, label_path, label_text, read_labels
from trainer.errors import DataError
from trainer.metrics.detection import Boxes

SPEC = InputSpec(width_px=64, height_px=32, resize="letterbox", pad_value=0)
NAMES = ("car", "bus")


def write_pictures(folder, count, size=(40, 20)):
    """Plain pictures, each darker than the one before."""
    folder.mkdir(parents=True)
    for number in range(count):
        image = np.full((size[1], size[0], 3), 250 - number, np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.png"), image)
    return folder


def write_label(root, name, text):
    path = root / "labels" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_recording(path, count):
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 32))
    for number in range(count):
        film.write(np.full((32, 64, 3), 2 * number, np.uint8))
    film.release()
    return path


def test_a_folder_is_split_into_ranges_and_judges(tmp_path):
    found = gather(write_pictures(tmp_path / "site", 30), SPEC, NAMES, 8, 4)
    assert (len(found.spare), len(found.held), found.held.truth) == (8, 4, None)
    assert found.spare.pixels.shape == (8, 32, 64, 3)
    seen = [set(part.pixels[:, 16, 32, 0].tolist()) for part in (found.spare, found.held)]
    assert not seen[0] & seen[1]
    assert {max(seen[0] | seen[1]), min(seen[0] | seen[1])} == {250, 221}  # from the first to the last
    with pytest.raises(DataError, match="has 5 frames; ranges and gate need at least 6"):
        gather(write_pictures(tmp_path / "few", 5), SPEC, NAMES, 8, 4)


def test_a_recording_is_read_evenly(tmp_path):
    path = write_recording(tmp_path / "clip.avi", 100)
    found = list(pictures_of(path, 5))
    assert [name for name, _ in found] == [f"clip-{number:06d}" for number in (0, 24, 49, 74, 99)]
    # the recording's colours round down a little
    np.testing.assert_allclose([picture.mean() / 2 for _, picture in found], [0, 24, 49, 74, 99], atol=0.7)
    assert len(list(pictures_of(tmp_path, 200))) == 100  # the folder of it
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bad\.mp4: not a recording"):
        list(pictures_of(tmp_path / "bad.mp4", 5))
    with pytest.raises(DataError, match=r"expected a folder, a data\.yaml or a recording"):
        list(pictures_of(write_pictures(tmp_path / "p", 1) / "000.png", 5))


def test_labels_in_parts_of_a_yaml(tmp_path):
    for part, count in (("train", 9), ("val", 3)):
        write_pictures(tmp_path / "images" / part, count)
    write_label(tmp_path, "val/001", "1 0.5 0.5 0.5 0.5\n\n0 0.1 0.1 0.4 0.2\n")
    about = {"path": ".", "train": "images/train", "val": ["images/val"], "names": {1: "car", 0: "tram"}}
    (tmp_path / "data.yaml").write_text(json.dumps(about))
    found = gather(tmp_path, SPEC, NAMES, 5, 10)
    assert (len(found.spare), len(found.held)) == (5, 3)
    truth = found.held.truth
    np.testing.assert_allclose(truth[1].boxes, [[10, 5, 30, 15]])  # the tram is unknown to the detector
    assert truth[1].classes.tolist() == [0]
    assert [len(each) for each in truth] == [0, 1, 0]


def test_labels_without_parts_give_every_third_to_the_judges(tmp_path):
    write_pictures(tmp_path / "images", 9)
    for number in range(9):
        write_label(tmp_path, f"{number:03d}", "1 0.5 0.5 0.5 0.5\n")
    found = gather(tmp_path, SPEC, NAMES, 100, 100)
    assert (len(found.spare), len(found.held)) == (6, 3)
    assert all(each.classes.tolist() == [1] for each in found.held.truth)


@pytest.mark.parametrize(
    ("text", "said"),
    [("7 0.5 0.5 0.1 0.1", "class 7 is none of the 2"), ("0 0.5 0.5 0.1", "expected five numbers"), ("a b", ":1: ")],
)
def test_a_wrong_label_is_named(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_labels(write_label(tmp_path, "a", text), (40, 20), None, 2)


def test_what_is_no_data_set(tmp_path):
    assert find(tmp_path) is None
    (tmp_path / "data.yaml").write_text("names: [a]\n")
    with pytest.raises(DataError, match="expected the keys path, train, val and names"):
        find(tmp_path)


def test_labels_go_out_as_they_come_in(tmp_path):
    boxes = np.array([[1, 2, 30, 19], [0, 0, 40, 20]], np.float32)
    text = label_text(Boxes(boxes, np.ones(2, np.float32), np.array([1, 0])), (40, 20))
    back = read_labels(write_label(tmp_path, "a", text), (40, 20), None, 2)
    np.testing.assert_allclose(back.boxes, boxes, atol=1e-3)
    assert back.classes.tolist() == [1, 0]


def test_places_and_numbers(tmp_path):
    picture = tmp_path / "images" / "day" / "images" / "a.jpg"
    assert label_path(picture) == tmp_path / "images" / "day" / "labels" / "a.txt"
    assert class_numbers(("bus", "tram"), NAMES).tolist() == [1, -1]
    assert class_numbers(None, NAMES) is None
    assert spread(10, 3).tolist() == [0, 4, 9]
    assert len(spread(0, 3)) == 0
