"""Folders and tables of one's own crops."""

import math

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="pictures need opencv-python (extra `trainer`)")

from trainer.data import layouts  # noqa: E402
from trainer.data.folder import read_folder, read_table  # noqa: E402
from trainer.errors import ConfigurationError, DataError  # noqa: E402

PICTURE = cv2.imencode(".png", np.zeros((6, 5, 3), np.uint8))[1].tobytes()
PATTERN = r"(?P<identity>[a-z]+_\d+)_cam(?P<camera>\d+)"


def pictures(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PICTURE)
    return root


def table(root, text, name="crops.csv"):
    (root / name).write_text(text)
    return root / name


def test_a_plain_folder_is_for_training(tmp_path):
    found = layouts.read(pictures(tmp_path, "b.PNG", "deep/a.jpg", "notes.txt.bak"))
    assert [path.name for path in found.train.paths] == ["b.PNG", "a.jpg"]
    assert found.test is None
    assert (found.train.cameras == -1).all()
    assert np.isnan(found.train.times_s).all()


def test_splits_and_facts_from_the_path(tmp_path):
    pictures(
        tmp_path, "train/car_1_cam10.png", "query/car_2_cam2.png", "gallery/bus_1_cam10.png", "gallery/car_2_cam1.png"
    )
    found = read_folder(tmp_path, PATTERN)
    assert found.camera_names == ("1", "2", "10")
    assert found.train.cameras.tolist() == [2]
    assert found.test.query.crops.cameras.tolist() == [1]
    assert found.test.gallery.crops.cameras.tolist() == [2, 0]
    assert found.test.query.identities[0] == found.test.gallery.identities[1]
    assert found.test.query.identities[0] != found.test.gallery.identities[0]


def test_tracklets_count_within_their_camera(tmp_path):
    pictures(tmp_path, "north/7/1.5.png", "north/7/2.5.png", "south/7/9.png")
    crops = read_folder(tmp_path, r"^(?P<camera>\w+)/(?P<tracklet>\d+)/(?P<time>[\d.]+)\.png").train
    assert crops.times_s.tolist() == [1.5, 2.5, 9.0]
    assert crops.tracklets[0] == crops.tracklets[1] != crops.tracklets[2]
    assert crops.cameras.tolist() == [0, 0, 1]


def test_a_table(tmp_path):
    file = table(
        tmp_path,
        "path,split,camera,time,tracklet,identity\n"
        "b.png,,gate,1700000000.25,4,x\na.png,train,,,,\nq.png,query,gate,,,x\ng.png,gallery,exit,,,x\n",
    )
    found = layouts.read(file)
    assert [path.name for path in found.train.paths] == ["a.png", "b.png"]
    assert found.camera_names == ("exit", "gate")
    assert found.train.cameras.tolist() == [-1, 1]
    assert found.train.times_s[1] == 1700000000.25
    assert math.isnan(found.train.times_s[0])
    assert found.train.tracklets.tolist() == [-1, 0]
    assert found.test.query.identities.tolist() == found.test.gallery.identities.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected columns out of path, .*at least `path`, got \[\]"),
        ("path,colour\na.png,red\n", "at least `path`, got .*'colour'"),
        ("path,split\na.png,test\n", "line 2: split 'test', expected one of train, query, gallery"),
        ("path,time\na.png,noon\n", "time 'noon', expected seconds since the epoch"),
        ("path,time\na.png,inf\n", "time 'inf', expected seconds since the epoch"),
        ("path,camera\na.png\n,2\n", "line 3: expected 2 cells and a path"),
        ("path,split\na.png,query\n", "a query picture needs an identity"),
        ("path,split,identity\na.png,query,x\n", "query and gallery belong together"),
        ("path\n", "neither training nor test pictures were found"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_table(table(tmp_path, text))


def test_a_table_that_is_not_text(tmp_path):
    file = tmp_path / "crops.csv"
    file.write_bytes(b"path\n\xff\xfe\xfa.png\n")
    with pytest.raises(DataError, match="cannot be read as a CSV table"):
        read_table(file)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?P<camera>", "is not a regular expression"),
        (r"(?P<colour>\w+)", "expected named groups .*colour"),
        (r"(?P<track>\w+)", "did you mean `tracklet`"),
        (r"\w+", "got none"),
    ],
)
def test_a_wrong_pattern_is_refused(tmp_path, pattern, message):
    with pytest.raises(ConfigurationError, match=message):
        read_folder(pictures(tmp_path, "a.png"), pattern)


def test_a_name_without_a_match_is_named(tmp_path):
    with pytest.raises(DataError, match=r"1 of 2 names do not match the pattern .*: dog.png; it is looked for"):
        read_folder(pictures(tmp_path, "car_1_cam1.png", "dog.png"), PATTERN)


def test_sub_folders_that_are_called_like_cameras_are_cameras(tmp_path):
    names = [f"cam{number}/{picture}.png" for number in (1, 2, 10) for picture in "ab"]
    found = read_folder(pictures(tmp_path / "a", *names))
    assert found.camera_names == ("cam1", "cam2", "cam10")
    assert found.train.cameras.tolist() == [0, 0, 2, 2, 1, 1]
    assert found.left_out == ()
    found = read_folder(pictures(tmp_path / "b", "town/camera north/x/1.png", "town/c002/1.png", "stray.png"))
    assert found.camera_names == ("c002", "camera north")
    assert found.train.cameras.tolist() == [-1, 0, 1]


def test_sub_folders_that_may_be_vehicles_are_none_and_that_is_said(tmp_path):
    root = pictures(tmp_path, "north/1.png", "south gate/1.png", "camper/2.png")
    found = read_folder(root)
    assert found.camera_names == ()
    (line,) = found.left_out
    assert "3 sub-folders, not like cam1" in line
    assert "camper, north, south gate" in line
    named = read_folder(root, line.split("the pattern ")[1].strip("'"))  # as the line advises
    assert named.camera_names == ("camper", "north", "south gate")
    assert named.left_out == ()


def test_nothing_goes_missing_silently(tmp_path):
    root = pictures(tmp_path, "train/a.png", "train/b.tif", "train/c.GIF", "train/d.txt", "old/e.png", "f.png")
    (root / "train" / "g.png").symlink_to("nowhere.png")
    (root / "train" / "again").symlink_to(root / "train")
    (root / "train" / "h.png").mkdir()
    found = read_folder(root)
    assert len(found.train) == 1
    assert found.left_out == (
        "2 beside train: f.png, old",
        "1 a link that leads nowhere: train/g.png",
        "1 a link to a folder that is read already: train/again",
        "3 not named as a picture that is read (.bmp, .jpeg, .jpg, .png, .webp): train/b.tif, train/c.GIF, train/d.txt",
    )


def test_a_pattern_is_for_plain_folders(tmp_path):
    with pytest.raises(ConfigurationError, match="has the layout table: leave the pattern out"):
        layouts.read(table(tmp_path, "path\na.png\n"), pattern=PATTERN)


def test_real_vehicles(shared_data):
    found = read_folder(shared_data / "khoa_vehicles", PATTERN)
    assert len(found.train) == 0
    assert found.camera_names == ("1", "2")
    assert sorted(found.test.query.identities) == sorted(found.test.gallery.identities)
    assert len(found.test.query) == 300
