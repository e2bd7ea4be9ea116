"""The `trainer` command from outside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")
pytest.importorskip("onnx", reason="the trainer needs onnx")

from odd_pictures import bomb
from tiny_crops import picture, write_market
from tiny_runs import settings_of
from typer.testing import CliRunner

from trainer.cli import app
from trainer.errors import TrainerError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return write_market(tmp_path_factory.mktemp("crops"))


def call(*words):
    """Standard output of a command; its error is raised."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_help_does_not_import_torch():
    code = (
        "import sys; from trainer import cli; sys.argv = ['trainer', '--help']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'faiss', 'numba', 'cv2', 'matplotlib'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    for command in (
        "train",
        "extract",
        "cluster",
        "evaluate",
        "inspect",
        "export",
        "inspect-bundle",
        "methods",
        "detector",
    ):
        assert command in done.stdout


def test_errors_are_one_message_and_an_exit_code(tmp_path):
    command = [sys.executable, "-m", "trainer", "inspect", str(tmp_path / "none")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 65
    assert done.stderr.startswith("trainer: ")
    assert "no such file or folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_inspect(crops, tmp_path):
    text = call("inspect", crops, "--out", tmp_path / "sheet.png")
    assert "market1501 layout" in text
    assert "train: 54 crops" in text
    assert "3 cameras" in text
    assert "6 identities, for measuring only" in text
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_cluster_finds_groups_in_features(tmp_path):
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((5, 32))
    rows = np.repeat(centres, 10, axis=0) + 0.1 * generator.standard_normal((50, 32))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    np.savez(tmp_path / "features.npz", features=rows, cameras=np.arange(50) % 3)
    text = call("cluster", tmp_path / "features.npz", "--k1", 10, "--k2", 3, "--out", tmp_path / "labels.npz")
    assert "clusters" in text
    labels = np.load(tmp_path / "labels.npz")["labels"]
    assert labels.tolist() == np.repeat(np.arange(5), 10).tolist()
    call("cluster", tmp_path / "features.npz", "--eps", 0.4, "--eps", 0.6, "--k1", 10, "--out", tmp_path / "chosen.npz")
    with pytest.raises(TrainerError, match="--eps"):
        call("cluster", tmp_path / "features.npz", "--eps", 1.5, "--out", tmp_path / "labels.npz")


def site(root):
    """Crops of six vehicles on two cameras, whose names tell camera, tracklet and time; and what no run can read."""
    generator = np.random.default_rng(0)
    root.mkdir()
    for vehicle in range(6):
        for camera in ("north gate", "0"):
            for number in range(3):
                name = f"{camera}_{vehicle}_{100 * vehicle + number}.png"
                cv2.imwrite(str(root / name), picture(vehicle, 0, generator))
    (root / "left.tif").write_bytes(b"x")
    (root / "gone.jpg").symlink_to("nowhere")
    (root / "0_5_900.png").write_bytes(bomb())
    with open(os.fsencode(root) + b"/0_5_901\xe9.png", "wb") as odd:
        odd.write(cv2.imencode(".png", picture(5, 0, generator))[1].tobytes())
    return root


PATTERN = r"(?P<camera>[^_]+)_(?P<tracklet>\d+)_(?P<time>\d+)"
FOUND = "train: 38 crops; 2 cameras: 0 (20), north gate (18); 38 with capture time; 12 tracklets"


def test_every_run_says_what_it_found_and_what_it_left_out(tmp_path):
    root, cache = site(tmp_path / "site"), tmp_path / "cache"
    text = call("inspect", root, "--pattern", PATTERN)
    assert FOUND in text
    assert "left out: 1 not named as a picture that is read (.bmp, .jpeg, .jpg, .png, .webp): left.tif" in text
    assert "left out: 1 a link that leads nowhere: gone.jpg" in text
    assert "0_5_900.png: declares 60,000 × 60,000 pixels in 74 bytes" in text
    assert "no cameras; no capture times; no tracklets" in call("inspect", root)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(settings_of(root, cache, epochs=1)))
    wanted = f"data.pattern={json.dumps(PATTERN)}"
    text = call("train", "--config", config, "--out", tmp_path / "run", wanted, "method.labels.track_weight=0.5")
    assert FOUND in text
    assert "1 a link that leads nowhere: gone.jpg" in text
    assert "left out: 1 pictures that cannot be read:" in text
    assert "has no effect" not in text
    model, features = tmp_path / "run" / "model.pt", tmp_path / "features.npz"
    text = call("extract", model, root, "--pattern", PATTERN, "--out", features, "--cache", cache)
    assert FOUND in text
    assert "0_5_900.png: declares" in text
    with np.load(features) as table:
        assert np.bincount(table["cameras"]).tolist() == [19, 18]
        assert sorted(set(table["times_s"].tolist()))[:4] == [0, 1, 2, 100]
        assert len(set(table["tracklets"].tolist())) == 12
    options = ("--k1", 8, "--k2", 3, "--min-samples", 2, "--out", tmp_path / "labels.npz")
    text = call("cluster", features, *options, "--keep-apart", "--transits", "--track-weight", 0.5)
    assert "features: 37 crops; 2 cameras: 0 (19), 1 (18); 37 with capture time; 12 tracklets" in text
    assert "has no effect" not in text
    np.savez(tmp_path / "bare.npz", features=np.load(features)["features"])
    text = call("cluster", tmp_path / "bare.npz", *options, "--keep-apart", "--inverted-lists")
    assert "keep_apart has no effect: the crops have no cameras and no tracklets and no capture times" in text


def test_train_extract_evaluate(crops, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "data": {
                    "root": str(crops),
                    "cache": str(tmp_path / "cache"),
                    "input": {"width_px": 16, "height_px": 32},
                },
                "model": {"backbone": "osnet_x0_25", "ghost_group": 4},
                "method": {
                    "name": "cluster_contrast",
                    "labels": {"clustering": {"jaccard": {"k1": 8, "k2": 3}, "dbscan": {"min_samples": 2}}},
                    "sampler": {"clusters": 2, "crops": 4, "steps": 2},
                },
                "device": "cpu",
            }
        )
    )
    text = call("train", "--config", config, "--out", tmp_path / "run", "epochs=1")
    assert "model: " in text
    model, cache = tmp_path / "run" / "model.pt", tmp_path / "cache"
    report = tmp_path / "report.json"
    call("evaluate", model, crops, "--json", report, "--cache", cache)
    numbers = json.loads(report.read_text())
    assert {"mAP", "R1", "R5", "R10", "mINP", "queries", "gallery", "camera_policy"} <= numbers.keys()
    assert (numbers["queries"], numbers["gallery"], numbers["camera_policy"]) == (18, 36, "cross_camera")

    call("extract", model, crops, "--part", "test", "--out", tmp_path / "test.npz", "--cache", cache)
    again = tmp_path / "again.json"
    call("evaluate", tmp_path / "test.npz", crops, "--json", again)
    # other batches round otherwise in the last bit, which turns the ranks of two near-equal made-up crops around
    assert json.loads(again.read_text()) == pytest.approx(numbers, abs=2.0)

    call("extract", model, crops, "--out", tmp_path / "train.npz", "--cache", cache)
    table = np.load(tmp_path / "train.npz")
    assert table["features"].shape == (54, 128)
    assert "identities" not in table.files  # training crops never have any
    call("evaluate", model, crops, "--rerank", "--cache", cache)
