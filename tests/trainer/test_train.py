"""Whole runs on tiny crops: learning, resuming, processes, pieces, and runs that cannot be."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
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

from tiny_crops import picture, write_market  # noqa: E402
from tiny_networks import small_onnx  # noqa: E402

from trainer import checkpoint, config, run  # noqa: E402
from trainer.errors import ConfigurationError, DataError, TrainerError, WorldError  # noqa: E402
from trainer.runlog import read_log  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return write_market(tmp_path_factory.mktemp("crops"))


def settings_of(root, cache, **changes):
    values = {
        "data": {"root": str(root), "cache": str(cache), "input": {"width_px": 16, "height_px": 32}},
        "model": {"backbone": "osnet_x0_25", "ghost_group": 4, "pooling": "average"},
        "method": {
            "name": "cluster_contrast",
            "labels": {"clustering": {"jaccard": {"k1": 8, "k2": 3}, "dbscan": {"eps": 0.6, "min_samples": 2}}},
            "sampler": {"clusters": 2, "crops": 4, "steps": 4},
            "augment": {"pad_px": 1, "erase": 0.2},
        },
        "epochs": 2,
        "device": "cpu",
        "average": 0.9,
    }
    for key, value in changes.items():
        place = values
        *parents, last = key.split("__")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return values


def parsed(root, cache, **changes):
    return config.parse(settings_of(root, cache, **changes), "test")


def weights(folder):
    return checkpoint.load_model(folder / "model.pt").network.state_dict()


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_everything_it_should(crops, tmp_path):
    settings = parsed(crops, tmp_path / "cache", evaluate_every=1, keep="silhouette")
    model = run.start(settings, tmp_path / "run", quiet=True)
    found = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {"model.pt", "last.ckpt", "config.yaml", "commit.txt", "log.jsonl"} <= found
    assert {"report/curves.png", "report/ranked.png", "report/map.png", "report/clusters_largest.png"} <= found
    assert any(name.startswith("events/") for name in found)
    assert not [name for name in found if name.endswith(".part")]
    tests = read_log(tmp_path / "run", "test")
    assert [line["epoch"] for line in tests] == [1, 2]
    assert tests[-1]["camera_policy"] == "cross_camera"
    assert config.parse(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()), "again") == settings
    loaded = checkpoint.load_model(model)
    assert loaded.spec == settings.data.input
    assert loaded.settings["epochs"] == 2


def test_two_runs_are_equal_and_a_resumed_one_too(crops, tmp_path):
    settings = parsed(crops, tmp_path / "cache", checkpoint_steps=3)
    run.start(settings, tmp_path / "whole", quiet=True)
    run.start(settings, tmp_path / "again", quiet=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "again"))


def test_kill_and_resume_equals_the_unbroken_run(crops, tmp_path):
    """kill -9 after the first checkpoint inside an epoch; the resumed run ends with the same bits and labels."""
    values = settings_of(crops, tmp_path / "cache", checkpoint_steps=2, method__sampler__steps=12)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    run.start(config.load(file), tmp_path / "whole", quiet=True)
    command = [sys.executable, "-m", "trainer", "train", "--config", str(file), "--out", str(tmp_path / "killed")]
    # the same number of threads as here: sums in another order are other bits
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kept = tmp_path / "killed" / "last.ckpt"
    deadline = time.monotonic() + 240
    while not kept.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert kept.exists()
    assert not (tmp_path / "killed" / "model.pt").exists(), "the run was over before it could be killed"
    run.start(config.load(file), tmp_path / "killed", resume=True, quiet=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    first, second = (checkpoint.load(tmp_path / name / "last.ckpt") for name in ("whole", "killed"))
    assert torch.equal(first.method["memory"], second.method["memory"])
    labels = [read_log(tmp_path / name, "epoch")[-1]["clusters"] for name in ("whole", "killed")]
    assert labels[0] == labels[1]


def test_spcl_runs_and_resumes_inside_an_epoch(crops, tmp_path, monkeypatch):
    method = {
        "name": "spcl",
        "clustering": {"jaccard": {"k1": 8, "k2": 3}, "dbscan": {"min_samples": 2}},
        "sampler": {"clusters": 4, "crops": 2, "steps": 4},
        "augment": {"pad_px": 1},
    }
    settings = parsed(crops, tmp_path / "cache", method=method, checkpoint_steps=3)
    run.start(settings, tmp_path / "whole", quiet=True)
    stop_at_save(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        run.start(settings, tmp_path / "stopped", quiet=True)
    monkeypatch.undo()
    run.start(settings, tmp_path / "stopped", resume=True, quiet=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


def stop_at_save(monkeypatch, number):
    """The run ends right after its n-th checkpoint."""
    saved = []
    save = checkpoint.save

    def save_and_stop(path, state):
        save(path, state)
        saved.append(state.step)
        if len(saved) == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_stop)


def shallow(folder):
    """Changes in which rounding errors stay small: deep networks with batch norm over few crops blow them up."""
    weights = str(small_onnx(folder / "small.onnx"))
    return {
        "model": {"backbone": "onnx", "weights": weights, "ghost_group": 16, "pooling": "average"},
        "data__input": {"width_px": 8, "height_px": 16},
        "optimiser": {"name": "sgd", "rate": 1e-3},
        "method__sampler__crops": 8,
        "method__temperature": 0.5,
        "method__momentum": 0.5,
    }


def test_a_batch_in_pieces_gives_the_update_of_the_whole(crops, tmp_path):
    changes = {"method__sampler__clusters": 4, "epochs": 1, "average": None, **shallow(tmp_path)}
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


def test_two_processes_give_the_losses_of_one(crops, tmp_path):
    """20 steps over gloo: the same losses to 1e-5."""
    changes = {"method__sampler__steps": 20, "epochs": 1, "average": None, "method__sampler__clusters": 4}
    values = settings_of(crops, tmp_path / "cache", **changes, **shallow(tmp_path))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    losses = {}
    for count in (1, 2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        script = (
            "import trainer.train, sys; trainer.train.LOG_STEPS = 1; from trainer.cli import main; "
            f"sys.argv = ['trainer', 'train', '--config', {str(tmp_path / 'config.yaml')!r}, "
            f"'--out', {str(tmp_path / str(count))!r}]; main()"
        )
        shared = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
        children = [
            subprocess.Popen(
                [sys.executable, "-c", script],
                env={**os.environ, **shared, "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "RANK": str(rank)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for rank in range(count)
        ]
        messages = [child.communicate(timeout=240)[1].decode() for child in children]
        assert [child.returncode for child in children] == [0] * count, messages
        losses[count] = [line["cluster"] for line in read_log(tmp_path / str(count), "step")]
    assert len(losses[1]) == 20
    np.testing.assert_allclose(losses[1], losses[2], atol=1e-5)


def test_a_folder_with_a_run_is_not_overwritten_and_settings_may_not_change(crops, tmp_path):
    settings = parsed(crops, tmp_path / "cache", epochs=1)
    run.start(settings, tmp_path / "run", quiet=True)
    with pytest.raises(ConfigurationError, match="holds a run: go on with --resume"):
        run.start(settings, tmp_path / "run", quiet=True)
    with pytest.raises(ConfigurationError, match="seed: 0 → 7"):
        run.start(settings.model_copy(update={"seed": 7}), tmp_path / "run", resume=True, quiet=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method__labels__clustering__dbscan": {"eps": 0.01, "min_samples": 9}}, "found 0 clusters .* raise eps"),
        (
            {"method__labels__clustering": {"jaccard": {"k1": 54, "k2": 54}, "dbscan": {"eps": 0.99}}},
            "found 1 cluster .* lower eps",
        ),
        ({"optimiser__rate": 1e30, "average": None}, "loss cluster is nan|inf|singular|not of unit length"),
    ],
)
def test_runs_that_cannot_learn_say_why_and_leave_no_model(crops, tmp_path, change, message):
    with pytest.raises(TrainerError, match=message):
        run.start(parsed(crops, tmp_path / "cache", **change), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "model.pt").exists()


def test_unreadable_files_are_named_counted_and_left_out(crops, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(crops, root)
    bad = sorted((root / "bounding_box_train").iterdir())[:3]
    for path in bad:
        path.write_bytes(b"\x89PNG broken")
    with pytest.raises(DataError, match=r"3 of 54 pictures cannot be read(.|\n)*" + bad[0].name):
        run.start(parsed(root, tmp_path / "cache"), tmp_path / "strict", quiet=True)
    assert not (tmp_path / "strict").exists()
    run.start(parsed(root, tmp_path / "cache", data__bad_limit=0.2, epochs=1), tmp_path / "run", quiet=True)
    (line,) = read_log(tmp_path / "run", "data")
    assert line["crops"] == 51
    assert [Path(path).name for path in line["unreadable"]] == [path.name for path in bad]


def test_one_camera_and_fewer_clusters_than_a_batch(tmp_path):
    root, generator = tmp_path / "data", np.random.default_rng(0)
    root.mkdir()
    for number in range(24):
        cv2.imwrite(str(root / f"{number}.png"), picture(number % 3, 0, generator))
    run.start(parsed(root, tmp_path / "cache", method__sampler__clusters=8, epochs=1), tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "model.pt").exists()


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        run.start(parsed(tmp_path / "empty", tmp_path / "cache"), tmp_path / "run", quiet=True)


def test_a_full_disk_leaves_the_old_checkpoint_whole(crops, tmp_path, monkeypatch):
    settings = parsed(crops, tmp_path / "cache", checkpoint_steps=3)
    opened = Path.open

    class FullDisk:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            raise OSError(28, "No space left on device")

    seen = []

    def open_until_full(path, mode="r", **rest):
        file = opened(path, mode, **rest)
        if path.name.startswith(".last.ckpt"):
            seen.append(path)
            return FullDisk(file) if len(seen) == 2 else file
        return file

    monkeypatch.setattr(Path, "open", open_until_full)
    with pytest.raises(WorldError, match=r"last\.ckpt .* cannot be written: the disk is full"):
        run.start(settings, tmp_path / "run", quiet=True)
    monkeypatch.undo()
    assert checkpoint.load(tmp_path / "run" / "last.ckpt").step == 3
    assert not list((tmp_path / "run").glob(".*part"))
    run.start(settings, tmp_path / "run", resume=True, quiet=True)


def test_a_damaged_checkpoint_is_refused(crops, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.ckpt").write_bytes(b"half")
    with pytest.raises(DataError, match=r"last\.ckpt is damaged"):
        run.start(parsed(crops, tmp_path / "cache"), tmp_path / "run", resume=True, quiet=True)


def test_log_lines_are_json(crops, tmp_path):
    run.start(parsed(crops, tmp_path / "cache", epochs=1), tmp_path / "run", quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines][:3] == ["start", "data", "epoch"]
