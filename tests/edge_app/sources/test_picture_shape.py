"""Pictures as their file says that they are to be seen: turned, and with square pixels."""

from fractions import Fraction

import av
import numpy as np
import pytest
from made_up_clips import CORNERS, START_S, TURNS, camera, turned_clip

from edge_app.sources import open_source


@pytest.mark.parametrize("name", TURNS)
def test_a_recording_is_turned_as_its_file_says(tmp_path, read_all, name):
    matrix, corners = TURNS[name]
    for after_s in (None, START_S + 0.5):  # from its beginning, and resumed
        frames = read_all(open_source(camera(turned_clip(tmp_path / "turned.mp4", matrix)), after_s))
        assert frames
        size = (96, 160) if matrix[0] == 0 else (160, 96)
        assert {(frame.width_px, frame.height_px) for frame in frames} == {size}
        for channel, corner in zip((2, 1, 0), corners, strict=True):  # red, green, blue
            for frame in (frames[0], frames[-1]):
                colour = frame.image[CORNERS[corner]]
                assert colour[channel] > 180, (name, corner, colour)
                assert sum(colour) - colour[channel] < 100, (name, corner, colour)


def test_pixels_that_are_not_square_are_made_square(tmp_path, read_all):
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 180, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        image = np.zeros((180, 160, 3), np.uint8)
        image[60:120, 65:95] = 255  # seen 60 wide and 60 high
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    (frame,) = read_all(open_source(camera(path)))
    assert (frame.width_px, frame.height_px) == (320, 180)
    white = frame.image[:, :, 0] > 128
    assert white.any(axis=0).sum() == pytest.approx(60, abs=2)
    assert white.any(axis=1).sum() == pytest.approx(60, abs=2)
