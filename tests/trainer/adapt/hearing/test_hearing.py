"""Two models before the held-out passages of a site, as the command asks, and as the export asks of what it ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")
pytest.importorskip("onnx", reason="the trainer needs onnx")

import yaml
from picture_town import GATE, hours_of, model_file, network, street, town
from typer.testing import CliRunner

from edge_app.contract.bundle_manifest import Gate
from trainer.adapt.commands import by_hand, command
from trainer.adapt.crops.index import Index
from trainer.adapt.gate.verdict import GateSettings, Measure, Verdict
from trainer.adapt.hearing import anchor, judge
from trainer.adapt.hearing.anchor import Anchor
from trainer.checkpoint import load_model
from trainer.cli import app
from trainer.errors import ConfigurationError
from trainer.export.onnx import to_onnx
from trainer.onnx_graph.nodes import half

DAY = 19_600


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Any:
    """A site that has taken its crops in; in force is a model that weighs chance more than the vehicle."""
    root = tmp_path_factory.mktemp("hearing")
    site, settings = town(root, 1.6)
    held, _ = hours_of(DAY, 0.3)
    for begin in held[:2]:
        site.upload(street(1, begin, 13, "upper"))
    with command.opened(settings) as here:
        command.take_in(here, held[1] + 7200, lambda _: None)
    anchor.save(settings.folder, Anchor(tuple(int(begin // 3600) for begin in held[:2])))
    model_file(network(root / "better.onnx", 0.3), root / "better.pt")
    model_file(network(root / "worse.onnx", 1.6), root / "worse.pt")
    return root, settings


def gate(root: Path, old: str, new: str, *more: object) -> Any:
    words = ["gate", root / old, root / new, "--site", root / "site.yaml", *more]
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_better_one_passes_and_the_worse_one_does_not(place):
    root, settings = place
    before = {path: path.stat().st_mtime_ns for path in settings.folder.rglob("*") if path.suffix != ".db-shm"}
    found = gate(root, "start.onnx", "better.pt", "--json", root / "verdict.json")
    assert found.exit_code == 0, found.output
    assert "publish: the new model is better: H goes from" in found.output
    told = json.loads((root / "verdict.json").read_text())
    assert (told["decision"], told["reasons"]) == ("publish", [])
    assert "minimum_exits 60 instead of 300" in told["notes"]
    found = gate(root, "better.pt", "start.onnx")
    assert found.exit_code == 1
    assert "refuse: the new model is refused: placebo lift" in found.output
    after = {path: path.stat().st_mtime_ns for path in settings.folder.rglob("*") if path.suffix != ".db-shm"}
    assert {path.name for path in set(after) ^ set(before)} <= {"index.db-wal"}  # no picture stays


def test_other_bounds_come_from_a_file(place):
    root, _ = place
    (root / "gate.yaml").write_text(yaml.safe_dump({**GATE, "minimum_exits": 5000}))
    found = gate(root, "start.onnx", "better.pt", "--gate", root / "gate.yaml")
    assert found.exit_code == 3
    assert "expected at least 5000 in 4" in found.output


def test_what_cannot_be_judged_by_is_said(place, tmp_path):
    root, _ = place
    missing = gate(root, "start.onnx", "nothing.pt")
    assert isinstance(missing.exception, ConfigurationError)
    assert "NEW: no file" in str(missing.exception)
    (tmp_path / "gate.yaml").write_text("minimum_exit: 3\n")
    with pytest.raises(ConfigurationError, match="minimum_exits"):
        by_hand.load_gate(tmp_path / "gate.yaml")
    town(tmp_path, 1.0)
    empty = gate(tmp_path, "start.onnx", "start.onnx")
    assert "holds no crops" in str(empty.exception)


def test_the_documented_bounds_are_the_defaults():
    assert by_hand.load_gate(Path(__file__).parents[4] / "configs" / "adapt" / "gate.yaml") == GateSettings()


def test_what_ships_is_judged_as_a_refresh(place):
    """Half precision loses nothing. A network that is another one stands for an INT8 gone wrong: real rows, of which it
    is known that they are worse."""
    root, settings = place
    index = Index(settings.folder / "index.db")
    by_hand.lay_hearing(settings, index, root / "hearing", lambda _: None)
    index.close()
    hearing = judge.Hearing(settings, root / "hearing", root / "cache")
    refresh = judge.Refresh(hearing, root / "better.pt", root / "start.onnx")
    plain = to_onnx(load_model(root / "better.pt"))
    assert refresh("fp32", plain) == ()
    gates = refresh("fp16", half(plain))
    assert {one.name for one in gates} >= {"fp16_site_placebo_lift", "fp16_site_right_matches"}
    assert all(one.passed for one in gates), gates
    gates = refresh("int8", to_onnx(load_model(root / "worse.pt")))
    failed = {one.name for one in gates if not one.passed}
    assert "int8_site_placebo_lift" in failed
    assert refresh.found["fp16"]["decision"] == "publish"
    assert refresh.found["int8"]["decision"] == "refuse"


def test_a_verdict_as_gates_of_a_manifest():
    measures = (
        Measure("placebo lift", "passed", 0.001, (-0.004, 0.006), -0.005, ""),
        Measure("camera share", "refused", 0.2, None, 0.1, ""),
        Measure("certain impostors", "not judged", None, None, None, ""),
        Measure("drift", "not judged", None, None, None, ""),
    )
    assert judge.gates_of(Verdict("refuse", (), measures, ()), "int8_site_") == (
        Gate(name="int8_site_placebo_lift", value=-0.004, limit=-0.005, passed=True),
        Gate(name="int8_site_camera_share", value=0.2, limit=0.1, passed=False),
        Gate(name="int8_site_certain_impostors", value=0.0, limit=0.0, passed=False),
    )


@pytest.mark.parametrize(("purpose", "said"), [("adaptation", "is better: 5 %"), ("refresh", "does no harm, which is")])
def test_nothing_is_called_better_that_was_not_asked_to_be(purpose, said):
    lift = Measure("placebo lift", "passed", 0.05, (0.01, 0.09), 0.0, "5 %")
    assert f"the new model {said}" in judge.sentence(Verdict("publish", (), (lift,), (), purpose=purpose))
