"""An embedder that sees nothing, or the same in everything, is refused before it runs; one that works is not."""

from pathlib import Path

import numpy as np
import pytest

from edge_app.contract.preprocess import InputSpec
from edge_app.errors import ModelError
from edge_app.perception.embed import EmbedderSettings, open_embedder
from edge_app.perception.examine import examine, sample_pictures

ROOT = Path(__file__).resolve().parents[3]
SQUARE = InputSpec(width_px=32, height_px=32)


def opened(path: Path, spec: InputSpec | None = SQUARE):
    return open_embedder(EmbedderSettings(path=path, input=spec))


def test_what_it_makes_nothing_of_is_named(tiny_onnx) -> None:
    assert examine(opened(tiny_onnx.mean_colour())) == ("black",)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_an_embedder_that_sees_nothing_is_refused(tiny_onnx, value) -> None:
    with pytest.raises(
        ModelError, match=r"constant\.onnx: the embeddings of all 6 test pictures are zero or not finite"
    ):
        examine(opened(tiny_onnx.constant(np.array([value, 0.0]))))


def test_an_embedder_that_sees_the_same_in_everything_is_refused(tiny_onnx) -> None:
    with pytest.raises(ModelError, match=r"constant\.onnx: the embedder has collapsed: .*black, white, blue"):
        examine(opened(tiny_onnx.constant(np.array([1.0, 2.0, 3.0]))))


def test_the_demos_embedder_passes() -> None:
    assert examine(opened(ROOT / "configs" / "models" / "demo_embedder.onnx", None)) == ()


def test_a_real_embedder_passes(shared_data) -> None:
    spec = InputSpec(width_px=128, height_px=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert examine(opened(shared_data / "weights" / "osnet_x0_25_msmt17.onnx", spec)) == ()


def test_the_pictures_are_the_same_each_time() -> None:
    for name, picture in sample_pictures().items():
        np.testing.assert_array_equal(picture, sample_pictures()[name])
