"""Damaged recordings: good frames are given, no picture of noise is, and what is lost is said."""

from itertools import pairwise

import av
import numpy as np
import pytest
from made_up_clips import camera, damaged, level, truncated

from edge_app.errors import SourceError
from edge_app.sources import check_source, open_source
from edge_app.types import Frame


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
