"""The configuration of a run: files, overrides, and all mistakes at once."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")

from edge_app.contract.mistakes import keys_of
from trainer.config import TrainSettings, differences, load, parse
from trainer.errors import ConfigurationError
from trainer.optimiser import OptimiserSettings, rate_at

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs" / "train").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path):
    load(path)


def test_overrides(tmp_path):
    (tmp_path / "c.yaml").write_text("data: {root: x}\nepochs: 3\n")
    settings = load(
        tmp_path / "c.yaml", ["epochs=7", "method.sampler.steps=9", "method.name=cluster_contrast", "average=null"]
    )
    assert (settings.epochs, settings.method.sampler.steps, settings.average) == (7, 9, None)
    assert differences(settings, settings.model_copy(update={"epochs": 8})) == ["epochs: 7 → 8"]


def test_every_mistake_is_named_with_the_nearest_key(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "data: {root: x, cash: y}\nepoch: 3\noptimiser: {rate: fast}\nmethod: {name: cluster_contrast, temprature: 1}\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "c.yaml")
    text = str(caught.value)
    assert "4 mistakes" in text
    assert "data.cash: unknown key; did you mean `cache`?" in text
    assert "epoch: unknown key; did you mean `epochs`?" in text
    assert "method.temprature: unknown key; did you mean `temperature`?" in text
    assert "optimiser.rate" in text


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        ("- a", [], "line 1: expected settings, `key: value`, found a list"),
        ("a: [", [], "is not YAML: line 2"),
        ("", [], "is empty"),
        ("data: {root: x}\ndata: {root: y}", [], "line 2: `data` is given twice"),
        ("data: {root: x}", [f"epochs={'[' * 5000}"], "epochs: line 1: more than 32 groups"),
        ("data: {root: x}", [f"epochs={'7' * 5000}"], "epochs: line 1: a number of 5,000 characters"),
        ("data: {root: x}", ["seed=1_000_000_000_000_000_000_000_000_000_000_000"], "seed: "),
        ("data: {root: x}", ["epochs"], "expected key=value"),
        ("data: {root: x}", ["epochs=1", "epochs.more=1"], "epochs is a value"),
        ("data: {root: x}\nmethod: {name: magic}", [], "method"),
        ("data: {root: x}\nmodel: {backbone: onnx}", [], "needs weights"),
    ],
)
def test_unusable_files(tmp_path, content, overrides, message):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path / "c.yaml", overrides)


@pytest.mark.parametrize(
    ("name", "key", "whole", "instead"),
    [
        ("cap", "aggregation", "camera_sum", "batch_mean"),
        ("o2cap", "aggregation", "camera_sum", "batch_mean"),
        ("scl", "writeback", "faithful", "clean"),
    ],
)
def test_a_batch_in_pieces_is_refused_where_a_method_needs_the_whole(tmp_path, name, key, whole, instead):
    (tmp_path / "c.yaml").write_text(f"data: {{root: x}}\nmethod: {{name: {name}, {key}: {whole}}}\n")
    with pytest.raises(ConfigurationError, match=rf"accumulate: .*method\.{key} {whole}.*method\.{key}={instead}"):
        load(tmp_path / "c.yaml", ["accumulate=4"])
    assert load(tmp_path / "c.yaml").accumulate == 1
    assert load(tmp_path / "c.yaml", ["accumulate=4", f"method.{key}={instead}"]).accumulate == 4


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "none.yaml")


def test_learning_rates():
    step = OptimiserSettings(rate=1.0, schedule="step", drop_epochs=20)
    assert [rate_at(step, epoch, 50) for epoch in (0, 19.9, 20, 40)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = OptimiserSettings(rate=1.0, schedule="cosine", final_share=0.1, warmup_epochs=2)
    assert rate_at(cosine, 0, 10) == pytest.approx(0.01)
    assert rate_at(cosine, 5, 10) == pytest.approx(0.55)
    assert rate_at(cosine, 10, 10) == pytest.approx(0.1)


def test_a_key_of_another_method_is_told_as_such():
    values = {"data": {"root": "x"}, "method": {"name": "o2cap", "eps_gap": 0.1, "sampler": {"clusters": 4}}}
    with pytest.raises(ConfigurationError) as caught:
        parse(values, "test")
    assert "method.eps_gap: not a key of method o2cap, but of spcl" in str(caught.value)
    assert "method.sampler.clusters: not a key of method o2cap, but of cluster_contrast, spcl, gracl, tcrl" in str(
        caught.value
    )


def test_paths_are_relative_to_their_file_and_those_of_the_command_line_to_where_it_was_typed(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    file = tmp_path / "site" / "c.yaml"
    file.write_text("data: {root: ../crops, cache: cache}\nmodel: {backbone: onnx, weights: net.onnx}\n")
    monkeypatch.chdir(tmp_path)
    settings = load(Path("site/c.yaml"), ["data.cache=typed"])
    assert settings.data.root == tmp_path / "crops"
    assert settings.model.weights == tmp_path / "site" / "net.onnx"
    assert settings.data.cache == tmp_path / "typed"
    assert load(file, ["model.weights=~/n.onnx"]).model.weights == Path("~/n.onnx").expanduser()


def test_every_path_among_the_settings_knows_its_folder():
    for key, kinds in keys_of(TrainSettings):
        if Path in kinds:
            given: dict[str, Any] = {"data": {"root": "x"}}
            *groups, name = key.split(".")
            place = given
            for group in groups:
                place = place.setdefault(group, {})
            place[name] = "x"
            found: Any = parse(given, "test", Path("/folder"))
            for part in (*groups, name):
                found = getattr(found, part)
            assert found == Path("/folder/x"), key


def test_mistakes_of_the_command_line_and_of_the_file_are_told_together(tmp_path):
    (tmp_path / "c.yaml").write_text("data: {root: x}\nepoch: 1\n")
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "c.yaml", ["seed", "epochs=[", "epochs=-1"])
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["seed", "epochs", "epochs", "epoch"]


def test_what_is_no_settings_file_is_told_before_torch_is_imported(tmp_path):
    (tmp_path / "c.yaml").write_text("data: " + "[" * 900)
    code = (
        "import sys; from trainer import cli; sys.argv = ['trainer', 'train', '--config', 'c.yaml', '--out', 'run']\n"
        "try: cli.main()\nfinally: assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(CONFIGS[0].parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    said = "trainer: c.yaml: 1 mistake\n  - line 1: more than 32 groups or lists within each other\n"
    assert done.stderr == said
