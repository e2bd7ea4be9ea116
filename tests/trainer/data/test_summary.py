"""The numbers of `trainer inspect`."""

import json

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="pictures need opencv-python (extra `trainer`)")

from trainer.data.folder import read_folder  # noqa: E402
from trainer.data.records import Dataset, RandomTest, crops_of  # noqa: E402
from trainer.data.summary import summarise  # noqa: E402

PATTERN = r"(?P<identity>[a-z]+_\d+)_cam(?P<camera>\w+)\."


def picture(path, width, height):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))


def test_counts_cameras_sizes_and_bad_files(tmp_path):
    picture(tmp_path / "train" / "car_1_camgate.png", 10, 20)
    picture(tmp_path / "train" / "car_2_camgate.png", 30, 40)
    picture(tmp_path / "train" / "car_2_camexit.png", 20, 25)
    picture(tmp_path / "query" / "car_3_camgate.png", 5, 5)
    picture(tmp_path / "gallery" / "car_3_camexit.png", 5, 5)
    picture(tmp_path / "gallery" / "bus_3_camexit.png", 5, 5)
    (tmp_path / "gallery" / "bus_4_camexit.png").write_bytes(b"")
    facts = summarise(read_folder(tmp_path, PATTERN))
    assert json.loads(json.dumps(facts)) == facts
    train, gallery = facts["parts"]["train"], facts["parts"]["gallery"]
    assert (train["pictures"], train["cameras"]) == (3, {"exit": 1, "gate": 2})
    assert train["width_px"] == {"smallest": 10, "median": 20, "largest": 30}
    assert train["height_px"] == {"smallest": 20, "median": 25, "largest": 40}
    assert "identities" not in train
    assert gallery["identities"] == 3
    assert [one["reason"] for one in gallery["bad"]] == ["the file is empty"]


def test_a_test_set_without_cameras(tmp_path):
    picture(tmp_path / "query" / "car_1_cam1.png", 5, 5)
    picture(tmp_path / "gallery" / "car_1_cam1.png", 5, 5)
    found = read_folder(tmp_path, r"(?P<identity>car_\d+)")
    facts = summarise(Dataset("random", crops_of([]), RandomTest(found.test.query)))
    assert list(facts["parts"]) == ["test"]
    assert facts["parts"]["test"]["cameras"] == {"unknown": 1}
