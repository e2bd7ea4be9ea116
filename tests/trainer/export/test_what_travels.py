"""What leaves the workstation says what it is, and nothing of the machine that made it."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
onnx = pytest.importorskip("onnx", reason="the trainer needs onnx")
for library in ("faiss", "numba", "onnxruntime", "tensorboard", "cryptography"):
    pytest.importorskip(library, reason=f"training and export need {library}")

from tiny_crops import write_market  # noqa: E402
from tiny_networks import small_onnx  # noqa: E402
from tiny_runs import parsed, shallow  # noqa: E402

from edge_app.contract.bundle import read_bundle  # noqa: E402
from edge_app.contract.signature import read_public_key  # noqa: E402
from trainer import checkpoint, run  # noqa: E402
from trainer.export import bundle, drawn  # noqa: E402
from trainer.export.run import Request, export  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose crops and starting weights lie in a folder that is somebody's."""
    home = tmp_path_factory.mktemp("home-of-alice")
    crops, weights = write_market(home / "market"), small_onnx(home / "start.onnx")
    changes = {**shallow(weights), "epochs": 1, "method__sampler__steps": 1, "licence_note": "Crops: city of X, v1"}
    run.start(parsed(crops, home / "cache", **changes), home / "run", quiet=True)
    return home


def strangers(home: Path) -> list[bytes]:
    """What nobody else should read."""
    return [str(word).encode() for word in (home, home.name, ROOT, Path.home())]


def test_checkpoint_and_model_name_files_and_no_folders(trained):
    for name in ("last.ckpt", "model.pt"):
        content = (trained / "run" / name).read_bytes()
        assert not [word for word in strangers(trained) if word in content], name
    model = checkpoint.load_model(trained / "run" / "model.pt")
    assert model.settings["data"]["root"] == "market"
    assert model.settings["model"]["weights"] == "start.onnx"
    assert model.network.blueprint.settings.weights == Path("start.onnx")


def test_a_bundle_names_files_and_no_folders_even_of_an_older_model(trained):
    old = checkpoint.load_model(trained / "run" / "model.pt")
    old.settings["data"]["root"] = str(trained / "market")  # as version 0.2 wrote them
    old.settings["model"]["weights"] = str(trained / "start.onnx")
    checkpoint.save_model(trained / "model.pt", old)
    request = Request(trained / "model.pt", trained / "market", None, trained / "cache", precision="fp32")
    exported = export(request, lambda line: None)
    key = bundle.signing_key(trained / "key.pem")
    bundle.write(exported, trained / "a.bundle", "a", key, time.time())
    content = (trained / "a.bundle").read_bytes()
    assert not [word for word in strangers(trained) if word in content]
    read = read_bundle(trained / "a.bundle", [read_public_key(trained / "key.pub.pem")])
    manifest = read.manifest
    spec = manifest.embedder.model.input
    assert np.array_equal(read.golden().crops, drawn.pictures(8, spec.height_px, spec.width_px)), "nobody is on them"
    assert manifest.config["data"]["root"] == "market"
    assert manifest.embedder.model.licence_note == "Crops: city of X, v1"


def test_a_file_keeps_what_it_says_of_itself_and_loses_the_folders(tmp_path):
    model = onnx.load(small_onnx(tmp_path / "start.onnx"))
    said = {
        "source": "file:///home/alice/yolo.pt",
        "names": "{0: 'car', 1: 'truck'}",
        "stride": "32",
        "licence": "AGPL-3.0 https://ultralytics.com/license",
        "description": "YOLO11n model trained on /home/alice/site/data.yaml",
        "args": r"{'data': 'C:\\alice\\data.yaml'}",
    }
    onnx.helper.set_model_props(model, said)
    model.graph.node[0].doc_string = "/home/alice/model.py(12): forward"
    bare = onnx.load_model_from_string(bundle.file_of(model))
    assert {each.key for each in bare.metadata_props} == {"names", "stride", "licence"}
    assert not bare.graph.node[0].doc_string
    assert len(model.metadata_props) == len(said)  # the given model is as it was
    model.graph.node[0].ClearField("doc_string")
    del model.metadata_props[:]
    del bare.metadata_props[:]
    assert bare == model


def test_a_run_goes_on_after_its_data_moved(trained):
    moved = trained.parent / "elsewhere"
    shutil.copytree(trained / "market", moved / "market")
    changes = {**shallow(trained / "start.onnx"), "epochs": 1, "method__sampler__steps": 1}
    model = run.start(parsed(moved / "market", trained / "cache", **changes), trained / "run", resume=True, quiet=True)
    assert model.is_file()
