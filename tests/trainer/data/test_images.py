"""Bad pictures are named and counted, never hidden."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="pictures need opencv-python (extra `trainer`)")

from trainer.data.images import check_images, read_image  # noqa: E402
from trainer.data.records import Row, crops_of  # noqa: E402
from trainer.errors import DataError  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    """20 good pictures of 12 × 30 pixels."""
    image = np.random.default_rng(0).integers(0, 255, (30, 12, 3), np.uint8)
    for number in range(20):
        cv2.imwrite(str(tmp_path / f"{number:02}.jpg"), image)
    return tmp_path


def crops(folder):
    return crops_of([Row(path, camera=int(path.stem)) for path in folder.glob("*.jpg")])


def test_good_pictures_pass_with_their_sizes(folder):
    checked = check_images(crops(folder))
    assert (len(checked.crops), checked.bad) == (20, ())
    assert (checked.sizes_px == (12, 30)).all()
    assert read_image(folder / "00.jpg").shape == (30, 12, 3)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "the file is empty"),
        (lambda data: data[: len(data) // 2], "not a picture, or damaged"),
        (lambda data: b"hello", "not a picture, or damaged"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_bad_picture_is_left_out_and_named(folder, damage, reason):
    found = crops(folder)
    path = folder / "07.jpg"
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    checked = check_images(found)
    assert [(one.path, reason in one.reason) for one in checked.bad] == [(path, True)]
    assert 7 not in checked.crops.cameras
    assert checked.kept.tolist() == [row for row in range(20) if row != 7]


def test_too_many_bad_pictures_are_an_error_that_names_them(folder):
    for number in (3, 4, 5):
        (folder / f"{number:02}.jpg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"3 of 20 pictures cannot be read, allowed are 10.0%(.|\n)*03.jpg: the file is empty"
    ):
        check_images(crops(folder), limit=0.1)
    assert len(check_images(crops(folder), limit=0.2).bad) == 3


def test_nothing_readable_is_an_error_whatever_the_limit(folder):
    for path in folder.glob("*.jpg"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"20 of 20 pictures(.|\n)*… and 10 more"):
        check_images(crops(folder), limit=1.0)
