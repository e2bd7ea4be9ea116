"""Runs that keep the network they began with, through the real command."""

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")
pytest.importorskip("onnx", reason="the trainer needs onnx")
pytest.importorskip("tensorboard", reason="the trainer needs tensorboard")

import cv2  # noqa: E402
from children import Child  # noqa: E402
from tiny_crops import picture  # noqa: E402
from tiny_runs import assert_same, settings_of  # noqa: E402

from trainer import checkpoint  # noqa: E402
from trainer.runlog import read_log  # noqa: E402

NOTHING_LEARNED = 3


def pictures(root, identities, count):
    """Of one identity, the same picture each time."""
    root.mkdir()
    for number in range(count):
        generator = np.random.default_rng(number if identities > 1 else 0)
        cv2.imwrite(str(root / f"{number:03d}.png"), picture(number % identities, 0, generator))
    return root


@pytest.mark.parametrize(
    ("identities", "count", "reason"),
    [(1, 64, "all crops look alike"), (4, 20, "20 crops are too few")],
)
def test_crops_that_teach_nothing_are_said_so_and_the_start_is_the_model(tmp_path, identities, count, reason):
    root = pictures(tmp_path / "crops", identities, count)
    values = settings_of(root, tmp_path / "cache", when_in_doubt="keep_start")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    words = ("train", "--config", tmp_path / "config.yaml", "--out", tmp_path / "run")
    for again in ((), ("--resume",)):
        child = Child(tmp_path / "said", *words, *again)
        assert child.wait() == NOTHING_LEARNED, child.text()
    assert reason in child.text()
    assert "model.pt is the network the run began with" in child.text()
    assert not read_log(tmp_path / "run", "step")
    start, model = (checkpoint.load_model(tmp_path / "run" / name) for name in ("start.pt", "model.pt"))
    assert_same(start.network.state_dict(), model.network.state_dict())
