"""The reference against plain loops, OpenCV and its own promises."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_app.contract.errors import InputSpecError
from edge_app.contract.preprocess import InputSpec, LetterboxMap, preprocess, resize

SIZES = st.integers(1, 90)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def bilinear_loop(image: np.ndarray, width: int, height: int) -> np.ndarray:
    source_height, source_width = image.shape[:2]
    out = np.zeros((height, width, 3))
    for row in range(height):
        for column in range(width):
            y = min(max((row + 0.5) * source_height / height - 0.5, 0), source_height - 1)
            x = min(max((column + 0.5) * source_width / width - 0.5, 0), source_width - 1)
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(top + 1, source_height - 1), min(left + 1, source_width - 1)
            upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
            out[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return out


@pytest.mark.parametrize("size", [(7, 5, 3, 9), (1, 1, 4, 4), (20, 3, 6, 6), (8, 8, 8, 8)])
def test_bilinear_is_the_plain_loop(size: tuple[int, int, int, int]) -> None:
    image = picture(size[0], size[1])
    oracle = bilinear_loop(image, size[2], size[3])
    assert np.abs(resize(image, size[2], size[3], "bilinear") - oracle).max() <= 0.5 + 1e-9


@settings(max_examples=150, deadline=None)
@given(SIZES, SIZES, SIZES, SIZES, st.sampled_from(["bilinear", "area"]))
def test_resize_is_opencv_within_one_grey_level(width: int, height: int, new_width: int, new_height: int, kernel: str):
    image = picture(width, height, seed=width * 91 + height)
    shrinks = new_width <= width and new_height <= height
    flag = cv2.INTER_AREA if kernel == "area" and shrinks else cv2.INTER_LINEAR
    expected = cv2.resize(image, (new_width, new_height), interpolation=flag)
    found = resize(image, new_width, new_height, kernel)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(1, 1280),
    st.integers(1, 1280),
    st.sampled_from(["stretch", "letterbox"]),
    st.sampled_from(["center", "top-left"]),
    st.integers(0, 2**32 - 1),
)
def test_map_back_of_forward_is_identity(width, height, to_width, to_height, mode, align, seed) -> None:
    spec = InputSpec(width_px=to_width, height_px=to_height, resize=mode, letterbox_align=align)
    place = spec.place(width, height)
    boxes = np.random.default_rng(seed).uniform(0, [width, height, width, height], (20, 4))
    np.testing.assert_allclose(place.back(place.forward(boxes)), boxes, rtol=0, atol=1e-9 * max(width, height, 1))
    whole = place.forward(np.array([[0.0, 0.0, width, height]]))
    assert whole.min() >= 0
    assert whole[0, 2] <= to_width + 1e-9
    assert whole[0, 3] <= to_height + 1e-9


def test_letterbox_aligns_as_named() -> None:
    centred = InputSpec(width_px=100, height_px=100, resize="letterbox")
    corner = centred.model_copy(update={"letterbox_align": "top-left"})
    assert centred.place(200, 100) == LetterboxMap(200, 100, 100, 50, 0, 25)
    assert corner.place(200, 100) == LetterboxMap(200, 100, 100, 50, 0, 0)
    assert centred.place(50, 100).left_px == 25


def test_preprocess_pads_orders_and_normalises() -> None:
    spec = InputSpec(
        width_px=4,
        height_px=4,
        scale=1 / 255,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.25, 0.5),
        resize="letterbox",
        pad_value=51,
    )
    image = np.zeros((1, 2, 3), np.uint8)
    image[...] = (10, 20, 30)  # BGR
    out = preprocess(image, spec)
    assert out.shape == (3, 4, 4)
    assert out.dtype == np.float32
    for channel, grey in enumerate((30, 20, 10)):
        expected = (grey / 255 - spec.mean[channel]) / spec.std[channel]
        padding = (51 / 255 - spec.mean[channel]) / spec.std[channel]
        np.testing.assert_allclose(out[channel, 1:3], expected, rtol=1e-6)
        np.testing.assert_allclose(out[channel, [0, 3]], padding, rtol=1e-6)


def test_raw_bgr_input_keeps_grey_levels() -> None:
    image = picture(6, 5)
    out = preprocess(image, InputSpec(width_px=6, height_px=5, channel_order="BGR", scale=1))
    np.testing.assert_array_equal(out, image.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 3), np.float32),
    ],
)
def test_refuses_what_is_no_picture(image: np.ndarray) -> None:
    with pytest.raises(InputSpecError):
        preprocess(image, InputSpec(width_px=4, height_px=4))


@pytest.mark.parametrize(
    "wrong",
    [
        {"std": (0, 1, 1)},
        {"scale": 0},
        {"width_px": 0},
        {"mean": (math.nan, 0, 0)},
        {"kernel": "bicubic"},
        {"hight_px": 3},
    ],
)
def test_refuses_a_wrong_description(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        InputSpec(**{"width_px": 4, "height_px": 4, **wrong})
