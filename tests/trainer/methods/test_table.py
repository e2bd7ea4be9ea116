"""The table of methods says what the code is: names, need for cameras, passes, and the bytes it remembers."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
for library in ("faiss", "numba", "onnx", "tensorboard"):
    pytest.importorskip(library, reason=f"the trainer needs {library}")

from typer.testing import CliRunner  # noqa: E402

from trainer import config  # noqa: E402
from trainer.cli import app  # noqa: E402
from trainer.data.records import Crops  # noqa: E402
from trainer.errors import DataError  # noqa: E402
from trainer.labels import LabelSettings  # noqa: E402
from trainer.methods.base import Method  # noqa: E402
from trainer.methods.table import CARDS, METHODS, class_of, settings_of  # noqa: E402
from trainer.models.embedder import ModelSettings, blueprint_of, new_embedder  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[3]
N, CAMERAS, IDENTITIES = 96, 3, 8
NAMES = pytest.mark.parametrize("name", list(CARDS))


@pytest.fixture(scope="module")
def network():
    size = (64, 16)
    return new_embedder(blueprint_of(ModelSettings(backbone="osnet_x0_25", pooling="average"), size))


def crops_of(cameras):
    count = len(cameras)
    paths = tuple(Path(f"{number}.png") for number in range(count))
    return Crops(paths, cameras.astype(np.int64), np.full(count, np.nan), np.full(count, -1))


def made(name, network, cameras):
    settings = config.parse({"data": {"root": "x"}, "method": METHOD[name]}, "test").method
    return class_of(name)(network, crops_of(cameras), settings, 0)


CLUSTERING = {"jaccard": {"k1": 8, "k2": 3}, "dbscan": {"eps": 0.6, "min_samples": 2}}
METHOD = {name: {"name": name, "labels": {"clustering": CLUSTERING}} for name in CARDS}
METHOD["spcl"] = {"name": "spcl", "clustering": CLUSTERING}
METHOD["scl"] = {"name": "scl", "stripes": 2}


def features_of_people(dimension):
    """(N, D) unit rows of eight people."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(IDENTITIES, dimension))[np.arange(N) % IDENTITIES]
    rows = rows + 0.3 * generator.normal(size=(N, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@NAMES
def test_every_entry_names_what_is_there(name):
    """A configuration of the method is what its entry says, and says itself what a run asks of it."""
    settings = config.parse({"data": {"root": "x"}, "method": {"name": name}}, "test").method
    assert type(settings) is settings_of(name)
    assert settings.name == name
    assert settings.batch >= 1
    assert isinstance(settings.labels, LabelSettings)
    assert settings.whole_batches is None or "set method." in settings.whole_batches
    wanted = {each for each in vars(Method) if not each.startswith("_")}
    assert wanted == {
        "views",
        "start_epoch",
        "forward",
        "losses",
        "after_step",
        "embedder",
        "trained",
        "state",
        "load_state",
    }
    assert wanted <= set(dir(class_of(name)))


@NAMES
def test_papers_never_import_each_other(name):
    """Of a paper that the import contracts do not list yet, too."""
    source = (REPOSITORY / "trainer" / "methods" / f"{name}.py").read_text(encoding="utf-8")
    imported = {node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert not imported & {f"trainer.methods.{other}" for other in METHODS} | imported & {"trainer.methods"}


def test_no_method_is_missing_in_the_table():
    papers = {path.stem for path in (REPOSITORY / "trainer" / "methods").glob("*.py")}
    assert papers - {"__init__", "base", "table"} == set(METHODS)


@NAMES
def test_the_memory_law_is_what_a_checkpoint_holds(name, network):
    method = made(name, network, np.arange(N) // IDENTITIES % CAMERAS)
    method.start_epoch(5, lambda *_: features_of_people(network.dimension))
    state = method.state()
    floats = [rows for rows in state.values() if isinstance(rows, torch.Tensor) and rows.dtype == torch.float32]
    numbers = {"N": N, "D": network.dimension, "K": IDENTITIES, "M": IDENTITIES * CAMERAS}
    law = sum(
        int(np.prod([numbers.get(factor) or int(factor) for factor in term.split("·")]))
        for term in CARDS[name].memory.split(" + ")
    )
    assert sum(rows.numel() * rows.element_size() for rows in floats) == law
    assert len(method.views()) == CARDS[name].passes


@NAMES
def test_whether_camera_numbers_are_needed(name, network):
    if CARDS[name].needs_cameras:
        with pytest.raises(DataError, match="camera number"):
            made(name, network, np.full(N, -1))
        assert CARDS[name].cameras.startswith("required")
    else:
        method = made(name, network, np.full(N, -1))
        method.start_epoch(5, lambda *_: features_of_people(network.dimension))
        assert CARDS[name].cameras.startswith("optional")


def test_the_command_imports_no_torch_and_names_every_method():
    code = (
        "import sys; from trainer import cli; sys.argv = ['trainer', 'methods']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'faiss', 'numba', 'cv2', 'matplotlib'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f" {name} " in done.stdout for name in CARDS)
    told = json.loads(CliRunner().invoke(app, ["methods", "--json"]).stdout)
    assert {name: SimpleNamespace(**card).title for name, card in told.items()} == {
        name: card.title for name, card in CARDS.items()
    }


def test_the_page_about_the_methods_names_every_one():
    page = (REPOSITORY / "trainer" / "methods" / "README.md").read_text(encoding="utf-8")
    assert all(f"[{card.title}]({name}.py)" in page for name, card in CARDS.items())
    assert all(page.count(f"\n| {card.title}") >= 2 for card in CARDS.values())  # in both tables of results
