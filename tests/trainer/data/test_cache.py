"""Decoded crops: what the contract says, once, and never half."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_app.contract.preprocess import InputSpec, preprocess
from trainer.data.cache import cached, fit
from trainer.data.listing import list_images
from trainer.data.records import Row, crops_of
from trainer.errors import DataError, WorldError

SPEC = InputSpec(width_px=16, height_px=24)


@pytest.fixture
def crops(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(5):
        image = generator.integers(0, 256, (30 + number, 20, 3), dtype=np.uint8)
        (tmp_path / "crops").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "crops" / f"{number}.png"), image)
    return crops_of([Row(path, camera=1) for path in list_images(tmp_path / "crops")])


@pytest.mark.parametrize("change", [{}, {"kernel": "area"}, {"resize": "letterbox"}, {"channel_order": "BGR"}])
@pytest.mark.parametrize("size", [(40, 30), (12, 9), (24, 16)])
def test_fit_is_the_reference_within_a_grey_level(change, size):
    spec = SPEC.model_copy(update={**change, "scale": 1.0})
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = preprocess(image, spec).transpose(1, 2, 0)
    assert np.abs(fit(image, spec).astype(int) - expected).max() <= 1


def test_pictures_are_decoded_once(crops, tmp_path):
    told = []
    first = cached(crops, SPEC, tmp_path / "cache", progress=told.append)
    assert sum(told) == 5
    again = cached(crops, SPEC, tmp_path / "cache", progress=told.append)
    assert sum(told) == 5
    assert first.pixels.shape == (5, 24, 16, 3)
    assert not first.pixels.flags.writeable
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.pixels[3], fit(cv2.imread(str(crops.paths[3])), SPEC))


def test_a_changed_file_or_size_is_decoded_anew(crops, tmp_path):
    before = cached(crops, SPEC, tmp_path / "cache").pixels.copy()
    cv2.imwrite(str(crops.paths[0]), np.zeros((30, 20, 3), np.uint8))
    after = cached(crops, SPEC, tmp_path / "cache").pixels
    assert (after[0] == 0).all()
    np.testing.assert_array_equal(before[1:], after[1:])
    assert cached(crops, SPEC.model_copy(update={"width_px": 8}), tmp_path / "cache").pixels.shape[2] == 8


def test_bad_files_are_left_out_by_name_up_to_the_limit(crops, tmp_path):
    crops.paths[2].write_bytes(b"no picture")
    result = cached(crops, SPEC, tmp_path / "cache")  # one always may
    assert [item.path for item in result.bad] == [crops.paths[2]]
    assert result.kept.tolist() == [0, 1, 3, 4]
    assert len(result.crops) == len(result.pixels) == 4
    crops.paths[1].unlink()
    with pytest.raises(DataError, match=r"2 of 5 pictures cannot be read(.|\n)*1\.png(.|\n)*2\.png"):
        cached(crops, SPEC, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix == ".part"]


def test_a_full_disk_is_said_before_decoding(crops, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=10))
    with pytest.raises(WorldError, match=r"need .* GiB .* free: make room or set data\.cache"):
        cached(crops, SPEC, tmp_path / "cache")


ROOT = Path(__file__).resolve().parents[3]
DECODE = """
import sys
from pathlib import Path
from edge_app.contract.preprocess import InputSpec
from trainer.data.cache import cached
from trainer.data.records import Row, crops_of
crops = crops_of([Row(Path(name), camera=1) for name in sys.argv[2:]])
print(cached(crops, InputSpec(width_px=16, height_px=24), Path(sys.argv[1])).pixels.shape)
"""


def writer_of(pipe):
    """The pipe, open for writing, once another process reads it."""
    until_s = time.monotonic() + 60
    while True:
        try:
            return os.fdopen(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb")
        except OSError:
            assert time.monotonic() < until_s
            time.sleep(0.01)


@pytest.fixture
def stuck(crops, tmp_path):
    """`stuck(name)` → a process in the middle of decoding: its last crop is a pipe, and it waits for our picture; the
    crops; the other end of the pipe; the file that it writes."""
    folder, processes = tmp_path / "cache", []

    def start(name):
        pipe = tmp_path / name
        os.mkfifo(pipe)
        paths, before = [*crops.paths, pipe], set(folder.glob("*.part"))
        command = [sys.executable, "-c", DECODE, folder, *paths]
        processes.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        writer = writer_of(pipe)
        (part,) = set(folder.glob("*.part")) - before
        return processes[-1], crops_of([Row(path, camera=1) for path in paths]), writer, part

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def kill(process, writer):
    process.kill()
    process.wait()
    writer.close()


def send_picture(writer, crops):
    with writer:
        writer.write(crops.paths[0].read_bytes())


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(crops, stuck, tmp_path):
    killed, _, to_killed, left = stuck("one")
    living, _, to_living, at_work = stuck("two")
    kill(killed, to_killed)
    assert left.exists()
    cached(crops, SPEC, tmp_path / "cache")
    assert not left.exists()
    assert at_work.exists()
    send_picture(to_living, crops)
    assert living.communicate(timeout=60)[0] == "(6, 24, 16, 3)\n"
    assert {path.suffix for path in at_work.parent.iterdir()} == {".u8", ".json"}


def test_the_crops_of_a_killed_process_are_decoded_anew(crops, stuck, tmp_path):
    killed, same, to_killed, _ = stuck("one")
    kill(killed, to_killed)
    threading.Thread(target=lambda: send_picture(writer_of(same.paths[-1]), crops)).start()
    found = cached(same, SPEC, tmp_path / "cache")
    assert not found.bad
    np.testing.assert_array_equal(found.pixels[5], found.pixels[0])


def test_the_same_crops_are_decoded_by_one_process_while_the_other_waits(crops, stuck, tmp_path):
    first, same, to_first, _ = stuck("one")
    found, told = [], []
    second = threading.Thread(target=lambda: found.append(cached(same, SPEC, tmp_path / "cache", progress=told.append)))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    send_picture(to_first, crops)
    second.join(60)
    assert first.wait(60) == 0
    assert found[0].pixels.shape == (6, 24, 16, 3)
    assert told == []


def test_no_crops():
    with pytest.raises(DataError, match="no crop to read"):
        cached(crops_of([]), SPEC, None)
