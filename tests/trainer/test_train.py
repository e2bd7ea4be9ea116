"""Whole runs on tiny crops: what they leave, and that a batch in pieces is one batch."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")
pytest.importorskip("onnx", reason="the trainer needs onnx")
pytest.importorskip("tensorboard", reason="the trainer needs tensorboard")

from tiny_crops import write_market  # noqa: E402
from tiny_networks import small_onnx  # noqa: E402
from tiny_runs import assert_same, parsed, shallow, weights  # noqa: E402

from trainer import checkpoint, config, run  # noqa: E402
from trainer.errors import ConfigurationError  # noqa: E402
from trainer.features import load_labels  # noqa: E402
from trainer.parallel import Processes  # noqa: E402
from trainer.runlog import read_log  # noqa: E402


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return write_market(tmp_path_factory.mktemp("crops"))


def test_a_run_leaves_everything_it_should(crops, tmp_path):
    settings = parsed(crops, tmp_path / "cache", evaluate_every=1, keep="silhouette")
    model = run.start(settings, tmp_path / "run", quiet=True)
    found = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {"model.pt", "last.ckpt", "config.yaml", "commit.txt", "log.jsonl", "labels.npz"} <= found
    assert {"report/curves.png", "report/ranked.png", "report/map.png", "report/clusters_largest.png"} <= found
    assert any(name.startswith("events/") for name in found)
    assert not [name for name in found if name.endswith((".part", ".partial"))]
    tests = read_log(tmp_path / "run", "test")
    assert [line["epoch"] for line in tests] == [1, 2]
    assert tests[-1]["camera_policy"] == "cross_camera"
    assert config.parse(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()), "again") == settings
    loaded = checkpoint.load_model(model)
    assert loaded.spec == settings.data.input
    assert loaded.settings["epochs"] == 2
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines][:3] == ["start", "data", "epoch"]


def test_the_labels_of_the_last_network_are_left_with_their_paths(crops, tmp_path):
    run.start(parsed(crops, tmp_path / "cache", epochs=1), tmp_path / "run", quiet=True)
    labels, paths = load_labels(tmp_path / "run" / "labels.npz"), np.load(tmp_path / "run" / "labels.npz")["paths"]
    assert len(labels) == len(paths) == 54
    assert all(Path(path).is_file() for path in paths)
    together = [{Path(path).name[:4] for path in paths[labels == label]} for label in range(labels.max() + 1)]
    assert all(len(identities) == 1 for identities in together)  # patterns this plain cluster by themselves


def test_two_runs_are_equal(crops, tmp_path):
    settings = parsed(crops, tmp_path / "cache")
    run.start(settings, tmp_path / "one", quiet=True)
    run.start(settings, tmp_path / "two", quiet=True)
    assert_same(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_a_batch_in_pieces_gives_the_update_of_the_whole(crops, tmp_path):
    batch = {"method__sampler__clusters": 4, "method__sampler__crops": 8}
    changes = {"epochs": 1, "average": None, **batch, **shallow(small_onnx(tmp_path / "small.onnx"))}
    for name, count in (("whole", 1), ("pieces", 2)):
        run.start(parsed(crops, tmp_path / "cache", accumulate=count, **changes), tmp_path / name, quiet=True)
    whole, pieces = weights(tmp_path / "whole"), weights(tmp_path / "pieces")
    first, second = (checkpoint.load(tmp_path / name / "last.ckpt").method["memory"] for name in ("whole", "pieces"))
    torch.testing.assert_close(first, second, atol=1e-4, rtol=0)
    close = [
        torch.allclose(whole[name], pieces[name], atol=1e-5)
        for name in whole
        if "running" not in name and "tracked" not in name
    ]
    assert all(close)  # running statistics follow the first group of every forward pass, here of two


@pytest.mark.parametrize("method", [{}, {"method": {"name": "scl", "batch": 8}}, {"method": {"name": "o2cap",
                         "aggregation": "batch_mean", "sampler": {"proxies": 4, "crops": 2}}}])  # fmt: skip
def test_pieces_that_cut_through_groups_of_batch_norm_are_refused_before_anything_is_read(tmp_path, method):
    settings = parsed(tmp_path / "nowhere", tmp_path / "cache", accumulate=2, model__ghost_group=8, **method)
    with pytest.raises(ConfigurationError, match=r"cut every 4 crops.* groups of 8 .* a multiple of 16, or set"):
        run.start(settings, tmp_path / "run", quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_batch_that_the_processes_cannot_share_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    three = Processes(0, 3, torch.device("cpu"))
    monkeypatch.setattr(run.parallel, "join", lambda device: three)
    with pytest.raises(ConfigurationError, match="8 crops cannot be shared by 3 processes"):
        run.start(parsed(tmp_path / "nowhere", tmp_path / "cache"), tmp_path / "run", quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_a_run_is_not_overwritten_and_settings_may_not_change(crops, tmp_path):
    settings = parsed(crops, tmp_path / "cache", epochs=1)
    run.start(settings, tmp_path / "run", quiet=True)
    with pytest.raises(ConfigurationError, match="holds a run: go on with --resume"):
        run.start(settings, tmp_path / "run", quiet=True)
    with pytest.raises(ConfigurationError, match="seed: 0 → 7"):
        run.start(settings.model_copy(update={"seed": 7}), tmp_path / "run", resume=True, quiet=True)


@pytest.mark.parametrize("from_onnx", [False, True])
def test_a_run_goes_on_from_an_earlier_model(crops, tmp_path, from_onnx):
    """Its first features are the earlier model's, wherever that one's weights once lay; another network or input is
    refused before anything is trained."""
    network = shallow(small_onnx(tmp_path / "small.onnx")) if from_onnx else {}
    first = parsed(crops, tmp_path / "cache", epochs=1, **network)
    model = run.start(first, tmp_path / "first", quiet=True)
    still = {**network, "epochs": 1, "optimiser": {"name": "sgd", "rate": 1e-30}, "average": None}
    again = parsed(crops, tmp_path / "cache", start=str(model), **still)
    run.start(again, tmp_path / "again", quiet=True)
    before, after = weights(tmp_path / "first"), weights(tmp_path / "again")
    assert before.keys() == after.keys()
    moved = [name for name in before if "running" not in name and "num_batches" not in name]
    assert_same({name: before[name] for name in moved}, {name: after[name] for name in moved})
    other = parsed(crops, tmp_path / "cache", start=str(model), **{**network, "model__pooling": "gem"})
    with pytest.raises(ConfigurationError, match=r"model: expected that of .*first/model\.pt"):
        run.start(other, tmp_path / "other", quiet=True)
