"""Decoded crops: what the contract says, once, and never half."""

import shutil

import cv2
import numpy as np
import pytest

from edge_app.contract.preprocess import InputSpec, preprocess
from trainer.data.cache import cached, fit
from trainer.data.images import list_images
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


def test_no_crops():
    with pytest.raises(DataError, match="no crop to read"):
        cached(crops_of([]), SPEC, None)
