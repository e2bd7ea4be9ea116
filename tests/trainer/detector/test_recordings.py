"""The trainer sees the same picture of the same file as the roadside does."""

import struct
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("av", reason="recordings need PyAV")

import av

from edge_app.sources import open_source
from edge_app.sources.settings import CameraSettings
from trainer.detector import recordings
from trainer.detector.frames import pictures_of
from trainer.detector.recordings import frames_of
from trainer.errors import DataError

ONE = 1 << 16
TURNS = {  # display matrix, and where the red corner, stored at the top left, is then seen: right?, below?
    "upright": ((ONE, 0, 0, ONE), (False, False)),
    "clockwise": ((0, ONE, -ONE, 0), (True, False)),
    "upside down": ((-ONE, 0, 0, -ONE), (True, True)),
    "counterclockwise": ((0, -ONE, ONE, 0), (False, True)),
    "mirrored": ((-ONE, 0, 0, ONE), (True, False)),
}
SIZES = {Fraction(1): (96, 64), Fraction(2): (192, 64), Fraction(1, 2): (96, 128)}  # with square pixels, by their shape


def write_clip(path, count=12, matrix=TURNS["upright"][0], aspect=Fraction(1), gop=10, codec="libx264"):
    """Frames of 96 × 64 whose grey tells their number, with a red corner at the top left; the file says how they are
    turned, and how wide a pixel is."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 96, 64, "yuv420p", gop
        stream.codec_context.sample_aspect_ratio = aspect
        for number in range(count):
            image = np.full((64, 96, 3), 16 + number % 200, np.uint8)
            image[:16, :16] = (0, 0, 255)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    if path.suffix == ".mp4":
        content = bytearray(path.read_bytes())
        begin = content.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2
        a, b, c, d = matrix
        content[begin : begin + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        path.write_bytes(bytes(content))
    return path


def at_the_roadside(path):
    source, images = open_source(CameraSettings(id="gate", source=str(path))), []
    try:
        while (frame := source.read()) is not None:
            images.append(frame.image)
    finally:
        source.close()
    return images


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("aspect", SIZES)
def test_the_two_halves_see_the_same_picture_of_the_same_recording(tmp_path, turn, aspect):
    matrix, (right, below) = TURNS[turn]
    path = write_clip(tmp_path / "clip.mp4", matrix=matrix, aspect=aspect)
    seen = list(frames_of(path, 100))
    for (number, image), (place, wanted) in zip(seen, enumerate(at_the_roadside(path)), strict=True):
        assert number == place
        np.testing.assert_array_equal(image, wanted)
    _, image = seen[0]
    width, height = SIZES[aspect][::-1] if matrix[0] == 0 else SIZES[aspect]
    assert image.shape == (height, width, 3)
    rows, columns = np.nonzero((image[:, :, 2] > 180) & (image[:, :, 1] < 90))
    assert (columns.mean() > width / 2, rows.mean() > height / 2) == (right, below)


@pytest.mark.parametrize("name", ["long.mp4", "long.mkv", "long.avi", "long.264"])
def test_far_frames_are_those_of_their_numbers(tmp_path, monkeypatch, name):
    path = write_clip(tmp_path / name, count=180)
    monkeypatch.setattr(recordings, "SEEK", 20)
    wanted = at_the_roadside(path)
    for number, image in frames_of(path, 5):
        np.testing.assert_array_equal(image, wanted[number])


def test_a_damaged_recording_gives_what_can_be_decoded_and_says_what_not(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", count=100)
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat")
    (size,) = struct.unpack(">I", content[begin - 4 : begin])
    noise = np.random.default_rng(0).bytes(size // 3)
    content[begin + size // 2 : begin + size // 2 + len(noise)] = noise
    path.write_bytes(bytes(content))
    said: list[str] = []
    given = len(list(pictures_of(path, 100, said.append)))
    assert 1 <= given < 100
    (line,) = said
    assert f"clip.mp4: {given} of 100 frames, " in line
    assert " 0 damaged" not in line


def test_sound_alone_is_no_recording(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"sound\.mp4: holds no video"):
        list(pictures_of(path, 5))
