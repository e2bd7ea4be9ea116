import gc
import shutil
import socket
import struct
import subprocess
import time
from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from edge_app.errors import SourceError
from edge_app.sources import check_source, open_source
from edge_app.sources.settings import RECORDING_START, CameraSettings
from edge_app.types import Frame

START_S = RECORDING_START.timestamp()


def camera(path, **more) -> CameraSettings:
    return CameraSettings(id="gate", source=str(path), **more)


def level(frame) -> int:
    """The index (modulo 24) that the made-up picture carries in its grey."""
    return round((float(np.median(frame.image)) - 16) / 8)


def test_a_clip_gives_its_frames_in_order(clip, read_all):
    frames = read_all(open_source(camera(clip)))
    assert [frame.time_s for frame in frames] == pytest.approx([START_S + k * 0.04 for k in range(50)], abs=1e-6)
    assert [level(frame) for frame in frames] == [k % 24 for k in range(50)]
    assert [frame.sequence for frame in frames] == list(range(50))
    assert {(frame.camera, frame.width_px, frame.height_px) for frame in frames} == {("gate", 160, 96)}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("b_frames.mp4", {"b_frames": 2}),
        ("matroska.mkv", {"b_frames": 2}),
        ("stream.ts", {}),
        ("raw.264", {}),
        ("old.avi", {"codec": "mpeg4"}),
        ("old.mp4", {"codec": "mpeg4"}),
        ("b_frames.avi", {"b_frames": 2}),  # it tells times of decoding only
    ],
)
def test_many_formats_give_the_same_frames(tmp_path, write_clip, read_all, name, options):
    frames = read_all(open_source(camera(write_clip(tmp_path / name, **options))))
    times = np.array([frame.time_s for frame in frames])
    assert len(frames) == 50
    assert times[0] == pytest.approx(START_S, abs=0.1)
    assert np.diff(times) == pytest.approx(0.04, abs=2e-3)
    assert [level(frame) for frame in frames] == [k % 24 for k in range(50)]


def test_start_time_and_fps(clip, read_all):
    frames = read_all(open_source(camera(clip, start_time=1777629600, fps=5)))
    assert [frame.time_s for frame in frames] == pytest.approx([1777629600 + k * 0.2 for k in range(10)], abs=1e-6)
    assert [level(frame) for frame in frames] == [k * 5 % 24 for k in range(10)]


@pytest.mark.parametrize("name", ["resume.mp4", "resume.mkv", "resume.264", "resume.ts"])
@pytest.mark.parametrize("fps", [None, 10])
def test_resuming_gives_the_tail_of_the_unbroken_read(tmp_path, write_clip, read_all, name, fps):
    settings = camera(write_clip(tmp_path / name), fps=fps)
    whole = read_all(open_source(settings))
    afters = [START_S - 5, *(frame.time_s for frame in whole[:: 1 if fps else 3]), START_S + 0.9999, START_S + 99]
    for after_s in afters:
        tail = read_all(open_source(settings, after_s))
        expected = [frame for frame in whole if frame.time_s > after_s]
        assert [frame.time_s for frame in tail] == [frame.time_s for frame in expected]
        assert all(np.array_equal(got.image, want.image) for got, want in zip(tail, expected, strict=True))


def test_a_missing_file(tmp_path):
    problem = check_source(camera(tmp_path / "none.mp4"))
    assert problem == f"camera gate ({tmp_path}/none.mp4): no such file"
    assert "is not a file" in check_source(camera(tmp_path))


@pytest.mark.parametrize("content", [b"", b"a diary, not a film\n" * 400, bytes(range(256)) * 64])
def test_a_file_that_is_no_video(tmp_path, content):
    path = tmp_path / "diary.mp4"
    path.write_bytes(content)
    assert check_source(camera(path)) == f"camera gate ({path}): cannot be opened: not a video file"


def test_a_sound_recording_holds_no_video(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), layout="mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
        container.mux(stream.encode())
    assert "holds no video" in check_source(camera(path))


def truncated(source, target, share: float):
    """The first `share` of an MP4 whose index stands in front, so that the rest of it can still be opened."""
    front = target.with_name("front.mp4")
    with av.open(str(source)) as old, av.open(str(front), "w", options={"movflags": "faststart"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    content = front.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


def test_a_truncated_file_gives_its_good_frames_and_then_the_error(tmp_path, write_clip):
    path = truncated(write_clip(tmp_path / "whole.mp4", count=150), tmp_path / "half.mp4", 0.5)
    source = open_source(camera(path))
    frames: list[Frame] = []
    with pytest.raises(SourceError, match=r"camera gate .*half\.mp4\): the file is truncated: its index says 6\.0 s"):
        frames.extend(iter(source.read, None))
    source.close()
    assert 40 < len(frames) < 120
    assert [level(frame) for frame in frames[:-1]] == [k % 24 for k in range(len(frames) - 1)]


def test_a_file_whose_index_was_cut_off_cannot_be_opened(clip, tmp_path):
    path = tmp_path / "headless.mp4"
    path.write_bytes(clip.read_bytes()[:-2000])
    assert check_source(camera(path)) == f"camera gate ({path}): cannot be opened: not a video file"


def test_a_changed_picture_size_is_an_error(tmp_path, write_clip):
    small, large = write_clip(tmp_path / "s.264", count=10), write_clip(tmp_path / "l.264", count=10, size=(320, 192))
    path = tmp_path / "both.264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    source = open_source(camera(path))
    frames = [source.read() for _ in range(10)]
    with pytest.raises(SourceError, match="picture size changed from 160x96 to 320x192"):
        source.read()
    source.close()
    assert all(frame.width_px == 160 for frame in frames)


def test_damaged_packets_are_skipped_and_counted(tmp_path, write_clip):
    path = write_clip(tmp_path / "clip.264", count=100)
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(1)
    for position in rng.integers(len(content) // 3, 2 * len(content) // 3, 40):
        content[position] ^= 0xFF
    path.write_bytes(bytes(content))
    source = open_source(camera(path))
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    assert source.losses.damaged > 0
    assert 60 < len(frames) <= 100
    times = [frame.time_s for frame in frames]
    assert all(later > earlier for earlier, later in pairwise(times))


def test_nothing_but_damaged_packets_is_an_error(tmp_path, write_clip):
    path = tmp_path / "noise.mp4"
    with av.open(str(write_clip(tmp_path / "clip.mp4", count=150))) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                noise = av.Packet(b"\xff" * 64)
                noise.stream, noise.pts, noise.dts, noise.time_base = stream, packet.pts, packet.dts, packet.time_base
                new.mux(noise)
    assert check_source(camera(path)).endswith("holds no picture that can be decoded")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("rtsp://127.0.0.1:1/stream", "connection refused; check host and port"),
        ("rtsp://camera.invalid/stream", "the host name camera.invalid cannot be resolved"),
    ],
)
def test_a_wrong_rtsp_address_is_one_clear_error_without_the_password(monkeypatch, capfd, source, words):
    monkeypatch.setenv("GATE_PASSWORD", "s3cret")
    problem = check_source(camera(source, username="admin", password_env="GATE_PASSWORD"))
    assert problem == f"camera gate ({source}): cannot be opened: {words}"
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_an_rtsp_camera_that_accepts_and_says_nothing_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began_s = time.monotonic()
        problem = check_source(camera(f"rtsp://127.0.0.1:{port}/1", open_timeout_s=0.5))
        assert time.monotonic() - began_s < 3
    assert "no answer within 0.5 s" in problem


def test_a_simulated_camera_bears_the_name_it_has_in_its_world():
    problem = check_source(camera("sim://town/nowhere?seconds=1"))
    assert problem is not None
    assert "nowhere" in problem


@pytest.mark.parametrize(
    ("name", "count", "size", "fps"),
    [
        pytest.param("terrace1-c0.mp4", 3000, (360, 288), 25, marks=pytest.mark.long),
        ("car-detection.mp4", 377, (768, 432), 12.5),
        ("people-detection.264", 596, (768, 432), 24),
        pytest.param("traffic.mp4", 925, (1280, 720), 30, marks=pytest.mark.long),
    ],
)
def test_real_clips(shared_data, name, count, size, fps):
    source = open_source(camera(shared_data / "videos" / name, fps=None))
    times, sizes = [], set()
    while (frame := source.read()) is not None:
        times.append(frame.time_s)
        sizes.add((frame.width_px, frame.height_px))
    source.close()
    assert (len(times), sizes, source.losses.words()) == (count, {size}, ())
    assert times[0] == pytest.approx(START_S)
    assert np.all(np.diff(times) > 0)
    assert np.median(np.diff(times)) == pytest.approx(1 / fps, rel=1e-3)


ONE = 1 << 16
TURNS = {  # display matrix, and where the stored corners (top left, top right, bottom left) are then seen
    "upright": ((ONE, 0, 0, ONE), ("top left", "top right", "bottom left")),
    "clockwise": ((0, ONE, -ONE, 0), ("top right", "bottom right", "top left")),
    "upside down": ((-ONE, 0, 0, -ONE), ("bottom right", "bottom left", "top right")),
    "counterclockwise": ((0, -ONE, ONE, 0), ("bottom left", "top left", "bottom right")),
    "mirrored": ((-ONE, 0, 0, ONE), ("top right", "top left", "bottom right")),
}
CORNERS = {"top left": (8, 8), "top right": (8, -8), "bottom left": (-8, 8), "bottom right": (-8, -8)}


def turned_clip(path, matrix):
    """A picture with a red, a green and a blue corner, whose file says how it is to be turned."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        image = np.zeros((96, 160, 3), np.uint8)
        for channel, corner in enumerate(("bottom left", "top right", "top left")):  # blue, green, red in BGR
            y, x = CORNERS[corner]
            image[
                (slice(0, 24) if y > 0 else slice(-24, None)), (slice(0, 24) if x > 0 else slice(-24, None)), channel
            ] = 255
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    begin = content.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2
    a, b, c, d = matrix
    content[begin : begin + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(content))
    return path


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


def test_a_cover_picture_is_not_the_recording(tmp_path, write_clip, read_all):
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("no ffmpeg to put a cover into a file")
    clip, cover, both = write_clip(tmp_path / "clip.mp4"), tmp_path / "cover.png", tmp_path / "both.mp4"
    cv2.imwrite(str(cover), np.zeros((64, 64, 3), np.uint8))
    command = [ffmpeg, "-v", "error", "-i", clip, "-i", cover, "-map", "1", "-map", "0", "-c", "copy"]
    subprocess.run([*command, "-disposition:v:0", "attached_pic", both], check=True)
    assert len(read_all(open_source(camera(both)))) == 50


def damaged(source, target, begin: float, end: float):
    """The file with noise from one share of it to another."""
    content = bytearray(source.read_bytes())
    first, last = int(begin * len(content)), int(end * len(content))
    content[first:last] = np.random.default_rng(1).integers(0, 256, last - first, dtype=np.uint8).tobytes()
    target.write_bytes(bytes(content))
    return target


@pytest.mark.parametrize("name", ["clip.ts", "clip.mkv", "clip.mp4", "clip.264"])
def test_no_picture_of_noise_is_given_and_what_is_lost_is_counted(tmp_path, write_clip, name):
    path = damaged(write_clip(tmp_path / name, count=200), tmp_path / f"damaged-{name}", 0.4, 0.5)
    source = open_source(camera(path))
    frames = list(iter(source.read, None))
    source.close()
    assert 100 < len(frames) < 200
    for frame in frames:  # a flat grey with a square of 16 by 16 pixels in it
        level_of_grey = np.median(frame.image)
        strange = np.abs(frame.image.astype(int) - level_of_grey).max(axis=2) > 40
        strange[8:24] = False
        assert strange.mean() < 0.01
    said = "; ".join(source.losses.words())
    assert "damaged packets or pictures were left out" in said
    if not name.endswith("264"):  # raw H.264 holds no times
        assert source.losses.missing_s == pytest.approx((200 - len(frames)) * 0.04, abs=0.1)


@pytest.mark.parametrize("name", ["clip.ts", "clip.264", "clip.mkv", "clip.avi", "clip.flv"])
def test_what_is_missing_at_the_end_is_an_error(tmp_path, write_clip, name):
    whole = write_clip(tmp_path / name, count=100, codec="mpeg4" if name.endswith("avi") else "libx264")
    noisy = damaged(whole, tmp_path / f"noise-{name}", 0.6, 1.0)
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    indexed = name not in ("clip.ts", "clip.264")  # of the others, nobody can know that they are cut
    for path in [noisy, cut] if indexed else [noisy]:
        source = open_source(camera(path))
        with pytest.raises(SourceError, match=r"the file is (truncated|damaged): its .*; copy it again"):
            list(iter(source.read, None))
        source.close()


def test_a_gap_in_the_middle_of_a_recording_is_said(tmp_path, write_clip, read_all):
    clip, path = write_clip(tmp_path / "clip.mp4", count=150), tmp_path / "gap.mkv"
    with av.open(str(clip)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None and not 40 <= packet.pts * packet.time_base * 25 < 80:
                packet.stream = stream
                new.mux(packet)
    source = open_source(camera(path))
    assert len(read_all(source)) == 110
    assert source.losses.words() == ("pictures are missing for 1.6 s in all",)


def test_pictures_are_freed_as_they_are_read(clip):
    """A decoded picture in a circle of references lives on with its memory and threads until the collector comes."""
    source = open_source(camera(clip))
    gc.collect()
    gc.disable()
    try:
        while source.read() is not None:
            pass
        alive = sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())
    finally:
        gc.enable()
        source.close()
    assert alive <= 3


@pytest.mark.parametrize("name", ["late.ts", "late.mkv"])
def test_a_recording_that_begins_in_the_middle_says_so_and_one_without_a_picture_is_an_error(
    tmp_path, write_clip, read_all, name
):
    clip = write_clip(tmp_path / "clip.mp4", count=150)
    for path, keys_from_s in ((tmp_path / name, 3.0), (tmp_path / f"none-{name}", 99.0)):
        with av.open(str(clip)) as old, av.open(str(path), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(old.streams.video[0]):
                if packet.dts is not None and (not packet.is_keyframe or packet.pts * packet.time_base >= keys_from_s):
                    packet.stream = stream
                    new.mux(packet)
    source = open_source(camera(tmp_path / name))
    assert 50 < len(read_all(source)) <= 75
    missing_s = float(source.losses.words()[-1].removeprefix("pictures are missing for ").split()[0])
    assert missing_s == pytest.approx(3.0, abs=0.2)
    source = open_source(camera(tmp_path / f"none-{name}"))
    with pytest.raises(SourceError, match="holds no picture that can be decoded"):
        read_all(source)
