"""Recordings and addresses that are opened: order, times, formats, resuming, and one clear error for the rest."""

import gc
import socket
import time

import av
import numpy as np
import pytest
from made_up_clips import START_S, camera, level

from edge_app.sources import check_source, open_source


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


def test_a_cover_picture_is_not_the_recording(tmp_path, write_clip, read_all):
    with av.open(write_clip(tmp_path / "clip.mp4")) as clip, av.open(tmp_path / "both.mp4", "w") as both:
        cover = both.add_stream("png", width=64, height=64, pix_fmt="rgb24")
        cover.disposition = av.stream.Disposition.attached_pic
        film = both.add_stream_from_template(clip.streams.video[0])
        black = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
        both.mux([*cover.encode(black), *cover.encode()])
        for packet in clip.demux(video=0):
            if packet.dts is not None:  # the last one is empty
                packet.stream = film
                both.mux(packet)
    with av.open(tmp_path / "both.mp4") as both:
        assert len(both.streams.video) == 2
    assert len(read_all(open_source(camera(tmp_path / "both.mp4")))) == 50


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
