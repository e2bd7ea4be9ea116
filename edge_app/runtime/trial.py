"""A model file is run the first time in a process of its own, with limits on time and memory.

A model is a program: it may loop for ever or ask for more memory than there is, and no library stops it. What passed
once is remembered in the ledger and not tried again; the trial costs a start of Python and of the runtime.
"""

from __future__ import annotations

import hashlib
import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_app.contract.archive import digest_of
from edge_app.contract.preprocess import InputSpec
from edge_app.errors import ModelError
from edge_app.runtime.child import Ending, run_child
from edge_app.runtime.engine import EngineSettings
from edge_app.runtime.ledger import Ledger

FORMAT = 1  # counts up when a trial looks at more than before: what passed is tried again


class EndlessModelError(ModelError):
    """A model that took more time or memory than it may, or took its process along."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried."""

    onnx: Path
    engine: EngineSettings
    spec: InputSpec | None  # None where only the model's own input says its size
    golden: Path | None = None  # crops to run, and the embeddings they must give


def hold(trial: Trial, ledger: Ledger) -> None:
    """Raises `EndlessModelError`, or `ModelError` in the words of whoever opens and runs the model there."""
    if not trial.onnx.is_file():
        return  # who opens it says so
    task = {
        "onnx": str(trial.onnx),
        "engine": trial.engine.model_dump(mode="json"),
        "spec": None if trial.spec is None else trial.spec.model_dump(mode="json"),
        "golden": None if trial.golden is None else str(trial.golden),
    }
    digest = _digest(trial, task)
    if ledger.has_passed(digest):
        return
    errors: list[str] = []
    done = False

    def hear(said: dict[str, str]) -> None:
        nonlocal done
        errors.extend([said["error"]] if "error" in said else [])
        done |= "done" in said

    ending = run_child("edge_app.runtime.trial_child", task, trial.engine.trial_s, hear)
    if errors:
        raise ModelError(errors[0])
    if not done:
        raise EndlessModelError(f"{trial.onnx}: {_in_words(ending, trial.engine)}")
    ledger.note_passed(digest)


def _digest(trial: Trial, task: dict[str, Any]) -> str:
    """Of everything that the outcome depends on."""
    golden = None if trial.golden is None else digest_of(trial.golden)
    text = json.dumps([FORMAT, task, digest_of(trial.onnx), golden], sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _in_words(ending: Ending, engine: EngineSettings) -> str:
    if ending.late:
        return (
            f"the model did not end within {engine.trial_s:g} s (engine.trial_s) when it was loaded and run once: "
            "it loops for ever, or is far too slow for this machine; take another model"
        )
    if ending.code == -signal.SIGKILL:
        return "the process that tried the model was killed, most likely for memory; take a smaller model"
    return (
        f"the process that tried the model {ending}; "
        f"take another model, or allow it more memory than {engine.trial_mib} MiB (engine.trial_mib)"
    )
