"""The embedder around tiny networks with known outputs, and around a real one whose scores are known."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_app.contract.errors import BundleError
from edge_app.contract.model import ModelManifest, write_manifest
from edge_app.contract.preprocess import InputSpec
from edge_app.errors import ModelError
from edge_app.perception.embed import EmbedderSettings, OnnxEmbedder, open_embedder
from edge_app.runtime import open_engine
from edge_app.runtime.engine import EngineSettings
from edge_app.types import View

ONE_THREAD = EngineSettings(threads=1)
SQUARE = InputSpec(width_px=32, height_px=32)


def view(crop: np.ndarray | None) -> View:
    return View("n/c/1/1", "c", 0.0, np.zeros(4, np.float32), 1.0, crop)


def plain(blue: int, green: int, red: int, width: int = 17, height: int = 40) -> View:
    return view(np.full((height, width, 3), (blue, green, red), np.uint8))


def embedder(path: Path, **changes) -> OnnxEmbedder:
    settings = {"input": SQUARE, "version": "v1", "engine": ONE_THREAD, **changes}
    return open_embedder(EmbedderSettings(path=path, **settings))


@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_rows_are_unit_vectors_in_the_order_of_the_views(tiny_onnx, batch) -> None:
    model = embedder(tiny_onnx.mean_colour(batch=batch), max_batch=3)
    views = [plain(0, 0, 200), plain(0, 90, 0, 5, 9), plain(30, 0, 40), plain(1, 1, 1, 1, 1)]
    rows = model.embed(views)
    third = 1 / np.sqrt(3)
    expected = [[1, 0, 0], [0, 1, 0], [0.8, 0, 0.6], [third, third, third]]  # the network sees RGB
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert (rows.dtype, model.dimension, model.version) == (np.float32, 3, "v1")


def test_no_views_no_run(tiny_onnx) -> None:
    model = embedder(tiny_onnx.mean_colour())
    runs = model.engine.runs
    assert model.embed([]).shape == (0, 3)
    assert model.engine.runs == runs


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e30])
def test_an_embedding_without_direction_is_a_row_of_nan(tiny_onnx, value) -> None:
    model = embedder(tiny_onnx.constant(np.array([value, -value])))
    assert np.isnan(model.embed([plain(1, 2, 3), plain(4, 5, 6)])).all()


def test_one_crop_without_direction_leaves_its_neighbours_alone(tiny_onnx) -> None:
    model = embedder(tiny_onnx.mean_colour())
    rows = model.embed([plain(0, 0, 9), plain(0, 0, 0), plain(7, 0, 0)])  # the black one's mean is zero
    np.testing.assert_allclose(rows, [[1, 0, 0], [np.nan] * 3, [0, 0, 1]])


class Moody:
    """An engine that fails on, or changes its shape with, a batch that holds a black crop."""

    def __init__(self, engine, shape: int | None) -> None:
        self.name, self.inputs, self.outputs, self._engine, self._shape = "moody", *engine_ports(engine), shape
        self.busy_s, self.runs = 0.0, 0
        self.moody = False

    def run(self, batch):
        if self.moody and (batch.reshape(len(batch), -1).max(axis=1) == 0).any():
            if self._shape is None:
                raise ModelError("the model failed on a batch")
            return [np.ones((len(batch), self._shape), np.float32)]
        return self._engine.run(batch)

    def close(self) -> None:
        self._engine.close()


def engine_ports(engine):
    return engine.inputs, engine.outputs, engine


@pytest.mark.parametrize("shape", [None, 5])
def test_a_crop_that_the_network_fails_on_leaves_its_neighbours_alone(tiny_onnx, shape) -> None:
    engine = Moody(open_engine(tiny_onnx.mean_colour(), ONE_THREAD), shape)
    settings = EmbedderSettings(path=Path("m.onnx"), input=SQUARE, version="v1", max_batch=4)
    model = OnnxEmbedder(engine, settings)
    engine.moody = True
    rows = model.embed([plain(0, 0, 9), plain(0, 0, 0), plain(7, 0, 0)])
    np.testing.assert_allclose(rows, [[1, 0, 0], [np.nan] * 3, [0, 0, 1]])


def test_version_comes_from_settings_manifest_or_digest(tiny_onnx) -> None:
    path = tiny_onnx.mean_colour()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert embedder(path, version=None).version == f"sha256:{digest[:12]}"
    write_manifest(path, ModelManifest(kind="embedder", version="site-7", input=SQUARE, dimension=3))
    assert open_embedder(EmbedderSettings(path=path)).version == "site-7"
    assert embedder(path).version == "v1"


def test_each_wrong_model_is_one_clear_error(tiny_onnx) -> None:
    path = tiny_onnx.mean_colour()
    with pytest.raises(ModelError, match="describe its `input`"):
        embedder(path, input=None)
    with pytest.raises(ModelError, match="correct width_px and height_px"):
        embedder(path, input=InputSpec(width_px=64, height_px=32))
    with pytest.raises(ModelError, match="without a crop"):
        embedder(path).embed([view(None)])
    with pytest.raises(ModelError, match="expected one output"):
        embedder(tiny_onnx.two_outputs())
    with pytest.raises(ModelError, match="expected one output"):
        embedder(tiny_onnx.constant(np.ones((4, 6))))
    write_manifest(path, ModelManifest(kind="embedder", version="1", input=SQUARE, dimension=4))
    with pytest.raises(ModelError, match="promises 4 values, the model makes 3"):
        embedder(path)
    write_manifest(path, ModelManifest(kind="detector", version="1", input=SQUARE, class_names=("car",)))
    with pytest.raises(ModelError, match="expected an embedder, the manifest says detector"):
        embedder(path)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(BundleError, match="is not a crosslane"):
        embedder(path)


@pytest.fixture(scope="module")
def osnet(shared_data: Path) -> OnnxEmbedder:
    spec = InputSpec(width_px=128, height_px=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    path = shared_data / "weights" / "osnet_x0_25_msmt17.onnx"
    return open_embedder(EmbedderSettings(path=path, input=spec, max_batch=32, engine=EngineSettings(threads=2)))


def embed_files(model: OnnxEmbedder, files: list[Path]) -> np.ndarray:
    return model.embed([view(cv2.imread(str(file))) for file in files])


def rank_1(query: np.ndarray, gallery: np.ndarray, right: np.ndarray) -> float:
    """Share of queries whose most similar gallery row has the same name, in per cent."""
    return float(100 * (right[(query @ gallery.T).argmax(axis=1)] == np.arange(len(query))).mean())


def test_osnet_knows_a_person_again(shared_data, osnet) -> None:
    files = sorted((shared_data / "market_dev" / "query").glob("*.jpg"))[:60]
    names = np.array([file.name[:4] for file in files])
    rows = embed_files(osnet, files)
    assert rows.shape == (len(files), 512)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    similarity = rows @ rows.T
    same = (names[:, None] == names[None]) & ~np.eye(len(files), dtype=bool)
    assert similarity[same].mean() > similarity[names[:, None] != names[None]].mean() + 0.15


def test_osnet_gives_the_known_score_on_vehicles(shared_data, osnet) -> None:
    """The reference 70.0 was measured with other code: equal scores mean equal preprocessing."""
    query = sorted((shared_data / "khoa_vehicles" / "query").iterdir())
    gallery = sorted((shared_data / "khoa_vehicles" / "gallery").iterdir())
    places = {file.name.rsplit("_", 1)[0]: index for index, file in enumerate(query)}
    right = np.array([places[file.name.rsplit("_", 1)[0]] for file in gallery])
    score = rank_1(embed_files(osnet, query), embed_files(osnet, gallery), right)
    assert score == pytest.approx(70.0, abs=1.5)
