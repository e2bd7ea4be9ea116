"""`trainer detector`: fine-tune a detector of Ultralytics, with labels or with those of a teacher, and export it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(
    help="Train and export detectors with Ultralytics YOLO: AGPL-3.0, the optional extra `detector`.",
    no_args_is_help=True,
)

Width = Annotated[int, typer.Option(help="Of the network's input, in pixels.")]
Height = Annotated[int, typer.Option(help="Of the network's input, in pixels.")]
Teacher = Annotated[Optional[Path], typer.Option(help="A larger detector that labels --frames: ONNX or .pt.")]  # noqa: UP045
Manifest = Annotated[Optional[Path], typer.Option(help="JSON about an ONNX teacher, if not beside it.")]  # noqa: UP045
Trust = Annotated[bool, typer.Option("--trust-pickle", help="Open a .pt even where that runs code from it.")]
WIDTH_PX, HEIGHT_PX = 640, 384


@app.command()
def train(  # noqa: PLR0913, PLR0917  every option of a command is a parameter
    weights: Annotated[str, typer.Option(help="yolo26n.pt or the like; a .yaml begins from nothing.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Annotated[Optional[Path], typer.Argument(help="data.yaml of labelled frames, YOLO's layout.")] = None,  # noqa: UP045
    teacher: Teacher = None,
    frames: Annotated[Optional[Path], typer.Option(help="Recordings or pictures, instead of DATA.")] = None,  # noqa: UP045
    teacher_manifest: Manifest = None,
    classes: Annotated[str, typer.Option(help="Of the teacher, to learn: car,truck,bus. Empty: all.")] = "",
    score: Annotated[float, typer.Option(help="The teacher's boxes of at least this score are labels.")] = 0.4,
    count: Annotated[int, typer.Option(help="Frames that the teacher labels.")] = 2000,
    epochs: Annotated[int, typer.Option(help="Times that every frame is seen.")] = 50,
    batch: Annotated[int, typer.Option(help="Frames per step.")] = 16,
    width: Annotated[int, typer.Option(help="Longer side of a frame, in pixels.")] = WIDTH_PX,
    device: Annotated[Optional[str], typer.Option(help="cpu, 0, or 0,1; Ultralytics chooses where absent.")] = None,  # noqa: UP045
    trust_pickle: Trust = False,
) -> None:
    """Fine-tune on labelled frames, or on frames that a larger detector labels.

    Ultralytics and weights trained with it are AGPL-3.0: read its terms before you ship them in a product. YOLOX and
    other detectors in ONNX need none of this; `trainer export --detector` takes them as they are.
    """
    from trainer.detector import weights as ultralytics
    from trainer.errors import ConfigurationError

    if (data is None) == (teacher is None) or (teacher is None) != (frames is None):
        raise ConfigurationError(["expected either DATA, or --teacher with --frames"], "command line")
    if teacher is not None and frames is not None:
        from trainer.detector.network import read_detector
        from trainer.detector.pseudo import write_labels

        with ultralytics.as_onnx(teacher, trusted=trust_pickle) as onnx:
            larger = read_detector(onnx, teacher_manifest)
        kept = tuple(name.strip() for name in classes.split(",") if name.strip())
        data = write_labels(larger, frames, out / "labelled", kept, count=count, score=score, report=typer.echo)
    assert data is not None
    training = ultralytics.Training(epochs, batch, width, device)
    best = ultralytics.train(weights, data, out, training, trusted=trust_pickle)
    typer.echo(f"weights: {best}; next: trainer detector export {best} --out detector.onnx")


@app.command()
def export(
    weights: Annotated[Path, typer.Argument(help="Weights of Ultralytics, .pt.")],
    out: Annotated[Path, typer.Option(help="ONNX file to write; the JSON about it comes beside it.")],
    raw: Annotated[bool, typer.Option("--raw", help="The head with duplicates, also where the other exists.")] = False,
    width: Width = WIDTH_PX,
    height: Height = HEIGHT_PX,
    trust_pickle: Trust = False,
) -> None:
    """Write weights of Ultralytics (AGPL-3.0) as ONNX for `edge-app` and for `trainer export --detector`."""
    from trainer.detector import weights as ultralytics

    detector = ultralytics.to_detector(weights, "raw" if raw else "end2end", width, height, trusted=trust_pickle)
    ultralytics.write_detector(detector, out)
    about = detector.manifest
    typer.echo(f"{about.head} head, {len(about.class_names)} classes, {width}×{height}: {out}")
