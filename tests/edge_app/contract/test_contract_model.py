"""Manifests: round trip, digests, and one clear error for each thing that can be wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from edge_app.contract.errors import BundleError
from edge_app.contract.model import (
    ModelManifest,
    check_digest,
    file_sha256,
    manifest_path,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from edge_app.contract.preprocess import InputSpec

SQUARE = InputSpec(width_px=64, height_px=64)
DETECTOR = ModelManifest(kind="detector", version="d1", input=SQUARE, class_names=("car", "bus"), head="yolox")
EMBEDDER = ModelManifest(kind="embedder", version="e1", input=SQUARE, dimension=32)
GOLDEN = (
    '{"schema":"crosslane.model/1","kind":"embedder","version":"e1","input":{"width_px":64,"height_px":64,'
    '"channel_order":"RGB","scale":0.00392156862745098,"mean":[0.0,0.0,0.0],"std":[1.0,1.0,1.0],"resize":"stretch",'
    '"kernel":"bilinear","pad_value":114,"letterbox_align":"center"},"class_names":[],"dimension":32,"made_by":"",'
    '"licence_note":""}'
)


def test_the_written_form_of_version_1_stays() -> None:
    assert EMBEDDER.model_dump_json(by_alias=True, exclude_none=True) == GOLDEN
    assert parse_manifest(GOLDEN, "golden") == EMBEDDER


@pytest.mark.parametrize("manifest", [DETECTOR, EMBEDDER])
def test_round_trip_beside_the_model(tmp_path: Path, manifest: ModelManifest) -> None:
    model = tmp_path / "thing.onnx"
    model.write_bytes(b"weights")
    assert write_manifest(model, manifest) == manifest_path(model) == tmp_path / "thing.json"
    found = read_manifest(model)
    assert found == manifest.model_copy(update={"sha256": file_sha256(model)})
    check_digest(model, found)


def test_another_file_is_noticed(tmp_path: Path) -> None:
    model = tmp_path / "thing.onnx"
    model.write_bytes(b"weights")
    write_manifest(model, EMBEDDER)
    model.write_bytes(b"weightz")
    with pytest.raises(BundleError, match="not the one its manifest describes"):
        check_digest(model, read_manifest(model))


def test_no_manifest_is_none_and_no_model_is_an_error(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "thing.onnx") is None
    with pytest.raises(BundleError, match="cannot be read"):
        file_sha256(tmp_path / "thing.onnx")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Invalid JSON"),
        ("[]", "manifest"),
        (GOLDEN.replace("model/1", "model/2"), "schema"),
        (GOLDEN.replace('"dimension":32,', ""), "needs its dimension"),
        (GOLDEN.replace('"width_px":64', '"width_px":-1,"wide":2'), "input.wide"),
        (GOLDEN.replace('"dimension"', '"sha256":"abc","dimension"'), "sha256"),
    ],
)
def test_wrong_manifest_is_one_bundle_error(text: str, said: str) -> None:
    with pytest.raises(BundleError, match=said) as caught:
        parse_manifest(text, "here.json")
    assert "here.json" in str(caught.value)


def test_each_kind_has_its_own_fields() -> None:
    with pytest.raises(ValidationError, match="class_names"):
        ModelManifest(kind="detector", version="1", input=SQUARE)
    with pytest.raises(ValidationError, match="belongs to an embedder"):
        ModelManifest(kind="detector", version="1", input=SQUARE, class_names=("car",), dimension=3)
    with pytest.raises(ValidationError, match="belong to a detector"):
        ModelManifest(kind="embedder", version="1", input=SQUARE, dimension=3, head="yolox")
