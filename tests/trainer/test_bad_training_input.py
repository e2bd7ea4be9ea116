"""Input that cannot be learned from, and disks that are full: one clear message, an exit status, nothing half written.
Most of these are the real command in a process of its own."""

import resource
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")
pytest.importorskip("onnx", reason="the trainer needs onnx")
pytest.importorskip("tensorboard", reason="the trainer needs tensorboard")

from children import Child  # noqa: E402
from tiny_crops import picture, write_market  # noqa: E402
from tiny_runs import parsed, settings_of  # noqa: E402

from trainer import checkpoint, run  # noqa: E402
from trainer.errors import TrainerError  # noqa: E402
from trainer.runlog import read_log  # noqa: E402

CONFIGURATION, WORLD, DATA = 78, 69, 65  # exit statuses


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return write_market(tmp_path_factory.mktemp("crops"))


def plain_folder(root, identities, count=24):
    """Crops of some identities, of which nothing but the pictures is known."""
    generator = np.random.default_rng(0)
    root.mkdir()
    for number in range(count):
        cv2.imwrite(str(root / f"{number:02d}.png"), picture(number % identities, 0, generator))
    return root


def refused(folder, values, status, prepare=None):
    """The message of a run that ends with this exit status and leaves no model and nothing half written."""
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    child = Child(
        folder / "said", "train", "--config", folder / "config.yaml", "--out", folder / "run", prepare=prepare
    )
    assert child.wait() == status, child.text()
    assert "Traceback" not in child.text()
    assert "Exception in thread" not in child.text()
    assert not (folder / "run" / "model.pt").exists()
    assert not list(folder.rglob("*.part*"))
    return child.text().split("trainer: ")[1]


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no pictures" in refused(tmp_path, settings_of(tmp_path / "empty", tmp_path / "cache"), DATA)
    assert not (tmp_path / "run").exists()


def test_one_identity_only(tmp_path):
    values = settings_of(plain_folder(tmp_path / "crops", 1), tmp_path / "cache")
    values["method"]["labels"]["clustering"]["dbscan"]["eps"] = 0.9
    assert "found 1 cluster at eps 0.9" in (text := refused(tmp_path, values, DATA))
    assert "lower eps, or give crops of more identities" in text


def test_all_outliers(crops, tmp_path):
    values = settings_of(crops, tmp_path / "cache")
    values["method"]["labels"]["clustering"]["dbscan"] = {"eps": 0.01, "min_samples": 9}
    assert "found 0 clusters at eps 0.01 (100% of 54 crops are outliers)" in (text := refused(tmp_path, values, DATA))
    assert "raise eps, lower min_samples, or give more crops" in text
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_unknown_keys_are_all_named(crops, tmp_path):
    values = {**settings_of(crops, tmp_path / "cache"), "epoch": 3, "optimizer": {"rate": 1}}
    values["data"]["cash"] = "x"
    values["method"]["sampler"]["step"] = 1
    text = refused(tmp_path, values, CONFIGURATION)
    assert "4 mistakes" in text
    for wrong, right in (
        ("epoch", "epochs"),
        ("optimizer", "optimiser"),
        ("data.cash", "cache"),
        ("method.sampler.step", "steps"),
    ):
        assert f"{wrong}: unknown key; did you mean `{right}`?" in text
    assert not (tmp_path / "run").exists()


def test_more_unreadable_files_than_the_limit(crops, tmp_path):
    root, bad = broken_copy(crops, tmp_path / "data")
    text = refused(tmp_path, settings_of(root, tmp_path / "cache"), DATA)
    assert "3 of 54 pictures cannot be read, allowed are 1.0%" in text
    assert all(path.name in text for path in bad)
    assert not (tmp_path / "run").exists()


def test_unreadable_files_below_the_limit_are_named_and_left_out(crops, tmp_path):
    root, bad = broken_copy(crops, tmp_path / "data")
    run.start(parsed(root, tmp_path / "cache", data__bad_limit=0.2, epochs=1), tmp_path / "run", quiet=True)
    (line,) = read_log(tmp_path / "run", "data")
    assert line["crops"] == 51
    assert [Path(path).name for path in line["unreadable"]] == [path.name for path in bad]


def broken_copy(crops, root):
    shutil.copytree(crops, root)
    bad = sorted((root / "bounding_box_train").iterdir())[:3]
    for path in bad:
        path.write_bytes(b"\x89PNG broken")
    return root, bad


def test_one_camera_and_fewer_clusters_than_a_batch(tmp_path):
    """Batches repeat clusters; further crops of a cluster come from the only camera."""
    root = plain_folder(tmp_path / "crops", 3)
    run.start(parsed(root, tmp_path / "cache", method__sampler__clusters=8, epochs=1), tmp_path / "run", quiet=True)
    assert checkpoint.load_model(tmp_path / "run" / "model.pt")
    assert read_log(tmp_path / "run", "epoch")[0]["clusters"] < 8


def test_a_test_set_of_one_camera_does_not_end_the_training(tmp_path):
    """By the Market protocol no query has a match left: nothing can be measured, and that is said."""
    root = write_market(tmp_path / "crops", cameras=1, crops=8)
    run.start(parsed(root, tmp_path / "cache", evaluate_every=1), tmp_path / "run", quiet=True)
    assert checkpoint.load_model(tmp_path / "run" / "model.pt")
    assert not read_log(tmp_path / "run", "test")
    (line,) = read_log(tmp_path / "run", "not_tested")
    assert line["epoch"] == 1
    assert "camera" in line["reason"]


def test_a_loss_that_is_not_finite(crops, tmp_path):
    values = parsed(crops, tmp_path / "cache", optimiser__rate=1e30, average=None)
    with pytest.raises(TrainerError, match=r"loss cluster is (nan|inf)|singular|not of unit length"):
        run.start(values, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "model.pt").exists()


def files_of_8_kib():
    limit(8 << 10)


def files_of_256_kib():
    limit(256 << 10)


def full_at_the_second_checkpoint():
    save, saved = checkpoint.save, []

    def save_and_fill(path, state):
        saved.append(path)
        if len(saved) == 2:
            limit(1 << 20)
        save(path, state)

    checkpoint.save = save_and_fill


def limit(size_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


no_limits = pytest.mark.skipif(sys.platform != "linux", reason="file size limits are tried on Linux")


@no_limits
@pytest.mark.parametrize(
    ("prepare", "message"),
    [(files_of_8_kib, "the decoded crops cannot be written"), (files_of_256_kib, r"last.ckpt (")],
)
def test_no_room_for_the_cache_or_the_first_checkpoint(crops, tmp_path, prepare, message):
    text = refused(tmp_path, settings_of(crops, tmp_path / "cache"), WORLD, prepare)
    assert message in text
    assert "File too large" in text
    assert not (tmp_path / "run" / "last.ckpt").exists()


@no_limits
def test_no_room_for_a_later_checkpoint_leaves_the_one_before(crops, tmp_path):
    values = settings_of(crops, tmp_path / "cache", checkpoint_steps=3)
    text = refused(tmp_path, values, WORLD, full_at_the_second_checkpoint)
    assert "last.ckpt (" in text
    assert "go on with --resume" in text
    left = checkpoint.load(tmp_path / "run" / "last.ckpt")
    assert (left.epoch, left.step) == (0, 3)
