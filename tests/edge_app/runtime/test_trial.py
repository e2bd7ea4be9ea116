"""A model is run once in a process of its own: what loops, eats or crashes is refused by its name, and takes nobody
along. Real ONNX files on the real runtime."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_bundle

from edge_app.contract.golden import golden_bytes
from edge_app.errors import ModelError
from edge_app.runtime.engine import EngineSettings
from edge_app.runtime.ledger import Ledger
from edge_app.runtime.trial import EndlessModelError, Trial, hold

SHORT = EngineSettings(trial_s=4.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "bundles.json")


def test_what_passed_is_not_tried_again(tiny_onnx, ledger) -> None:
    trial = Trial(tiny_onnx.mean_colour(), EngineSettings(), None)
    hold(trial, ledger)
    began_s = time.monotonic()
    hold(trial, ledger)
    assert time.monotonic() - began_s < 0.1
    with pytest.raises(EndlessModelError):
        hold(replace(trial, engine=EngineSettings(trial_s=0.01)), ledger)  # other settings are another trial
    trial.onnx.write_bytes(tiny_onnx.endless().read_bytes())  # and so is another file of the same name
    with pytest.raises(EndlessModelError):
        hold(replace(trial, engine=SHORT), ledger)


def test_a_loop_without_end_is_stopped_and_named(tiny_onnx, ledger) -> None:
    path, began_s = tiny_onnx.endless(), time.monotonic()
    with pytest.raises(EndlessModelError, match=r"endless\.onnx: the model did not end within 4 s \(engine\.trial_s\)"):
        hold(Trial(path, SHORT, None), ledger)
    assert time.monotonic() - began_s < 15
    assert not ledger.path.exists()


def test_a_model_that_eats_memory_is_refused(tiny_onnx, ledger) -> None:
    with pytest.raises(ModelError, match=r"hungry\.onnx: .*there is not enough memory for it"):
        hold(Trial(tiny_onnx.hungry(8), EngineSettings(trial_mib=2048), None), ledger)
    hold(Trial(tiny_onnx.hungry(1), EngineSettings(trial_mib=4096), None), ledger)


def test_golden_crops_are_tried_too(tiny_onnx, ledger, tmp_path) -> None:
    path, golden = tiny_onnx.mean_colour(), tmp_path / "golden.npz"
    golden.write_bytes(golden_bytes(tiny_bundle.golden()))
    hold(Trial(path, EngineSettings(), tiny_bundle.INPUT, golden), ledger)
    other = tiny_bundle.golden(seed=1)
    golden.write_bytes(golden_bytes(replace(other, rows=other.rows[::-1], float_rows=other.rows)))
    with pytest.raises(ModelError, match="is not the network of the bundle"):
        hold(Trial(path, EngineSettings(), tiny_bundle.INPUT, golden), ledger)


def test_what_cannot_be_opened_is_said_in_the_engines_words(tmp_path, ledger) -> None:
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\x08\x07" + b"garbage" * 50)
    with pytest.raises(ModelError, match=r"junk\.onnx is not a usable ONNX model"):
        hold(Trial(junk, EngineSettings(), None), ledger)
    hold(Trial(tmp_path / "none.onnx", EngineSettings(), None), ledger)  # whoever opens it says so


def test_a_ledger_that_cannot_be_written_costs_a_trial_only(tiny_onnx, tmp_path) -> None:
    trial = Trial(tiny_onnx.mean_colour(), EngineSettings(), None)
    hold(trial, Ledger(tmp_path / "none" / "bundles.json"))
    assert not (tmp_path / "none").exists(), "no folder is made for it"
    (tmp_path / "folder.json").mkdir()
    hold(trial, Ledger(tmp_path / "folder.json"))


def test_a_child_does_not_outlive_its_parent(tiny_onnx, tmp_path) -> None:
    """The parent is killed while the child is inside a library's loop."""
    code = f"""
from pathlib import Path
from edge_app.runtime.engine import EngineSettings
from edge_app.runtime.ledger import Ledger
from edge_app.runtime.trial import Trial, hold
hold(Trial(Path({str(tiny_onnx.endless())!r}), EngineSettings(trial_s=600), None), Ledger(Path("x/y")))
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    until_s = time.monotonic() + 30
    while not (found := children.read_text().split()) or "trial_child" not in command_of(found[0]):
        assert time.monotonic() < until_s
        time.sleep(0.05)
    time.sleep(3)  # so that it is in the loop
    parent.kill()
    parent.wait()
    while "trial_child" in command_of(found[0]):
        assert time.monotonic() < until_s
        time.sleep(0.05)


def command_of(process: str) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode()
    except OSError:
        return ""
