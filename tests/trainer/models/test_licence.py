"""What is said about the terms of a trained network."""

import pytest

pytest.importorskip("torch", reason="the trainer needs torch")

from edge_app.contract.model import ModelManifest
from edge_app.contract.preprocess import InputSpec
from trainer.models.embedder import ModelSettings
from trainer.models.licence import licence_of

pytestmark = pytest.mark.usefixtures("timm")
CROPS = "; crops: unknown (licence_note of the training run says it)"


@pytest.fixture(scope="module")
def timm():
    """Imported by those who run it, not by all who collect: it takes seconds."""
    pytest.importorskip("timm", reason="timm knows the terms of its weights")


def described(folder, note):
    """Weights with a manifest beside them."""
    manifest = ModelManifest(
        kind="embedder", version="a", input=InputSpec(width_px=8, height_px=8), dimension=4, licence_note=note
    )
    (folder / "start.json").write_text(manifest.model_dump_json(by_alias=True))
    return ModelSettings(backbone="onnx", weights=folder / "start.onnx")


def test_the_configuration_has_the_word(tmp_path):
    assert licence_of("ours alone", described(tmp_path, "CC BY 4.0")) == "ours alone"


def test_the_start_speaks_for_itself(tmp_path):
    assert licence_of("", described(tmp_path, "CC BY 4.0")) == f"starting weights: CC BY 4.0{CROPS}"
    known = licence_of("", ModelSettings(backbone="resnet18", pretrained=True))
    assert known == f"starting weights: apache-2.0, resnet18 of timm{CROPS}"


def test_what_nobody_said_is_called_unknown(tmp_path):
    unknown = f"starting weights: unknown, start.onnx{CROPS}"
    assert licence_of("", described(tmp_path, "")) == unknown
    (tmp_path / "start.json").write_text("{")
    assert licence_of("", ModelSettings(backbone="onnx", weights=tmp_path / "start.onnx")) == unknown
    at_random = licence_of("", ModelSettings(backbone="osnet_x0_25"))
    assert at_random == f"starting weights: none, it began at random{CROPS}"
