"""The readers of public data sets, on tiny made-up trees and on real pictures where they are there."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="pictures need opencv-python (extra `trainer`)")

from trainer.data import layouts, market1501, msmt17, vehicleid, veri776, veriwild  # noqa: E402
from trainer.data.images import check_images  # noqa: E402
from trainer.data.records import FixedTest, RandomTest  # noqa: E402
from trainer.errors import ConfigurationError, DataError  # noqa: E402

PICTURE = cv2.imencode(".jpg", np.full((8, 4, 3), 90, np.uint8))[1].tobytes()


def tree(root, *names, **texts):
    """Files below a folder: pictures by name, text files as name with __ for / and _txt for .txt."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PICTURE)
    for name, text in texts.items():
        path = root / (name.replace("__", "/").removesuffix("_txt") + ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(crops):
    return [path.name for path in crops.paths]


def test_market1501(tmp_path):
    root = tree(
        tmp_path / "market",
        "bounding_box_train/0007_c2s3_000500_03.jpg",
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "query/0003_c6s1_000001_00.jpg",
        "bounding_box_test/0003_c1s1_000001_01.jpg",
        "bounding_box_test/0000_c2s1_000001_01.jpg",
        "bounding_box_test/-1_c3s1_000001_01.jpg",
    )
    found = layouts.read(root)
    assert names(found.train) == ["0002_c1s1_000451_03.jpg", "0007_c2s3_000500_03.jpg"]
    assert found.train.cameras.tolist() == [0, 1]
    assert found.train.times_s.tolist() == [7200 + 451 / 25, 3 * 7200 + 20]
    assert isinstance(found.test, FixedTest)
    assert found.test.query.truth.identities.tolist() == [3]
    assert found.camera_names == ("c1", "c2", "c3", "c6")
    assert found.test.query.truth.cameras.tolist() == [3]
    assert found.test.gallery.identities.tolist() == [0, 3]  # the distractor stays, the junk box does not
    assert found.left_out == ("1 junk boxes (identity −1)",)
    assert market1501.labelled_train(root).identities.tolist() == [2, 7]


@pytest.mark.parametrize("first", [0, 1, 7, 100])
def test_any_numbering_of_the_cameras_is_the_same_set(tmp_path, first):
    """`_c0` was taken for an unknown camera, so that a query met its own camera."""
    root = tree(
        tmp_path,
        *(f"bounding_box_train/0001_c{first + camera}s1_000001_00.jpg" for camera in range(3)),
        f"query/0002_c{first}s1_000001_00.jpg",
        f"bounding_box_test/0002_c{first}s1_000002_00.jpg",
        f"bounding_box_test/0002_c{first + 2}s1_000003_00.jpg",
    )
    found = layouts.read(root)
    assert found.train.cameras.tolist() == [0, 1, 2]
    assert found.test.query.truth.cameras.tolist() == [0]
    assert found.test.gallery.truth.cameras.tolist() == [0, 2]
    assert found.camera_names == tuple(f"c{first + camera}" for camera in range(3))


def test_dukemtmc_has_the_same_layout(tmp_path):
    root = tree(
        tmp_path,
        "bounding_box_train/0005_c2_f0046985.jpg",
        "query/0001_c8_f0000001.jpg",
        "bounding_box_test/0001_c1_f0000002.jpg",
    )
    found = layouts.read(root, "dukemtmc")
    assert [found.camera_names[number] for number in found.train.cameras] == ["c2"]
    assert np.isnan(found.train.times_s).all()
    assert [found.camera_names[number] for number in found.test.query.crops.cameras] == ["c8"]


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt17_in_both_releases(tmp_path, train, test):
    root = tree(
        tmp_path,
        f"{train}/0000/0000_000_01_0303morning_0015_0.jpg",
        f"{train}/0001/0001_000_15_0303noon_0015_0.jpg",
        f"{test}/0000/0000_000_03_0303noon_0015_0.jpg",
        f"{test}/0000/0000_001_04_0303noon_0015_0.jpg",
        list_train_txt="0000/0000_000_01_0303morning_0015_0.jpg 0\n",
        list_val_txt="0001/0001_000_15_0303noon_0015_0.jpg 1\n",
        list_query_txt="0000/0000_000_03_0303noon_0015_0.jpg 0\n",
        list_gallery_txt="0000/0000_001_04_0303noon_0015_0.jpg 0\n",
    )
    found = layouts.read(root)
    assert found.camera_names == ("01", "03", "04", "15")
    assert found.train.cameras.tolist() == [0, 3]
    assert found.test.gallery.crops.cameras.tolist() == [2]
    assert all(path.is_file() for path in found.train.paths + found.test.query.crops.paths)


def test_veri776(tmp_path):
    root = tree(
        tmp_path,
        "image_train/0001_c001_00016450_0.jpg",
        "image_query/0002_c002_00030600_0.jpg",
        "image_test/0002_c002_00030600_0.jpg",
        "image_test/0002_c020_00030700_0.jpg",
    )
    found = layouts.read(root)
    assert found.camera_names == ("c001", "c002", "c020")
    assert found.test.query.crops.cameras.tolist() == [1]
    assert found.test.gallery.crops.cameras.tolist() == [1, 2]
    assert found.test.gallery.identities.tolist() == [2, 2]


def test_vehicleid_has_no_cameras(tmp_path):
    root = tree(
        tmp_path,
        "image/0000001.jpg",
        "image/0000002.jpg",
        "image/0000003.jpg",
        train_test_split__train_list_txt="0000001 11\n",
        train_test_split__test_list_800_txt="0000002 12\n0000003 12\n",
    )
    found = layouts.read(root)
    assert isinstance(found.test, RandomTest)
    assert found.test.crops.identities.tolist() == [12, 12]
    assert (found.test.crops.crops.cameras == -1).all()
    assert all(path.is_file() for path in found.train.paths + found.test.crops.crops.paths)
    with pytest.raises(DataError, match=r"800, 1600, .* not 801"):
        vehicleid.read(root, 801)
    with pytest.raises(DataError, match=r"test_list_1600.txt: cannot be read"):
        vehicleid.read(root, 1600)


def test_veriwild(tmp_path):
    info = (
        "id/image;Camera ID;Time;Model;Type;Color\n"
        "00001/000001;121;2018-03-11 07:50:48;a;b;c\n"
        "00002/000002;7;2018-03-11 07:50:49;a;b;c\n00002/000003;8;2018-03-11 08:50:49;a;b;c\n"
    )
    root = tree(
        tmp_path,
        "images/00001/000001.jpg",
        train_test_split__vehicle_info_txt=info,
        train_test_split__train_list_txt="00001/000001.jpg\n",
        train_test_split__test_3000_query_txt="00002/000002.jpg\n",
        train_test_split__test_3000_txt="00002/000003.jpg\n",
    )
    found = layouts.read(root)
    assert found.camera_names == ("7", "8", "121")
    assert found.train.cameras.tolist() == [2]
    assert found.train.times_s.tolist() == [1520754648.0]
    assert found.test.gallery.crops.times_s[0] - found.test.query.crops.times_s[0] == 3600
    assert found.test.query.identities.tolist() == [2]
    broken = tree(tmp_path, train_test_split__train_list_txt="00009/000009.jpg\n")
    with pytest.raises(DataError, match=r"train_list.txt: 00009/000009.jpg: expected .* entry in vehicle_info.txt"):
        veriwild.read(broken)


def test_names_that_do_not_follow_the_layout_are_named(tmp_path):
    with pytest.raises(DataError, match=r"cat.jpg: expected a name like 0002_c1s1_000451_03.jpg"):
        market1501.read(tree(tmp_path / "a", "bounding_box_train/cat.jpg"))
    with pytest.raises(DataError, match=r"cat.jpg: expected a name like 0002_c002_00030600_0.jpg"):
        veri776.read(tree(tmp_path / "b", "image_train/cat.jpg"))
    with pytest.raises(DataError, match=r"list_train.txt, line 2: expected a name and a number, got 'nonsense'"):
        msmt17.read(tree(tmp_path / "c", "train/x.jpg", "test/x.jpg", list_train_txt="a_b_01_c.jpg 0\nnonsense\n"))
    with pytest.raises(DataError, match="expected the folders mask_train_v2 and mask_test_v2 or train and test"):
        msmt17.read(tree(tmp_path / "d", list_train_txt="a 0\n"))


def test_missing_places_and_unknown_layouts(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        layouts.read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no pictures below it"):
        layouts.read(tmp_path)
    with pytest.raises(DataError, match=r"query: no such folder"):
        layouts.read(tree(tmp_path, "bounding_box_train/0002_c1s1_000451_03.jpg"))
    with pytest.raises(ConfigurationError, match="layout 'market', expected one of market1501"):
        layouts.read(tmp_path, "market")


def test_real_pictures(shared_data):
    found = layouts.read(shared_data / "market_dev")
    assert (len(found.train), len(found.test.query), len(found.test.gallery)) == (6094, 650, 1911)
    assert sorted(set(found.train.cameras.tolist())) == [0, 1, 2, 3, 4, 5]
    assert len(np.unique(market1501.labelled_train(shared_data / "market_dev").identities)) == 350
    checked = check_images(found.test.query.crops)
    assert not checked.bad
    assert (checked.sizes_px == (64, 128)).all()
