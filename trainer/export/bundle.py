"""What was exported, as a signed bundle, and engines of it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_app.contract.bundle import write_bundle
from edge_app.contract.bundle_manifest import BundledModel, BundleManifest
from edge_app.contract.errors import BundleError
from edge_app.contract.golden import Golden, golden_bytes
from edge_app.contract.model import ModelManifest
from edge_app.contract.signature import PrivateKey, read_private_key, write_key_pair
from trainer.config import portable
from trainer.errors import DataError, WorldError
from trainer.export import drawn, ladder
from trainer.export.detector import ExportedDetector, bundled
from trainer.export.run import Exported
from trainer.export.verify import histogram
from trainer.models.licence import UNKNOWN
from trainer.onnx_graph.session import grey_spec, rows_of

if TYPE_CHECKING:
    from onnx import ModelProto

GOLDEN_CROPS = 8
FOLDER = re.compile(r"file:/|(?<![\w.:/])(?:~|[A-Za-z]:)?[/\\]\w")  # an absolute path, somewhere in a text
MAX_BATCH = 16  # of an engine; that of `edge-app build-engine`


def signing_key(path: Path) -> PrivateKey:
    """The key in the file; where there is none, a new pair is made, the public half beside it. Raises `DataError`."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_key_pair(path, public_path(path))
        return read_private_key(path)
    except BundleError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise WorldError(f"{path} cannot be written: {error.strerror or error}") from None


def public_path(key: Path) -> Path:
    """Where the public half of a key lies."""
    return key.with_name(f"{key.stem}.pub{key.suffix}")


def manifest_of(
    exported: Exported, name: str, now_s: float, detector: ExportedDetector | None = None
) -> BundleManifest:
    """Everything but the digests. The serial is the time: it grows with every export."""
    chosen, model = exported.chosen, exported.source
    described = ModelManifest(
        kind="embedder",
        version="digest of the file",
        input=grey_spec(model.spec),
        dimension=model.network.dimension,
        made_by="trainer export",
        licence_note=model.licence_note or UNKNOWN,
    )
    embedder = BundledModel(
        model=described,
        precision=chosen.precision,
        precision_reason=exported.reason[:2000],
        gates=exported.gates,
        judgement=chosen.judgement,
        float_layers=tuple(layer[:300] for layer in chosen.float_layers),
        sensitivity=chosen.sensitivity,
        histograms={f"{chosen.precision}_against_fp32": histogram(chosen.comparison.cosines)},
        calibration=exported.calibration,
    )
    first_s, last_s = exported.times_s or (None, None)
    return BundleManifest(
        schema_="crosslane.bundle/1",
        name=file_name(name),
        serial=int(now_s),
        created_at_s=now_s,
        commit=model.commit[:300],
        embedder=embedder,
        detector=None if detector is None else bundled(detector),
        threshold_shift=chosen.comparison.threshold_shift,
        threshold_false_match_rate=chosen.comparison.false_match_rate,
        similarities=exported.similarities,
        data_from_s=first_s,
        data_until_s=last_s,
        config=portable(model.settings),  # model files of version 0.2 hold paths
    )


def golden_of(exported: Exported) -> Golden:
    """Pictures that nobody took, with the rows of the file that ships and of the float network: a bundle goes where its
    crops may not, and stays when somebody has them forgotten."""
    spec, chosen = exported.source.spec, exported.chosen
    crops = drawn.pictures(GOLDEN_CROPS, spec.height_px, spec.width_px)
    shown = np.ascontiguousarray(crops[:, :, :, ::-1]) if spec.channel_order == "RGB" else crops
    rows, float_rows = (rows_of(model, shown) for model in (chosen.model, exported.plain))
    return Golden(crops, rows, float_rows, ladder.MIN_COSINE[chosen.precision])


def write(
    exported: Exported,
    path: Path,
    name: str,
    key: PrivateKey,
    now_s: float,
    *,
    detector: ExportedDetector | None = None,
) -> BundleManifest:
    """The bundle, whole or not at all. Raises `WorldError` when the disk refuses, `DataError` when it would be none."""
    members: dict[Any, bytes] = {
        "embedder.onnx": file_of(exported.chosen.model),
        "golden.npz": golden_bytes(golden_of(exported)),
    }
    if detector is not None:
        members["detector.onnx"] = file_of(detector.chosen.model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_bundle(path, manifest_of(exported, name, now_s, detector), members, key)
    except BundleError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise WorldError(f"{path} cannot be written: {error.strerror or error}") from None


def build_engines(
    networks: Sequence[Exported | ExportedDetector], devices: list[str], folder: Path, report: Callable[[str], None]
) -> list[Path]:
    """An engine per network and device, as `edge-app build-engine` would find it. Raises `DataError` with the builder's
    words."""
    from edge_app.errors import ModelError, StoreError
    from edge_app.runtime import build

    made = []
    with tempfile.TemporaryDirectory() as place:
        onnx = Path(place) / "network.onnx"
        for network, device in ((network, device) for network in networks for device in devices):
            onnx.write_bytes(file_of(network.chosen.model))
            request = build.BuildRequest(onnx, folder, device, precision=network.chosen.precision, max_batch=MAX_BATCH)
            try:
                made.append(build.build_engine(request, report).path)
            except (ModelError, StoreError) as error:
                raise DataError(f"the bundle is written, an engine for {device} is not: {error}") from None
    return made


def file_of(model: ModelProto) -> bytes:
    """The ONNX file that ships, without what exporters leave in it about the machine: the source lines of nodes, and
    properties that name a folder, such as Ultralytics' description with the data.yaml of the training."""
    bare = type(model)()
    bare.CopyFrom(model)
    for part in (bare, bare.graph, *bare.graph.node):
        part.ClearField("doc_string")
        kept = [each for each in part.metadata_props if not FOLDER.search(each.value)]
        del part.metadata_props[:]
        part.metadata_props.extend(kept)
    return bare.SerializeToString()


def file_name(name: str) -> str:
    """A name that a bundle may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64] or "embedder"
