"""The `trainer` command. Libraries are imported inside the commands, so that --help is instant."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from trainer.adapt.cli import app as site_app
from trainer.detector.cli import Trust
from trainer.detector.cli import app as detector_app
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from trainer.export.detector import ExportedDetector

app = typer.Typer(
    help="Learn to find the same vehicle or person again on another camera, without labels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(detector_app, name="detector")
app.add_typer(site_app)

Data = Annotated[Path, typer.Argument(help="Folder of a data set, folder of crops, or CSV table.")]
Cache = Annotated[Path, typer.Option(help="Folder for the decoded crops.")]
Layout = Annotated[Optional[str], typer.Option(help="Name of the data set's layout; recognised where absent.")]  # noqa: UP045
Pattern = Annotated[
    str | None,
    typer.Option(help="For a plain folder: regular expression with groups camera, time, tracklet, identity."),
]
CACHE = Path("~/.cache/crosslane")


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="YAML file of the run, see configs/train.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    overrides: Annotated[Optional[list[str]], typer.Argument(metavar="[KEY=VALUE]...")] = None,  # noqa: UP045
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")] = False,
) -> None:
    """Train an embedder on crops without identities.

    KEY=VALUE changes a value of the file, for example epochs=10 or method.temperature=0.06. The exit status is 3 where
    the crops teach nothing, or the trained network is no better than its start: then that is the model.
    """
    from trainer import outline
    from trainer.settings import read

    content = read(config)
    outline.check(config, content, overrides or [])  # mistakes are told before torch is imported

    from trainer import config as configuration
    from trainer import run

    model = run.start(configuration.load(config, overrides, content), out, resume)
    typer.echo(f"model: {model}")


@app.command()
def extract(
    model: Annotated[Path, typer.Argument(help="model.pt of a run, or an ONNX file.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="features.npz to write.")],
    part: Annotated[str, typer.Option(help="train, query, gallery, or test (query, then gallery).")] = "train",
    flip: Annotated[bool, typer.Option("--flip", help="Mean of each crop and its mirror image.")] = False,
    layout: Layout = None,
    pattern: Pattern = None,
    cache: Cache = CACHE,
) -> None:
    """Write the features of crops, for `cluster` and `evaluate`. Training crops come without identities."""
    from trainer import commands

    table = commands.extract(model, data, part, commands.Place(layout, cache, pattern), flip, say=typer.echo)
    commands.save_features(out, table)
    typer.echo(f"{len(table.features)} features of length {table.features.shape[1]}: {out}")


@app.command()
def cluster(  # noqa: PLR0913, PLR0917  every option of a command is a parameter
    features: Annotated[Path, typer.Argument(help="features.npz.")],
    out: Annotated[Path, typer.Option(help="labels.npz to write; −1 marks outliers.")],
    k1: Annotated[int, typer.Option(help="Neighbours per crop, itself included.")] = 30,
    k2: Annotated[int, typer.Option(help="Neighbours whose rows are averaged, itself included.")] = 6,
    eps: Annotated[Optional[list[float]], typer.Option(help="Largest distance; several: the best silhouette.")] = None,  # noqa: UP045
    min_samples: Annotated[int, typer.Option(help="Crops within eps that make a core.")] = 4,
    inverted_lists: Annotated[
        bool, typer.Option("--inverted-lists", help="Search near cells only; its recall is proved on a sample.")
    ] = False,
    camera_centred: Annotated[bool, typer.Option("--camera-centred", help="Take each camera's mean off.")] = False,
    track_weight: Annotated[float, typer.Option(help="Weight of a tracklet's mean in its crops' features.")] = 0.0,
    keep_apart: Annotated[bool, typer.Option("--keep-apart", help="Never join tracks seen at once.")] = False,
    transits: Annotated[bool, typer.Option("--transits", help="Learn travel times, cluster again by them.")] = False,
) -> None:
    """Cluster features: exact k-reciprocal Jaccard distance and DBSCAN.

    Cameras, capture times and tracklets come from the file of features, where `extract` found some; the last four
    options use them.
    """
    from trainer import commands

    values = eps or [0.6]
    settings = {
        "clustering": {
            "neighbours": {"search": "inverted_lists" if inverted_lists else "exact"},
            "jaccard": {"k1": k1, "k2": k2},
            "dbscan": {"eps": values[0], "min_samples": min_samples},
            "eps_candidates": values if len(values) > 1 else [],
        },
    }
    uses = {"camera_centred": camera_centred, "track_weight": track_weight, "keep_apart": keep_apart}
    result = commands.cluster_file(features, out, {**settings, **uses, "transits": transits}, typer.echo)
    for name, value in result.items():
        typer.echo(f"{name:>22}  {value:.4g}" if isinstance(value, float) else f"{name:>22}  {value}")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="model.pt of a run, an ONNX file, or features.npz of the test part.")],
    data: Data,
    rerank: Annotated[bool, typer.Option("--rerank", help="k-reciprocal re-ranking.")] = False,
    flip: Annotated[bool, typer.Option("--flip", help="Mean of each crop and its mirror image.")] = False,
    json_file: Annotated[Optional[Path], typer.Option("--json", help="Also write the numbers here.")] = None,  # noqa: UP045
    layout: Layout = None,
    pattern: Pattern = None,
    cache: Cache = CACHE,
) -> None:
    """Measure a model on the test part of a data set; the rule for cameras stands beside the numbers."""
    from trainer import commands
    from trainer.evaluate import EvaluationSettings

    place = commands.Place(layout, cache, pattern)
    report = commands.evaluate(model, data, place, EvaluationSettings(rerank=rerank), flip, say=typer.echo)
    typer.echo(report.sentence())
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")


@app.command()
def inspect(
    data: Data,
    out: Annotated[Optional[Path], typer.Option(help="Contact sheet to write (PNG).")] = None,  # noqa: UP045
    layout: Layout = None,
    pattern: Pattern = None,
) -> None:
    """Say what was read: crops, cameras, times, tracklets, sizes, bad files; and draw a contact sheet.

    DATA is one of

    * a public set in its own layout: market1501, dukemtmc, msmt17, veri776, vehicleid, veriwild;

    * a folder of pictures (.jpg .jpeg .png .bmp .webp), at any depth. train/, query/ and gallery/ below it are what
    they say; without them all are for training. Sub-folders called cam1, cam_north, camera 2, c001 are cameras.
    --pattern reads the names: '(?P<identity>[a-z]+_[0-9]+)_cam(?P<camera>[0-9]+)' for car_0003_cam1.jpg,
    '(?P<camera>[^/]+)/[^/]+$' where every sub-folder is a camera;

    * a CSV table: path and, each optional, split, camera, time (seconds since the epoch), tracklet, identity.

    Cameras keep their names. What is not read is counted and named: other suffixes, links that lead nowhere, files
    that are damaged, or declare more than 67 megapixels. EXIF orientation is applied; 12 bits in 16 are recognised.
    """
    from trainer import commands

    for line in commands.inspect(data, commands.Place(layout, CACHE, pattern), out):
        typer.echo(line)


DetectorFile = Annotated[Optional[Path], typer.Option(help="Detector to put in: ONNX, or a .pt of Ultralytics.")]  # noqa: UP045
Frames = Annotated[Optional[Path], typer.Option(help="For the detector: recordings, pictures, or data.yaml.")]  # noqa: UP045
DetectorManifest = Annotated[Optional[Path], typer.Option(help="JSON about the detector, if not beside it.")]  # noqa: UP045


@app.command()
def export(  # noqa: PLR0913, PLR0917  every option of a command is a parameter
    model: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="model.pt of a run.")],
    calibration: Annotated[Path, typer.Option(help="Data set: training crops for the INT8 ranges, test for the gate.")],
    out: Annotated[Path, typer.Option(help="Bundle to write: ….bundle.")],
    precision: Annotated[
        str, typer.Option(help="Of the bundle's networks; auto: the smallest that passes the gate and is worth it.")
    ] = "auto",
    detector: DetectorFile = None,
    frames: Frames = None,
    detector_manifest: DetectorManifest = None,
    trust_pickle: Trust = False,
    key: Annotated[Optional[Path], typer.Option(help="Private key, PEM; a new pair is made where none is.")] = None,  # noqa: UP045
    engine: Annotated[Optional[list[str]], typer.Option(help="Also build engines, as sm86; repeatable.")] = None,  # noqa: UP045
    layout: Layout = None,
    pattern: Pattern = None,
    cache: Cache = CACHE,
) -> None:
    """Turn a model into a signed bundle for the roadside: in INT8 where that passes the gate and pays, else FP16.

    With --detector, that too, each network with a precision of its own. --frames judges it: against labels where there
    are some (YOLO's layout), else against its own FP32 boxes.
    """
    import time

    from trainer.export import bundle, run

    key = key or out.with_name("signing-key.pem")
    signer = bundle.signing_key(key)  # first: what is wrong with it should not be told after an hour
    asked = (frames, detector_manifest, precision, trust_pickle)
    found = None if detector is None else _export_detector(detector, *asked)
    exported = run.export(run.Request(model, calibration, layout, cache, precision, pattern=pattern), typer.echo)
    manifest = bundle.write(exported, out, out.stem, signer, time.time(), detector=found)
    typer.echo(f"{manifest.embedder.precision}, because {manifest.embedder.precision_reason}")
    if manifest.detector is not None:
        typer.echo(f"detector {manifest.detector.precision}, because {manifest.detector.precision_reason}")
    typer.echo(f"match threshold: move it by {manifest.threshold_shift:+.4f}")
    typer.echo(f"bundle: {out} ({out.stat().st_size / 1e6:.1f} MB), public key: {bundle.public_path(key)}")
    folder = out.with_name("engines")
    networks = (exported,) if found is None else (exported, found)
    for path in bundle.build_engines(networks, engine or [], folder, lambda line: typer.echo(line, err=True)):
        typer.echo(f"engine: {path} ({path.stat().st_size / 1e6:.1f} MB)")


def _export_detector(
    path: Path, frames: Path | None, description: Path | None, precision: str, trusted: bool
) -> ExportedDetector:
    from trainer.detector.weights import as_onnx
    from trainer.errors import ConfigurationError
    from trainer.export import detector

    if frames is None:
        raise ConfigurationError(
            ["--detector needs --frames: recordings, a folder of pictures or a data.yaml to judge it by"],
            "command line",
        )
    with as_onnx(path, trusted=trusted) as onnx:
        return detector.export(detector.Request(onnx, frames, description, precision), typer.echo)


@app.command("inspect-bundle")
def inspect_bundle(
    bundle: Annotated[Path, typer.Argument(help="Bundle, as `export` writes it.")],
    key: Annotated[Optional[list[Path]], typer.Option(help="Public key; by default the one beside it.")] = None,  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="Folder for a page with pictures.")] = None,  # noqa: UP045
) -> None:
    """Verify a bundle and say what is in it: precision, figures of the gate, sensitivity of the layers."""
    from trainer.report import bundle as report

    found = report.open_bundle(bundle, key or [bundle.with_name("signing-key.pub.pem")])
    for line in report.lines(found):
        typer.echo(line)
    if out is not None:
        report.write_report(found, out)
        typer.echo(f"page: {out / 'index.html'}")


@app.command()
def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """List the methods: what each does, what it uses camera numbers for, what it costs and remembers."""
    from dataclasses import asdict

    from trainer.methods.table import CARDS, show

    if as_json:
        typer.echo(json.dumps({name: asdict(card) for name, card in CARDS.items()}, indent=2, ensure_ascii=False))
    else:
        show(CARDS)


def main() -> None:
    """Run the command; an error made on purpose becomes one message and its exit code."""
    try:
        app()
    except TrainerError as error:
        typer.echo(f"trainer: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("trainer: interrupted; go on with --resume", err=True)
        sys.exit(130)
