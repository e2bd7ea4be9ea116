"""CAP and O2CAP through whole runs on tiny crops, and the recipe around their losses: rates, network, scores."""

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")
pytest.importorskip("onnx", reason="the trainer needs onnx")
pytest.importorskip("tensorboard", reason="the trainer needs tensorboard")

from tiny_crops import picture, write_market  # noqa: E402

from trainer import checkpoint, commands, config, run  # noqa: E402
from trainer.data import layouts  # noqa: E402
from trainer.errors import ConfigurationError, DataError  # noqa: E402
from trainer.features import load_labels  # noqa: E402
from trainer.labels import LabelSettings, clusters  # noqa: E402
from trainer.metrics.retrieval import Truth, score  # noqa: E402
from trainer.models.embedder import blueprint_of, new_embedder  # noqa: E402
from trainer.optimiser import rate_at  # noqa: E402
from trainer.report.run import LABELS  # noqa: E402
from trainer.runlog import read_log  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "train"
NAMES = pytest.mark.parametrize("name", ["cap", "o2cap"])
WITH_OURS = pytest.mark.parametrize("name", ["cap", "o2cap", "crosslane"])


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return write_market(tmp_path_factory.mktemp("crops"))


def parsed(root, cache, name, **method):
    own = {"cap": {"offline_from_epoch": 1}, "o2cap": {"exclude_siblings": True}}.get(name, {})
    return config.parse(
        {
            "data": {"root": str(root), "cache": str(cache), "input": {"width_px": 16, "height_px": 32}},
            "model": {"backbone": "osnet_x0_25", "ghost_group": 4, "pooling": "average"},
            "method": {
                "name": name,
                "labels": {"clustering": {"jaccard": {"k1": 8, "k2": 3}, "dbscan": {"eps": 0.6, "min_samples": 2}}},
                "sampler": {"proxies": 4, "crops": 2, "steps": 4},
                "augment": {"pad_px": 1, "erase": 0.2},
                **own,
                **method,
            },
            "epochs": 2,
            "when_in_doubt": "train",
            "device": "cpu",
            "checkpoint_steps": 3,
        },
        "test",
    )


@WITH_OURS
def test_a_run_and_one_taken_up_inside_its_second_epoch_are_equal(crops, tmp_path, monkeypatch, name):
    settings = parsed(crops, tmp_path / "cache", name)
    run.start(settings, tmp_path / "whole", quiet=True)
    save = checkpoint.save

    def stop_inside_the_second_epoch(path, state):
        save(path, state)
        if (state.epoch, state.step) == (1, 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", stop_inside_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        run.start(settings, tmp_path / "stopped", quiet=True)
    monkeypatch.undo()
    run.start(settings, tmp_path / "stopped", resume=True, quiet=True)
    first, second = (checkpoint.load(tmp_path / folder / "last.ckpt") for folder in ("whole", "stopped"))
    assert all(torch.equal(first.network[key], second.network[key]) for key in first.network)
    assert first.method.keys() == second.method.keys()
    assert all(torch.equal(first.method[key], second.method[key]) for key in ("memory", "clusters", "cameras"))
    facts = read_log(tmp_path / "whole", "epoch")
    assert len(facts) == 2
    assert {"clusters", "outlier_share", "proxies", "empty_cameras", "offline_positives"} <= facts[0].keys()


def test_the_labels_of_a_run_are_clustered_as_the_method_clusters(crops, tmp_path):
    settings = parsed(crops, tmp_path / "cache", "crosslane")
    folder = tmp_path / "run"
    model = run.start(settings, folder, quiet=True)
    table = commands.extract(model, crops, "train", commands.Place(None, tmp_path / "cache"), False)
    training = layouts.read(crops).train
    assert settings.method.labels.camera_centred
    expected, plain = (
        clusters(table.features, training, labels).labels for labels in (settings.method.labels, LabelSettings())
    )
    assert np.array_equal(load_labels(folder / LABELS), expected)
    assert "Ways between cameras" in (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert not np.array_equal(expected, plain)


@NAMES
def test_crops_without_cameras_are_refused(tmp_path, name):
    root, generator = tmp_path / "data", np.random.default_rng(0)
    root.mkdir()
    for number in range(24):
        cv2.imwrite(str(root / f"{number}.png"), picture(number % 3, 0, generator))
    with pytest.raises(DataError, match="24 of 24 crops have no camera number"):
        run.start(parsed(root, tmp_path / "cache", name), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "model.pt").exists()


@NAMES
def test_a_mistake_in_the_settings_is_named_without_the_method(crops, tmp_path, name):
    with pytest.raises(ConfigurationError, match=r"method\.hard_negative: unknown key; did you mean `hard_negatives`"):
        parsed(crops, tmp_path, name, hard_negative=3)


@NAMES
def test_j_rates_of_the_released_code(name):
    settings = config.load(CONFIGS / f"{name}-market1501.yaml")
    expected = {0: 3.5e-6, 1: 3.815e-5, 5: 1.7675e-4, 9: 3.1535e-4, 10: 3.5e-4, 19: 3.5e-4, 20: 3.5e-5, 39: 3.5e-5}
    expected |= {40: 3.5e-6, 49: 3.5e-6}
    found = {epoch: rate_at(settings.optimiser, epoch, settings.epochs) for epoch in expected}
    assert found == pytest.approx(expected)


def test_k_scores_of_the_released_evaluation():
    """Ranks 1, 3, 5; two of four that are all tied; a query without a right entry is left out."""
    gallery = Truth(np.array([1, 0, 1, 0, 1]), np.full(5, 2))
    one = Truth(np.array([1]), np.array([1]))
    ranked = np.arange(5, dtype=np.float32)[None]
    assert score([ranked], one, gallery).mAP == pytest.approx(75.56, abs=0.005)
    tied = score([np.zeros((1, 4), np.float32)], one, Truth(np.array([1, 0, 1, 0]), np.full(4, 2)))
    assert tied.mAP == pytest.approx(50)
    two = score(
        [np.zeros((2, 1), np.float32)], Truth(np.array([1, 9]), np.ones(2)), Truth(np.array([1]), np.array([2]))
    )
    assert (two.mAP, two.queries_without_match) == (100, 1)


def test_l_network_of_the_released_code():
    pytest.importorskip("timm", reason="ResNet-50 comes from timm")
    settings = config.load(CONFIGS / "o2cap-market1501.yaml", ["model.pretrained=false"])
    network = new_embedder(blueprint_of(settings.model, (256, 128))).eval()
    with torch.no_grad():
        maps = network.maps(torch.rand(2, 3, 256, 128, generator=torch.Generator().manual_seed(0)))
        rows = network.embed(maps)
    assert maps.shape == (2, 2048, 16, 8)
    assert rows.shape == (2, 2048)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))
    frozen = [name for name, weight in network.named_parameters() if not weight.requires_grad]
    assert frozen == ["neck.bias"]
