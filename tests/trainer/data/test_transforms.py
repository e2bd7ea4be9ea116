"""Augmentation on tensors against pixel loops."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")

from edge_app.contract.preprocess import InputSpec, preprocess  # noqa: E402
from trainer.data.transforms import (  # noqa: E402
    ERASE_FILL,
    Augment,
    AugmentSettings,
    erase,
    normalise,
    shift_and_flip,
)

SPEC = InputSpec(width_px=12, height_px=20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def pictures(count=6, height=20, width=12):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_shift_and_flip_is_pad_and_crop_of_the_mirror_image():
    pixels = pictures()
    shift = torch.tensor([[0, 0], [3, -2], [-4, 4], [4, 0], [-1, -1], [0, 2]])
    flip = torch.tensor([False, True, False, True, True, False])
    found = shift_and_flip(pixels, shift, flip)
    for number in range(len(pixels)):
        picture = pixels[number].numpy()
        picture = picture[:, ::-1] if flip[number] else picture
        padded = np.pad(picture, ((4, 4), (4, 4), (0, 0)))
        top, left = (shift[number] + 4).tolist()
        assert np.array_equal(found[number].numpy(), padded[top : top + 20, left : left + 12])


def test_normalise_is_the_contract():
    picture = pictures(1)[0].numpy()
    expected = preprocess(np.ascontiguousarray(picture[:, :, ::-1]), SPEC)  # the contract takes BGR
    np.testing.assert_allclose(normalise(torch.from_numpy(picture)[None], SPEC)[0].numpy(), expected, atol=2e-6)


def test_erase_fills_one_rectangle():
    images = torch.zeros(2, 3, 20, 12)
    found = erase(images, torch.tensor([[2, 3, 4, 5], [0, 0, 0, 0]]))
    expected = images.clone()
    expected[0, :, 2:6, 3:8] = torch.tensor(ERASE_FILL)[:, None, None]
    assert torch.equal(found, expected)


def test_rectangles_obey_the_recipe():
    draws = Augment(AugmentSettings()).draw(4000, (256, 128), torch.Generator().manual_seed(0))
    top, left, height, width = draws.erase.unbind(1)
    erased = height > 0
    assert 0.45 < erased.float().mean() < 0.55
    assert 0.45 < draws.flip.float().mean() < 0.55
    share = (height * width)[erased] / (256 * 128)
    assert 0.018 < share.min() < 0.03
    assert 0.35 < share.max() < 0.41
    assert ((top >= 0) & (top + height <= 256) & (left >= 0) & (left + width <= 128)).all()
    assert draws.shift.min() == 0
    assert draws.shift.max() == 20


def test_the_same_generator_state_gives_the_same_view():
    augment, pixels = Augment(AugmentSettings(pad_px=2)), pictures()
    views = [augment.apply(pixels, augment.draw(6, (20, 12), torch.Generator().manual_seed(5)), SPEC) for _ in range(2)]
    assert torch.equal(*views)
    part = augment.draw(6, (20, 12), torch.Generator().manual_seed(5)).part(torch.arange(3, 6))
    assert torch.equal(augment.apply(pixels[3:], part, SPEC), views[0][3:])
