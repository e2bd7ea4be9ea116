"""Files that a run can be taken up from, and models that can be used. Written whole or not at all.

There is no random state to keep: all chance of a run is a function of (seed, epoch, step).
"""

from __future__ import annotations

import errno
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_app.contract.preprocess import InputSpec
from edge_app.contract.whole import whole
from trainer.data.batch import Epoch
from trainer.errors import DataError, WorldError
from trainer.models.embedder import Blueprint, Embedder, ModelSettings, blank_embedder

FORMAT = "crosslane.checkpoint/1"
MODEL_FORMAT = "crosslane.model-weights/1"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run between two steps."""

    settings: dict[str, Any]  # resolved settings, plain values; of files and folders the names alone
    commit: str
    network: dict[str, Tensor]
    optimiser: dict[str, Any]
    average: dict[str, Tensor] | None
    method: dict[str, Any]  # the memories
    epoch: int
    step: int  # steps of this epoch that are done
    steps: int  # steps of the run that are done
    plan: Epoch | None  # of the epoch under way; None between two epochs
    best: float | None  # best label-free score so far
    start: dict[str, float] | None = None  # what was judged before the first step; not in version 0.1


@dataclass(frozen=True, slots=True)
class Model:
    """A network and what it wants to see."""

    network: Embedder
    spec: InputSpec
    settings: dict[str, Any]  # of the run that made it; empty for a start
    commit: str
    licence_note: str = ""  # terms of the weights and of the crops; empty where the file does not say


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint. Raises `WorldError` when the disk is full or not writable; the old file is untouched then."""
    content = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
    if checkpoint.plan is not None:
        plan = checkpoint.plan
        arrays = {"labels": torch.from_numpy(plan.labels), "batches": torch.from_numpy(plan.batches)}
        content["plan"] = {**arrays, "facts": {name: float(value) for name, value in plan.facts.items()}}
    _write(path, {"format": FORMAT, **content})


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; `DataError` when it is missing, damaged or of another version."""
    content = _read(path, FORMAT)
    plan = content.pop("plan")
    if plan is not None:
        plan = Epoch(plan["labels"].numpy(), plan["batches"].numpy(), plan["facts"])
    return Checkpoint(**content, plan=plan)


def save_model(path: Path, model: Model) -> None:
    """Write a network with all that is needed to build it again. Raises `WorldError`."""
    blueprint = model.network.blueprint
    weights = blueprint.settings.weights
    described = blueprint.settings.model_copy(update={"weights": weights and Path(weights.name)})
    content = {
        "format": MODEL_FORMAT,
        "model": described.model_dump(mode="json"),
        "image_size": list(blueprint.image_size),
        "onnx": None if blueprint.onnx is None else torch.frombuffer(bytearray(blueprint.onnx), dtype=torch.uint8),
        "weights": model.network.state_dict(),
        "input": model.spec.model_dump(mode="json"),
        "settings": model.settings,
        "commit": model.commit,
        "licence_note": model.licence_note,
    }
    _write(path, content)


def load_model(path: Path) -> Model:
    """Read a network; `DataError` when it is missing, damaged or of another version."""
    content = _read(path, MODEL_FORMAT)
    height, width = content["image_size"]
    onnx = None if content["onnx"] is None else content["onnx"].numpy().tobytes()
    blueprint = Blueprint(ModelSettings.model_validate(content["model"]), (height, width), onnx)
    network = blank_embedder(blueprint)
    network.load_state_dict(content["weights"])
    about = content["settings"], content["commit"], content.get("licence_note", "")
    return Model(network.eval(), InputSpec.model_validate(content["input"]), *about)


def copy(path: Path, to: Path) -> None:
    """Copy a file of this kind. Raises `DataError` where it cannot be read, `WorldError` where the copy cannot be
    written."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    _replace(to, memoryview(content))


def _write(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    _replace(path, buffer.getbuffer())


def _replace(path: Path, content: memoryview) -> None:
    """A reader never meets half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            file.write(content)
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise WorldError(
            f"{path} ({len(content) / 2**20:.0f} MiB) cannot be written: {reason}; the file before it is untouched, "
            "make room and go on with --resume"
        ) from error


def _read(path: Path, version: str) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path} is damaged or not a file of this program: {str(error).splitlines()[0]}") from None
    found = content.pop("format", None) if isinstance(content, dict) else None
    if found != version:
        raise DataError(f"{path}: expected {version}, found {found}")
    return dict(content)
