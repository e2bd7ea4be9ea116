"""The process that builds one engine: `python -m edge_app.runtime.build_child TASK`, started by `build.py`.

TASK is JSON. What it has to say goes to stdout, one JSON object per line: `progress`, `error` or `done`. It stops
when nobody listens any more.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from edge_app.runtime.child import die_with_parent, say
from edge_app.runtime.private import open_file, write_file


class BuildError(Exception):
    """Why there is no engine, in plain words."""


def build(trt: Any, task: dict[str, Any]) -> None:
    """Parse, describe the batch, build, write to the disk."""
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network, parser = _parsed(trt, builder, logger, task["onnx"])
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, task["memory_bytes"])
    monitor = config.progress_monitor = _monitor(trt)
    if trt.__name__ == "tensorrt_rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, task["device"].upper()), 0)
    _add_profile(builder, network, config, task["max_batch"])
    cache = Path(task["timing_cache"]) if trt.__name__ == "tensorrt" else None  # TensorRT-RTX times nothing
    if cache is not None:
        known = cache.read_bytes() if cache.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BuildError(
            f"TensorRT could not build the engine: {' | '.join(logger.errors[-3:]) or 'it gives no reason'}"
        )
    _write(Path(task["engine"]), engine)
    if cache is not None:
        write_file(cache, config.get_timing_cache().serialize())
    del monitor, parser  # both must outlive the build


def _parsed(trt: Any, builder: Any, logger: Any, onnx: str) -> tuple[Any, Any]:
    """A network whose types are those of the file. Weights beside the file are found because the parser knows its path.
    The parser owns the weights: keep it as long as the network."""
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(onnx):
        raise BuildError("; ".join(_in_words(parser.get_error(index)) for index in range(parser.num_errors)))
    if network.num_inputs != 1:
        names = ", ".join(network.get_input(index).name for index in range(network.num_inputs))
        raise BuildError(f"expected a model with one input, a batch of pictures; this one has: {names}")
    return network, parser


def _in_words(error: Any) -> str:
    """One error of the parser."""
    said, operator = error.desc().removeprefix("Assertion failed: ").strip(), error.node_operator()
    node = f"node {error.node_name()!r} ({operator})" if operator else "the model"
    kind = str(error.code()).rpartition(".")[2]
    if kind == "MODEL_DESERIALIZE_FAILED":
        return "this is no ONNX file, or it is damaged; fetch or export it again"
    if kind == "UNSUPPORTED_NODE" or "Plugin not found" in said:
        detail = "" if said == "false" or "Plugin not found" in said else f" as it is used here ({said})"
        return f"TensorRT does not know the operator {operator}{detail}, {node}; export the model without it"
    return f"TensorRT refuses {node}: {said}"


def _add_profile(builder: Any, network: Any, config: Any, max_batch: int) -> None:
    """Batches of one up to the largest; tuned for half of it, which is what a busy site sends."""
    port = network.get_input(0)
    batch, *rest = tuple(port.shape)
    if any(size < 0 for size in rest):
        raise BuildError(f"the input {port.name!r} is {tuple(port.shape)}: only the batch may have a free size (-1)")
    if batch >= 0:
        return
    profile = builder.create_optimization_profile()
    sizes = (1, max(1, max_batch // 2), max_batch)
    profile.set_shape(port.name, *((size, *rest) for size in sizes))
    config.add_optimization_profile(profile)


def _write(path: Path, content: Any) -> None:
    with open_file(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make_logger(trt: Any) -> Any:
    """A logger of TensorRT whose `errors` can be read."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps errors for the message; the rest is nobody's business."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split())[:300])

    return Logger()


def _monitor(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Says how far the outermost phase is; ends the build when nobody listens."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outer: dict[str, int] = {}
            self.heard = True

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.outer[phase_name] = num_steps
            self.heard &= say("progress", phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.outer:
                self.heard &= say("progress", f"{phase_name}: {step + 1} of {self.outer[phase_name]}")
            return self.heard

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()


def main() -> None:
    die_with_parent()
    task = json.loads(sys.argv[1])
    try:
        build(importlib.import_module(task["module"]), task)
    except BuildError as error:
        say("error", str(error))
    except OSError as error:
        say("error", f"the engine cannot be written: {error.strerror or error}")
    except Exception as error:  # TensorRT's bindings raise what they like
        say("error", f"the builder failed: {type(error).__name__}: {error}")
    else:
        say("done", task["engine"])


if __name__ == "__main__":
    main()
