"""ONNX → TensorRT engine, for the GPU of this machine or, with TensorRT-RTX, ahead of time for another one.

An engine belongs to a version of TensorRT and to a GPU architecture, so it is built where it runs and kept in a folder
under (digest of the ONNX file, precision, largest batch, architecture, module, version). After an upgrade of TensorRT
the old engine is simply not the one that is looked for. One builder serves the modules `tensorrt` (10 and 11) and
`tensorrt_rtx`; it runs in a process of its own (`build_child.py`), so that neither its memory nor its crash is ours.

Never load an engine that came over the network: fetch the ONNX file, build the engine.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edge_app.contract.archive import digest_of
from edge_app.contract.whole import sync_folder
from edge_app.errors import ModelError, StoreError
from edge_app.runtime import private
from edge_app.runtime.child import Ending, run_child

_INSTALL = (
    "on a Jetson it comes with JetPack (make the environment with --system-site-packages); "
    "on a workstation: pip install tensorrt, or tensorrt-rtx-cu13 for RTX GPUs and for building ahead of time"
)


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine was built from and for. Two engines with the same key can stand in for each other."""

    onnx_sha256: str
    precision: str  # as the bundle says; the ONNX file itself fixes the type of every tensor
    max_batch: int
    device: str  # sm86: the architecture of the GPU
    module: str
    version: str

    @property
    def name(self) -> str:
        """File name without suffix."""
        made_by = f"{self.module}-{self.version}"
        return f"{self.onnx_sha256[:16]}-{self.precision}-b{self.max_batch}-{self.device}-{made_by}"


class EngineDescription(BaseModel):
    """What stands beside an engine file."""

    key: EngineKey
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One engine to have."""

    onnx: Path
    folder: Path  # of engines and timing caches; made when it is missing
    device: str | None = None  # sm86; None is the GPU of this machine
    precision: str = "as-exported"
    max_batch: int = 16  # of a model with a free batch size
    memory_bytes: int = 1 << 30  # that the engine's layers may use for scratch
    timeout_s: float = 3600.0
    tensorrt_from: str = "10.0"  # versions of `tensorrt` that read such files; TensorRT-RTX counts on its own
    tensorrt_below: str = "12.0"


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine file that is whole."""

    path: Path
    key: EngineKey
    fresh: bool  # built now, not found
    seconds: float


def build_engine(request: BuildRequest, report: Callable[[str], None] = lambda _: None) -> BuiltEngine:
    """The engine, from the folder or built now. `report` is told what is being done. Raises `ModelError` when the
    model cannot become an engine here, `StoreError` when the disk fails."""
    begin = time.monotonic()
    key = engine_key(request)
    with _disk_errors(request.folder):
        private.make_folder(request.folder)
        with _locked(request.folder / ".lock"):
            path = request.folder / f"{key.name}.engine"
            if (problem := engine_problem(path, key)) is None:
                return BuiltEngine(path, key, False, time.monotonic() - begin)
            report(f"building {path.name}: {problem}")
            _build(request, key, path, report)
            _remove_outdated(request.folder, key)
    return BuiltEngine(path, key, True, time.monotonic() - begin)


def engine_key(request: BuildRequest) -> EngineKey:
    """What the engine will be known by. Raises `ModelError` when nothing here could build it."""
    if not request.onnx.is_file():
        raise ModelError(f"model file {request.onnx} does not exist; correct the path or fetch the model")
    here = local_device()
    module = find_tensorrt(request.device, here)
    reads = in_range(module.__version__, request.tensorrt_from, request.tensorrt_below)
    if module.__name__ == "tensorrt" and not reads:
        raise ModelError(
            f"{request.onnx}: TensorRT {module.__version__} is here; the model is for {request.tensorrt_from} up to "
            f"below {request.tensorrt_below} (JetPack 6 brings 10.3); export it for this version, or run it with onnx"
        )
    return EngineKey(
        onnx_sha256=digest_of(request.onnx)[1],
        precision=request.precision,
        max_batch=request.max_batch,
        device=str(request.device or here),
        module=module.__name__,
        version=module.__version__,
    )


def in_range(version: str, lowest: str, below: str) -> bool:
    """Whether lowest ≤ version < below, part by part as numbers."""
    first, middle, last = (
        tuple(int(part) for part in each.split(".") if part.isdigit()) for each in (lowest, version, below)
    )
    return first <= middle < last


def engine_problem(path: Path, key: EngineKey) -> str | None:
    """Why an engine file cannot be used for `key`, None when it can. Says so before TensorRT sees a byte of it."""
    try:
        known = EngineDescription.model_validate_json(path.with_suffix(".json").read_bytes())
    except FileNotFoundError:
        return "nothing says what it was built from" if path.exists() else "there is none yet"
    except (OSError, ValueError):
        return "its description is damaged"
    for name, wanted in asdict(key).items():
        if (found := getattr(known.key, name)) != wanted:
            return f"it was built for {name} {found}, needed is {wanted}"
    if not path.is_file() or digest_of(path) != (known.size_bytes, known.sha256):
        return "it is damaged: its size or digest is not that of the engine that was built"
    return None


def find_tensorrt(device: str | None, here: str | None) -> Any:
    """The module that builds for `device`, None being `here`, this machine's GPU: `tensorrt` knows its own GPU only,
    `tensorrt_rtx` every architecture of its list. Raises `ModelError` that says how to get what is missing."""
    target = device or here
    if target is None:
        raise ModelError("no NVIDIA GPU was found here; say which one to build for: --for sm86 (needs tensorrt_rtx)")
    wanted = ("tensorrt", "tensorrt_rtx") if target == here else ("tensorrt_rtx",)
    for name in wanted:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        known = [each.lower() for each in module.ComputeCapability.__members__] if name == "tensorrt_rtx" else [target]
        if target not in known:
            buildable = ", ".join(each for each in known if each.startswith("sm"))
            raise ModelError(f"{name} {module.__version__} cannot build for {target}; it can for {buildable}")
        return module
    raise ModelError(f"an engine for {target} needs the Python module {' or '.join(wanted)}: {_INSTALL}")


def local_device() -> str | None:
    """The architecture of this machine's first GPU, as `sm86`; None without a GPU or its driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, values = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    for value, attribute in zip(values, (75, 76), strict=True):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return f"sm{values[0].value}{values[1].value}"


def _build(request: BuildRequest, key: EngineKey, path: Path, report: Callable[[str], None]) -> None:
    """Run the child, then give its file the final name; the description comes last, so it only stands by what is
    whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    task = {
        "module": key.module,
        "onnx": str(request.onnx.resolve()),
        "engine": str(partial),
        "device": key.device,
        "max_batch": request.max_batch,
        "memory_bytes": request.memory_bytes,
        "timing_cache": str(request.folder / f"{key.device}-{key.module}-{key.version}.timing"),
    }
    try:
        _run_child(task, request, report)
        size, sha256 = digest_of(partial)
        path.with_suffix(".json").unlink(missing_ok=True)
        partial.replace(path)
        description = EngineDescription(key=key, size_bytes=size, sha256=sha256).model_dump_json(indent=1)
        private.write_file(path.with_suffix(".json"), description.encode() + b"\n")
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _run_child(task: dict[str, Any], request: BuildRequest, report: Callable[[str], None]) -> None:
    """Raises `ModelError` with the child's own words, or with how it ended."""
    done = False

    def hear(said: dict[str, str]) -> None:
        nonlocal done
        if "error" in said:
            raise ModelError(f"{request.onnx}: {said['error']}")
        if "progress" in said:
            report(said["progress"])
        done |= "done" in said

    ending = run_child("edge_app.runtime.build_child", task, request.timeout_s, hear)
    if not done:
        raise ModelError(f"{request.onnx}: {_in_words(ending, request.timeout_s)}")


def _in_words(ending: Ending, timeout_s: float) -> str:
    if ending.late:
        return f"the builder was stopped after {timeout_s:.0f} s; give it more time or a smaller max_batch"
    if ending.code == -signal.SIGKILL:
        return "the builder was killed, most likely for memory: close other programs or lower memory_bytes or max_batch"
    return f"the builder {ending}"


def _remove_outdated(folder: Path, key: EngineKey) -> None:
    """Engines of the same network for the same GPU by another version of the same module; what a power cut left."""
    same = replace(key, version="").name
    for path in folder.glob(f"{same}*"):
        if not path.name.startswith(key.name + "."):
            path.unlink(missing_ok=True)
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One builder at a time in a folder; a second one waits, and then finds the engine."""
    with private.open_file(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"engines cannot be kept in {folder}: {error.strerror or error}") from None
