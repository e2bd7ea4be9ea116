"""The rules of the house, held by a machine: sizes, names, who imports what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # import-linter brings it

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for package in ("edge_app", "trainer", "deploy") for path in (ROOT / package).rglob("*.py"))
MODULES = [path for path in SOURCES if path.parts[len(ROOT.parts)] != "deploy"]
HEAVY = ["cv2", "scipy", "onnxruntime", "av", "trackers", "supervision", "torch", "matplotlib", "fsspec", "botocore"]
LINES, FUNCTION_LINES, POSITIONAL = 300, 50, 5


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def syntax(path: Path) -> list[ast.AST]:
    """All nodes of a file, the module first; read once for all tests."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in syntax(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@cache
def imported(path: Path) -> set[str]:
    """The packages that a file imports by name."""
    names = [alias.name for node in syntax(path) if isinstance(node, ast.Import) for alias in node.names]
    names += [n.module for n in syntax(path) if isinstance(n, ast.ImportFrom) and n.module and not n.level]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    too_long = [f"{name_of(path)}: {n} lines" for n in [len(path.read_text().splitlines())] if n > LINES]
    for function in functions(path):
        length = (function.end_lineno or 0) - function.lineno + 1
        positional = [a.arg for a in function.args.posonlyargs + function.args.args if a.arg not in ("self", "cls")]
        if length > FUNCTION_LINES:
            too_long.append(f"{name_of(path)}:{function.lineno} {function.name}: {length} lines")
        is_command = any(
            isinstance(d, ast.Call) and ast.unparse(d.func).endswith(".command") for d in function.decorator_list
        )
        if len(positional) > POSITIONAL and not is_command:
            too_long.append(
                f"{name_of(path)}:{function.lineno} {function.name}: {len(positional)} positional parameters"
            )
    assert not too_long, (
        f"at most {LINES} lines a file, {FUNCTION_LINES} a function, {POSITIONAL} positional parameters"
    )


def test_files_of_tests_stay_small_too() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    assert not {name: n for name, n in lengths.items() if n > LINES}


def test_every_module_says_what_it_is_for() -> None:
    trees = ((path, syntax(path)[0]) for path in MODULES)
    silent = [
        name_of(path)
        for path, tree in trees
        if isinstance(tree, ast.Module) and tree.body and ast.get_docstring(tree) is None
    ]
    assert not silent


@pytest.mark.parametrize("package", ["edge_app", "trainer"])
def test_every_file_has_a_place(package: str) -> None:
    """The layers of pyproject.toml name each room once; `exhaustive` makes the linter refuse what they do not name."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [c for c in contracts if c["type"] == "layers" and c.get("containers") == [package]]
    assert layers["exhaustive"] is True
    assert "exhaustive_ignores" not in layers
    named = [room.strip() for layer in layers["layers"] for room in re.split("[:|]", layer)]
    there = [
        path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    ]
    assert sorted(named) == sorted(set(there) - {"__init__"})


def test_tests_mirror_the_tree() -> None:
    """A test of a room lies in the folder of that room."""
    tests = ROOT / "tests"
    folders = [path for name in ("edge_app", "trainer") for path in (tests / name).rglob("*") if path.is_dir()]
    rooms = [path for path in folders if path.name not in ("golden", "__pycache__")]
    assert not [name_of(path) for path in rooms if not (ROOT / path.relative_to(tests)).is_dir()]


def test_no_rooms_for_odds_and_ends() -> None:
    assert not [name_of(path) for path in SOURCES if path.stem in ("utils", "util", "helpers", "common", "misc")]


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("paho", {"edge_app/bus/client.py"}),
        ("trackers", {"edge_app/perception/track.py", "edge_app/perception/tracker_state.py"}),
        ("supervision", {"edge_app/perception/track.py"}),
        ("onnxruntime", {"edge_app/runtime/onnx.py"}),
        (
            "av",
            {
                "edge_app/sources/video.py",
                "edge_app/sources/ffmpeg.py",
                "edge_app/contract/screen.py",
                "edge_app/look/film.py",
            },
        ),
        ("gi", {"edge_app/sources/gstreamer.py"}),
        ("sqlite3", {f"edge_app/store/{name}.py" for name in ("opening", "salvage", "shedding", "tables")}),
        ("pickle", set()),  # nothing that is read from a file may run
        ("marshal", set()),
        ("shelve", set()),
        ("amqtt", {"edge_app/demo/broker.py"}),
        ("cysystemd", {"edge_app/health/watchdog.py"}),
        ("cryptography", {"edge_app/contract/signature.py"}),
        ("fsspec", {"edge_app/contract/objects/other.py"}),
        ("s3fs", {"edge_app/contract/objects/s3.py"}),
        ("botocore", {"edge_app/contract/objects/s3_faults.py"}),
        ("tarfile", set()),  # a bundle's headers are compared byte by byte, never interpreted
    ],
)
def test_one_owner_per_library_of_the_edge(library: str, owners: set[str]) -> None:
    edge = (path for path in MODULES if path.is_relative_to(ROOT / "edge_app"))
    importers = {name_of(path) for path in edge if library in imported(path)}
    assert importers <= owners


@pytest.mark.parametrize(
    "module",
    [
        "edge_app.contract.messages",
        "edge_app.contract.preprocess",
        "edge_app.contract.model",
        "edge_app.contract.heads",
        "edge_app.contract.bundle",
        "edge_app.contract.shard",
    ],
)
def test_the_contract_needs_numpy_and_pydantic_only(module: str) -> None:
    heavy = [*HEAVY, "typer", "yaml", "paho", "cryptography"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_configuration_is_read_without_heavy_libraries() -> None:
    code = f"import sys, edge_app.config, edge_app.contract.objects; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
