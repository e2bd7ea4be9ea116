"""Mistakes in a run's settings, told without torch: the same as the run's own models tell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")

from trainer import config, outline
from trainer.errors import ConfigurationError
from trainer.settings import read

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "train").glob("*.yaml"))


def test_the_outline_is_that_of_the_settings():
    now = outline.outline(config.TrainSettings.model_json_schema())
    assert json.loads(outline.FILE.read_text()) == json.loads(json.dumps(now)), "run python -m trainer.config"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_is_right_is_right_here_too(path):
    outline.check(path, read(path), ["data.root=crops", "seed=3", "data.cache=cache"])


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("data: {root: x}\nepoch: 3\n", []),
        ("data: {root: x, cash: y}\nmethod: {name: scl, sampler: {steps: 1}}\noptimiser: {rate: -1}\n", []),
        ("epochs: many\nmethod: {name: capp}\n", ["seed", "accumulate=0", "epochs.x=2"]),
        ("data: {root: x}\nmethod: {name: cap, sampler: {steps: 0, proxies: 1}, aggregation: sum}\n", []),
        ("data: {root: x, input: {width_px: 8}}\nkeep: best\naverage: 1\n", ["method.temperature=warm"]),
    ],
)
def test_mistakes_are_those_that_the_run_would_tell(tmp_path, text, overrides):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as here:
        outline.check(tmp_path / "c.yaml", read(tmp_path / "c.yaml"), overrides)
    with pytest.raises(ConfigurationError) as there:
        config.load(tmp_path / "c.yaml", overrides)
    assert str(here.value) == str(there.value)


def test_a_typo_is_told_before_torch_is_imported(tmp_path):
    (tmp_path / "c.yaml").write_text("data: {root: x}\nepoch: 3\n")
    code = (
        "import sys; from trainer import cli; sys.argv = ['trainer', 'train', '--config', 'c.yaml', '--out', 'run']\n"
        "try: cli.main()\nfinally: assert not {'torch', 'numpy', 'faiss', 'numba', 'cv2'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert done.stderr == "trainer: c.yaml: 1 mistake\n  - epoch: unknown key; did you mean `epochs`?\n"
