"""Bad pictures are named and counted, never hidden."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="pictures need opencv-python (extra `trainer`)")

from odd_pictures import bomb, png, png16, with_exif  # noqa: E402

from edge_app.contract.orientation import of_exif  # noqa: E402
from trainer.data.images import check_images, decode_image, names_of, read_image, said_of, try_image  # noqa: E402
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
        (lambda data: data[: len(data) // 2], "damaged, or a JPEG of more than 16 bits"),
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


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_pictures_are_turned_as_their_exif_says(number, kind):
    stored = np.zeros((8, 16, 3), np.uint8)
    stored[:, :8], stored[:4, :8] = 90, 200
    if kind == "jpg":
        data = with_exif(cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes(), number)
    else:
        data = png(16, 8, b"".join(b"\0" + row.tobytes() for row in stored), exif=number)
    assert np.abs(decode_image(data).astype(int) - of_exif(number).turned(stored)).max() < 12


def test_of_sixteen_bits_the_upper_eight_are_taken_and_twelve_are_recognised():
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for scale in (257, 16):  # all of 16 bits; 12 bits in 16
        np.testing.assert_array_equal(decode_image(png16(grey * scale))[:, :, 0], grey)


def test_a_kilobyte_that_declares_a_gigabyte_is_named_and_not_decoded(folder):
    path = folder / "07.jpg"
    path.write_bytes(bomb(60_000))
    (bad,) = check_images(crops(folder)).bad
    assert bad.path == path
    assert bad.reason.startswith("declares 60,000 × 60,000 pixels in 74 bytes")
    path.write_bytes(bomb(30_000))  # OpenCV would have taken 2.7 GB for it
    assert "declares 30,000 × 30,000" in try_image(path).reason


def test_names_in_messages_are_whole_and_cannot_forge_lines(tmp_path):
    path = tmp_path / ("x" * 120 + "\n\x1b[31mtrainer: ok.jpg")
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("x") >= 120
    assert r"\n\x1b[31m" in names_of([try_image(path)])
    assert said_of([]) == []
