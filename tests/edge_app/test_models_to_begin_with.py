"""The manifests of models to begin with: every one can be read, and those whose files are here do what they say."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_app.contract.model import parse_manifest
from edge_app.perception.detect import DetectorSettings, open_detector
from edge_app.perception.embed import EmbedderSettings, open_embedder
from edge_app.types import Frame, View

ROOT = Path(__file__).resolve().parents[2]
STARTS = ROOT / "configs" / "models" / "starts"
DATA = Path(os.environ.get("CROSSLANE_DATA", ROOT.parent / "shared" / "data"))


@pytest.mark.parametrize("path", sorted(STARTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_manifest_can_be_read_and_is_in_the_table(path: Path) -> None:
    manifest = parse_manifest(path.read_bytes(), str(path))
    assert (manifest.version, bool(manifest.made_by), bool(manifest.licence_note)) == (path.stem, True, True)
    assert f"starts/{path.name}" in (STARTS.parent / "README.md").read_text(encoding="utf-8")


def beside(weights: str, manifest: str, folder: Path) -> Path:
    source = DATA / "weights" / weights
    if not source.exists():
        pytest.skip(f"no {source}")
    shutil.copyfile(source, folder / weights)
    shutil.copyfile(STARTS / manifest, (folder / weights).with_suffix(".json"))
    return folder / weights


def test_yolox_with_its_manifest_finds_a_vehicle_of_a_real_picture(tmp_path: Path) -> None:
    import cv2

    picture = cv2.imread(str(next((DATA / "khoa_vehicles" / "query").glob("car_*.jpg"), DATA / "none.jpg")))
    detector = open_detector(DetectorSettings(path=beside("yolox_nano.onnx", "yolox-416.json", tmp_path)))
    canvas = np.full((540, 960, 3), 120, np.uint8)
    height = min(picture.shape[0], 300)
    small = cv2.resize(picture, (round(picture.shape[1] * height / picture.shape[0]), height))
    canvas[200 : 200 + height, 300 : 300 + small.shape[1]] = small
    (found,) = detector.detect([Frame("c", 0.0, canvas, 960, 540)])
    names = [detector.class_names[index] for index in found.classes]
    assert {"car", "truck", "bus"} & set(names), names
    left, top, right, bottom = found.boxes[0]
    assert abs((left + right) / 2 - (300 + small.shape[1] / 2)) < 60
    assert abs((top + bottom) / 2 - (200 + height / 2)) < 60


def test_osnet_with_its_manifest_makes_embeddings(tmp_path: Path) -> None:
    embedder = open_embedder(EmbedderSettings(path=beside("osnet_x0_25_msmt17.onnx", "osnet.json", tmp_path)))
    crop = np.random.default_rng(0).integers(0, 255, (80, 40, 3)).astype(np.uint8)
    rows = embedder.embed([View("t", "c", 0.0, np.array([0, 0, 40, 80], np.float32), 1.0, crop)])
    assert (rows.shape, embedder.dimension) == ((1, 512), 512)
    np.testing.assert_allclose(np.linalg.norm(rows), 1.0, rtol=1e-5)
