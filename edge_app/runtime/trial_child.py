"""The process that loads and runs one model: `python -m edge_app.runtime.trial_child TASK`, started by `trial.py`."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edge_app.contract.errors import ContractError
from edge_app.contract.golden import parse_golden
from edge_app.contract.preprocess import InputSpec
from edge_app.errors import EdgeError
from edge_app.runtime import open_engine
from edge_app.runtime.child import die_with_parent, say
from edge_app.runtime.engine import EngineSettings
from edge_app.runtime.selfcheck import check_golden


def run(task: dict[str, Any]) -> None:
    """Load, run a picture of noise and a grey one, and the golden crops where there are any."""
    engine = open_engine(Path(task["onnx"]), EngineSettings.model_validate(task["engine"]))
    spec = None if task["spec"] is None else InputSpec.model_validate(task["spec"])
    if len(engine.inputs) != 1 or len(engine.inputs[0].shape) != 4:
        return  # who opens it says what is wrong
    port = engine.inputs[0]
    _, _, height, width = port.shape
    if spec is not None:
        height, width = height or spec.height_px, width or spec.width_px
    if height is None or width is None:
        return
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, height, width))
    scale = 1 if port.dtype == np.uint8 else 1 / 255
    for picture in (noise, np.full_like(noise, 128)):
        engine.run((picture * scale).astype(port.dtype))
    if task["golden"] is not None and spec is not None:
        golden = parse_golden(Path(task["golden"]).read_bytes(), task["golden"])
        check_golden(engine, spec, golden)


def limit_memory(engine: dict[str, Any]) -> None:
    """Not with a GPU's driver, which reserves addresses by the hundred gigabytes and uses none of them."""
    if engine["backend"] == "onnx" and engine["providers"] == ["CPUExecutionProvider"]:
        limit = engine["trial_mib"] << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    die_with_parent()
    task = json.loads(sys.argv[1])
    limit_memory(task["engine"])
    try:
        run(task)
    except (EdgeError, ContractError) as error:
        say("error", str(error))
    except MemoryError:
        say("error", f"{task['onnx']}: the model needs more than {task['engine']['trial_mib']} MiB (engine.trial_mib)")
    else:
        say("done", "")


if __name__ == "__main__":
    main()
