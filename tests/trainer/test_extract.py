"""Features of many crops: in order, in pieces, with the same chances whatever the pieces."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")

from trainer.config import PERSON_INPUT  # noqa: E402
from trainer.data.transforms import Augment, AugmentSettings  # noqa: E402
from trainer.extract import PIECE_ON_CPU, ExtractSettings, features_of  # noqa: E402
from trainer.parallel import Processes  # noqa: E402

SPEC = PERSON_INPUT.model_copy(update={"width_px": 4, "height_px": 6})
PIXELS = np.random.default_rng(0).integers(0, 256, (150, 6, 4, 3), np.uint8)
ALONE = Processes(0, 1, torch.device("cpu"))


class Watched(torch.nn.Module):
    """Its features are the pixels; it remembers how many crops came at a time."""

    def __init__(self):
        super().__init__()
        self.passes = []

    def forward(self, images):
        self.passes.append(len(images))
        return torch.nn.functional.normalize(images.flatten(1), dim=1)


def test_a_processor_takes_small_pieces_whatever_the_batch():
    network, told = Watched(), []
    rows = features_of(network, PIXELS, SPEC, ExtractSettings(batch=100), ALONE, progress=told.append)
    assert network.passes == told == [32, 32, 32, 4, 32, 18]
    assert max(network.passes) == PIECE_ON_CPU
    one = features_of(Watched(), PIXELS, SPEC, ExtractSettings(batch=1), ALONE)
    np.testing.assert_allclose(rows, one, atol=1e-6)


def test_the_chances_of_a_view_do_not_depend_on_the_pieces():
    views = (
        features_of(
            Watched(), PIXELS, SPEC, ExtractSettings(batch=size), ALONE, view=Augment(AugmentSettings()), seed=3
        )
        for size in (7, 256)
    )
    np.testing.assert_allclose(*views, atol=1e-6)
