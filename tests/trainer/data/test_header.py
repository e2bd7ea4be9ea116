"""Sizes and orientation from the first bytes, against what OpenCV decodes; and no byte ends it in a traceback."""

import cv2
import numpy as np
import pytest
from odd_pictures import bomb, png, with_exif

from edge_app.contract.orientation import Orientation, of_exif
from trainer.data.header import Header, read_header

PICTURE = np.random.default_rng(0).integers(0, 255, (23, 37, 3), np.uint8)
FILES = {
    suffix: cv2.imencode(suffix, PICTURE, options)[1].tobytes()
    for suffix, options in {
        ".jpg": [],
        ".jpeg": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        ".png": [],
        ".bmp": [],
        ".tif": [],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, 80],
    }.items()
} | {"lossless .webp": cv2.imencode(".webp", PICTURE, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()}


@pytest.mark.parametrize("kind", FILES)
def test_the_size_is_the_decoded_one(kind):
    found = read_header(FILES[kind])
    assert (found.width_px, found.height_px, found.seen) == (37, 23, Orientation())


@pytest.mark.parametrize("order", "<>")
def test_the_orientation_of_a_jpeg_in_both_byte_orders(order):
    assert read_header(with_exif(FILES[".jpg"], 6, order)) == Header("JPEG", 37, 23, of_exif(6))


def test_the_orientation_of_a_png_that_is_noted_behind_the_pixels():
    assert read_header(png(3, 2, b"", exif=8)) == Header("PNG", 3, 2, of_exif(8))


def test_a_bomb_is_known_by_its_head():
    assert read_header(bomb(60_000)).width_px == 60_000


def test_damaged_files_are_none_or_of_some_size_and_never_a_traceback():
    generator = np.random.default_rng(1)
    for content in [*FILES.values(), with_exif(FILES[".jpg"], 6), png(3, 2, b"", exif=8)]:
        for _ in range(300):
            damaged = bytearray(content[: generator.integers(0, min(len(content), 600))])
            for place in generator.integers(0, max(1, len(damaged)), 4):
                damaged[place : place + 1] = bytes([generator.integers(256)]) * bool(damaged)
            found = read_header(bytes(damaged))
            assert found is None or found.width_px * found.height_px > 0
