"""The OpenCV path gives the reference's batch within one grey level, for any picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_app.contract.errors import InputSpecError
from edge_app.contract.preprocess import InputSpec, preprocess
from edge_app.perception.preprocess import Preprocessor

SIDES = st.one_of(st.integers(1, 4), st.integers(1, 200), st.just(600))


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=4),
    st.integers(8, 96),
    st.integers(8, 96),
    st.sampled_from(["stretch", "letterbox"]),
    st.sampled_from(["bilinear", "area"]),
    st.sampled_from(["center", "top-left"]),
    st.sampled_from(["RGB", "BGR"]),
)
def test_equal_to_the_reference_within_one_grey_level(sizes, width, height, resize, kernel, align, order) -> None:
    spec = InputSpec(
        width_px=width,
        height_px=height,
        channel_order=order,
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        resize=resize,
        kernel=kernel,
        letterbox_align=align,
    )
    rng = np.random.default_rng(width * 1000 + height)
    images = [rng.integers(0, 256, (rows, columns, 3), np.uint8) for columns, rows in sizes]
    fast = Preprocessor(spec, max_batch=4)
    fast(images[::-1])  # whatever was there before must not shine through
    found, places = fast(images)
    expected = np.stack([preprocess(image, spec) for image in images])
    one_grey_level = (spec.scale / np.array(spec.std))[None, :, None, None]
    assert found.shape == expected.shape
    assert found.flags.c_contiguous
    assert (np.abs(found - expected) <= one_grey_level * 1.001).all()
    assert places == [spec.place(image.shape[1], image.shape[0]) for image in images]


def test_without_resizing_it_is_the_reference_exactly() -> None:
    spec = InputSpec(width_px=40, height_px=30, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    np.testing.assert_allclose(Preprocessor(spec, 1)([image])[0][0], preprocess(image, spec), rtol=0, atol=1e-6)


def test_slices_of_a_frame_need_no_copy() -> None:
    spec = InputSpec(width_px=20, height_px=20)
    frame = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    crop = frame[11:72, 33:80]
    assert not crop.flags.c_contiguous
    np.testing.assert_array_equal(Preprocessor(spec, 1)([crop])[0], Preprocessor(spec, 1)([crop.copy()])[0])


def test_refuses_empty_pictures() -> None:
    with pytest.raises(InputSpecError, match="at least 1"):
        Preprocessor(InputSpec(width_px=20, height_px=20), 1)([np.zeros((0, 5, 3), np.uint8)])


def test_a_network_that_takes_grey_levels_gets_them() -> None:
    spec = InputSpec(width_px=24, height_px=16, scale=1.0, channel_order="RGB")
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    batch, _ = Preprocessor(spec, 2, np.dtype(np.uint8))([image, image[:, ::-1]])
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch[0], image[:, :, ::-1].transpose(2, 0, 1))
    boxed = InputSpec(width_px=24, height_px=16, scale=1.0, resize="letterbox")  # padding to the left and to the right
    tall = np.random.default_rng(1).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    (grey,), _ = Preprocessor(boxed, 1, np.dtype(np.uint8))([tall])
    assert np.abs(grey - preprocess(tall, boxed)).max() <= 1
    with pytest.raises(InputSpecError, match="describe scale 1"):
        Preprocessor(InputSpec(width_px=24, height_px=16), 1, np.dtype(np.uint8))
