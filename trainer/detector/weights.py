"""Ultralytics YOLO, through its public interface alone: fine-tuning, and weights → ONNX with a description beside it.

Ultralytics is AGPL-3.0, and by its makers' reading so are weights trained with it. Nothing else here needs it: it is
the extra `detector`, imported where one of these functions is called.

Its weights are pickles, and a pickle runs whatever code its maker put in. They are opened by Ultralytics' restricted
loader, which knows the classes of its own networks and no others, and evaluates nothing in a YAML file of layers; a
file that needs more is refused unless the caller says `trusted`. A data.yaml that would run a script is refused.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_app.contract import yaml
from edge_app.contract.model import ModelManifest, write_manifest
from edge_app.contract.preprocess import InputSpec
from edge_app.contract.whole import whole
from edge_app.contract.yaml import YamlError
from trainer.detector.network import Detector, described
from trainer.errors import ConfigurationError, DataError, WorldError
from trainer.quiet import quietly

Head = Literal["end2end", "raw"]
WIDTH_PX, HEIGHT_PX = 640, 384  # 16 : 9 with the padding that strides of 32 need
SAFE = "ULTRALYTICS_SAFE_LOAD"  # read when Ultralytics is imported; processes that it starts inherit it
TRUST = "--trust-pickle opens it all the same and runs the code that is in it: only for a file whose maker you trust"
LICENCE = (
    "Trained with Ultralytics YOLO (AGPL-3.0): whoever ships these weights in a product should read Ultralytics' "
    "licence terms or train a detector of another origin."
)


@dataclass(frozen=True, slots=True)
class Training:
    """How to fine-tune."""

    epochs: int = 50
    batch: int = 16
    width_px: int = WIDTH_PX  # the longer side of a picture while training
    device: str | None = None  # cpu, 0, 0,1; Ultralytics chooses where absent
    seed: int = 0


def train(weights: str, data: Path, out: Path, training: Training, *, trusted: bool = False) -> Path:
    """Fine-tune `weights` (a .pt, or the name or file of a .yaml to begin from nothing) on a data.yaml; returns the
    best weights, `out`/weights/best.pt. `ConfigurationError` without Ultralytics, `DataError` with its words when it
    fails."""
    _need_no_script(data)
    model = _open(weights, trusted)
    out.mkdir(parents=True, exist_ok=True)
    try:
        model.train(
            data=str(data.resolve()),
            epochs=training.epochs,
            batch=training.batch,
            imgsz=training.width_px,
            rect=True,  # pictures keep their shape, as at the roadside
            device=training.device,
            seed=training.seed,
            deterministic=True,
            workers=min(8, os.cpu_count() or 1),
            plots=False,
            project=str(out.resolve().parent),
            name=out.name,
            exist_ok=True,
        )
    except (RuntimeError, OSError, ValueError, KeyError, AssertionError, SyntaxError) as error:
        raise DataError(f"Ultralytics could not train {weights} on {data}: {_first_line(error)}") from error
    best = out / "weights" / "best.pt"
    if not best.is_file():
        raise DataError(f"Ultralytics ended without weights: expected {best}")
    return best


def to_detector(
    weights: Path,
    head: Head = "end2end",
    width_px: int = WIDTH_PX,
    height_px: int = HEIGHT_PX,
    *,
    trusted: bool = False,
) -> Detector:
    """The network in ONNX, for any batch of pictures of one size. It takes grey levels and divides by 255 itself.

    Ultralytics frees height and width along with the batch, which leaves arithmetic on shapes in the graph that would
    be done again for every frame; fixing the two and folding constants takes it out. `end2end` needs no suppression of
    duplicates and exists from YOLOv10 and YOLO26 on; networks without it come with the raw head.
    """
    import onnx
    import onnxslim

    model = _open(str(weights), trusted)
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "weights.pt"  # Ultralytics writes beside the weights
        copied.write_bytes(weights.read_bytes())
        try:
            with quietly():
                made = _open(str(copied), trusted).export(
                    format="onnx", imgsz=[height_px, width_px], dynamic=True, end2end=head == "end2end", verbose=False
                )
            exported = onnx.load(made)
        except (RuntimeError, OSError, ValueError, AssertionError) as error:
            raise DataError(f"Ultralytics could not export {weights}: {_first_line(error)}") from error
    sides = exported.graph.input[0].type.tensor_type.shape.dim
    sides[2].dim_value, sides[3].dim_value = height_px, width_px
    exported.graph.ClearField("value_info")
    with quietly():
        exported = onnxslim.slim(exported)
    manifest = ModelManifest(
        kind="detector",
        version=weights.stem[:200],
        input=InputSpec(width_px=width_px, height_px=height_px, resize="letterbox"),
        class_names=tuple(str(model.names[number]) for number in sorted(model.names)),
        made_by="trainer detector export",
        licence_note=LICENCE,
    )
    return described(exported, manifest, str(weights))


def write_detector(detector: Detector, path: Path) -> None:
    """The ONNX file, and the JSON that describes it beside it. `WorldError` when the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            file.write(detector.model.SerializeToString())
        write_manifest(path, detector.manifest)
    except OSError as error:
        raise WorldError(f"{path} cannot be written: {error.strerror or error}") from None


@contextmanager
def as_onnx(path: Path, *, trusted: bool = False) -> Iterator[Path]:
    """The path of an ONNX file: `path` itself, or, while the context lasts, what Ultralytics makes of its weights."""
    if path.suffix != ".pt":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"{path.stem}.onnx"
        write_detector(to_detector(path, trusted=trusted), made)
        yield made


def _open(weights: str, trusted: bool) -> Any:
    """`ConfigurationError` without Ultralytics, or without its restricted loader; `DataError` when it cannot read the
    weights."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # what is missing is said, not installed behind one's back
    os.environ[SAFE] = str(not trusted).lower()
    try:
        ultralytics: Any = importlib.import_module("ultralytics")
    except ImportError as error:
        raise ConfigurationError(
            [
                f"{weights} needs Ultralytics ({error}), which is AGPL-3.0 and optional: "
                "pip install 'crosslane[detector]', or give a detector in ONNX"
            ]
        ) from None
    if weights.endswith(".pt") and "/" in weights and not Path(weights).is_file():
        raise DataError(f"{weights}: no such file")
    if not trusted and not _restricted():
        problem = "this Ultralytics, or a torch that is too old for it, can only open it as a pickle: update them"
        raise ConfigurationError([f"{weights}: {problem}, or give a detector in ONNX. {TRUST}"])
    try:
        return ultralytics.YOLO(weights, task="detect")
    except Exception as error:  # pickles and YAML of others fail in any way there is
        reason = f"{weights} is not a detector that Ultralytics can read: {_first_line(error)}"
        raise DataError(reason if trusted else f"{reason}. {TRUST}") from error


def _restricted() -> bool:
    """Whether Ultralytics opens weights without running code from them."""
    tasks: Any = importlib.import_module("ultralytics.nn.tasks")
    loader = getattr(tasks, "_SafeLoad", None)
    return loader is not None and bool(loader.restricted())


def _need_no_script(data: Path) -> None:
    """`ConfigurationError` where Ultralytics would run what a data.yaml names when its pictures are not there."""
    try:
        named = "download" in yaml.read(data)
    except YamlError as error:
        raise DataError(f"{data} {'; '.join(error.problems)}") from None
    if named:
        problem = "`download` is a script that Ultralytics would run: fetch the data yourself and take the line out"
        raise ConfigurationError([f"{data}: {problem}"])


def _first_line(error: Any) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
