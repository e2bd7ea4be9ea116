"""What the roadside's own reader sees of odd files; that the trainer sees the same: tests/trainer/detector."""

import cv2
import numpy as np
import pytest

pytest.importorskip("av", reason="recordings need PyAV")

from odd_pictures import bomb, with_exif

from edge_app.contract.orientation import of_exif
from edge_app.contract.screen import MOST_PIXELS
from edge_app.errors import SourceError
from edge_app.sources import open_source
from edge_app.sources.settings import CameraSettings


def first_of(path):
    source = open_source(CameraSettings(id="gate", source=str(path)))
    try:
        return source.read().image
    finally:
        source.close()


@pytest.mark.parametrize("number", [1, 3, 6, 8])
def test_side_data_without_a_name_in_pyav_end_nobody(tmp_path, number):
    """EXIF beside the display matrix that FFmpeg makes of it: asking for the matrix raised a ValueError."""
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :24], stored[16:, :24] = 250, 120
    jpeg = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    (tmp_path / "one.jpg").write_bytes(with_exif(jpeg, number))
    seen, wanted = first_of(tmp_path / "one.jpg"), of_exif(number).turned(stored)
    assert seen.shape == wanted.shape
    assert np.abs(seen.astype(int) - wanted).mean() < 5


def test_a_kilobyte_that_declares_a_gigabyte_is_refused_before_memory_is_taken(tmp_path):
    resource = pytest.importorskip("resource", reason="memory is measured on Unix")
    side = int(1.5 * MOST_PIXELS**0.5)
    (tmp_path / "bomb.png").write_bytes(bomb(side))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SourceError, match="more than 67,108,864 pixels"):
        first_of(tmp_path / "bomb.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB; the picture has 453 MB
