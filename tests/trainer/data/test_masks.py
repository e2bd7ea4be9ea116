"""The masked view: the same picture as the clean one, with black squares."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")

from edge_app.contract.preprocess import InputSpec  # noqa: E402
from trainer.data.masks import Masked, MaskSettings, cover, squares  # noqa: E402
from trainer.data.transforms import Augment, AugmentSettings, normalise  # noqa: E402

SPEC = InputSpec(width_px=24, height_px=20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
MOVES = AugmentSettings(pad_px=3, erase=0)


def views(count=7, **mask):
    """The clean and the masked view of the same crops, and the squares."""
    pixels = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (count, 20, 24, 3), dtype=np.uint8))
    images, places = [], None
    for view in (Augment(MOVES), Masked(MOVES, MaskSettings(**mask))):
        draws = view.draw(count, (20, 24), torch.Generator().manual_seed(5))
        images.append(view.apply(pixels, draws, SPEC))
        places = draws.erase
    return *images, places


def test_without_squares_both_views_are_one():
    clean, masked, _ = views(sides=())
    assert torch.equal(clean, masked)


def test_both_views_share_flip_and_shift_and_differ_in_the_squares_only():
    clean, masked, places = views()
    black = normalise(torch.zeros(1, 1, 1, 3, dtype=torch.uint8), SPEC)[0]
    for number, one in enumerate(places.tolist()):
        expected = clean[number].clone()
        for top, left, height, width in one:
            rows, columns = slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0))
            expected[:, rows, columns] = black
        torch.testing.assert_close(masked[number], expected)
    assert not torch.equal(clean, masked)


def test_the_mean_colour_is_zero_after_normalisation():
    clean, masked, _ = views(fill="mean")
    changed = (clean != masked).any(1)
    assert changed.any()
    assert (masked.movedim(1, 3)[changed] == 0).all()


def test_a_share_of_a_batch_has_the_squares_of_the_whole():
    view = Masked(MOVES, MaskSettings())
    draws = view.draw(6, (20, 24), torch.Generator().manual_seed(1))
    pixels = torch.full((6, 20, 24, 3), 200, dtype=torch.uint8)
    rows = torch.tensor([1, 4])
    assert torch.equal(view.apply(pixels[rows], draws.part(rows), SPEC), view.apply(pixels, draws, SPEC)[rows])


def test_the_squares_cover_what_the_figure_shows():
    """17.7 % of a square picture, 14.6 … 20.3 % in nine of ten."""
    places = squares(600, (224, 224), MaskSettings(), torch.Generator().manual_seed(0))
    covered = cover(torch.zeros(600, 1, 224, 224), places, torch.ones(1))
    share = covered.mean((1, 2, 3)).numpy()
    assert share.mean() == pytest.approx(0.177, abs=0.003)
    np.testing.assert_allclose(np.percentile(share, [5, 95]), [0.146, 0.203], atol=0.007)
    assert places[..., 2:].unique().tolist() == [29, 45, 60]
