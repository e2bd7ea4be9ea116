"""A bundle for people: what is in it and what the gate said, as lines of text or as a page with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edge_app.contract.bundle import ModelBundle, read_bundle
from edge_app.contract.bundle_manifest import BundledModel, Similarities
from edge_app.contract.errors import BundleError
from edge_app.contract.signature import read_public_key
from trainer.errors import DataError
from trainer.report.charts import layer_costs, similarities
from trainer.report.page import write_page

WORST = 5  # layers that the text names


def open_bundle(path: Path, keys: Sequence[Path]) -> ModelBundle:
    """The verified bundle; `DataError` when it is none, or by none of these public keys."""
    try:
        return read_bundle(path, [read_public_key(key) for key in keys])
    except BundleError as error:
        raise DataError(str(error)) from None


def lines(bundle: ModelBundle) -> list[str]:
    """Everything worth knowing, one fact a line."""
    made = bundle.manifest
    found = [
        f"{made.name} {made.serial}, made {_day(made.created_at_s)} of commit {made.commit or 'unknown'}",
        f"signed by {bundle.signed_by}, digest {bundle.digest}",
        *(f"  {name}: {member.size_bytes / 1e6:.2f} MB" for name, member in made.members.items()),
        f"TensorRT from {made.tensorrt_from}, below {made.tensorrt_below}",
    ]
    if made.data_from_s is not None and made.data_until_s is not None:
        found.append(f"training crops from {_day(made.data_from_s)} to {_day(made.data_until_s)}")
    for name, model in made.models().items():
        found += _model(name, model)
    if made.threshold_false_match_rate is not None:
        rate = made.threshold_false_match_rate
        found.append(f"match threshold: moves by {made.threshold_shift:+.4f} at a false-match rate of {rate:g}")
    if made.similarities is not None:
        found += _similarities(made.similarities)
    return found


def write_report(bundle: ModelBundle, folder: Path) -> None:
    """`index.html` and its pictures in `folder`. Raises `WorldError` when the disk refuses."""
    made, model = bundle.manifest, bundle.manifest.embedder
    if model.histograms:
        counts = {name.replace("_", " "): np.array(values, np.int64) for name, values in model.histograms.items()}
        limits = {
            gate.name.removeprefix(f"{model.precision}_").replace("_", " "): gate.limit
            for gate in model.gates
            if gate.name.startswith(f"{model.precision}_cosine")
        }
        similarities(folder / "similarity.png", counts, limits)
    facts = {"made": _day(made.created_at_s), "commit": made.commit[:12]}
    for member, each in made.models().items():
        name = member.removesuffix(".onnx")
        if each.sensitivity:
            cost = "1 − cosine, worst tenth of the crops" if each is model else "1 − likeness of the boxes"
            layer_costs(folder / f"sensitivity_{name}.png", each.sensitivity, set(each.float_layers), cost)
        facts |= {f"{name}: {key}": value for key, value in _facts(each).items()}
    facts["threshold shift"] = f"{made.threshold_shift:+.4f}"
    folder.mkdir(parents=True, exist_ok=True)
    write_page(folder, f"{made.name} {made.serial}", facts)


def _facts(model: BundledModel) -> dict[str, str]:
    facts: dict[str, str] = {"precision": model.precision}
    facts |= {gate.name.replace("_", " "): _verdict(gate.value, gate.limit, gate.passed) for gate in model.gates}
    facts["layers left out"] = str(len(model.float_layers))
    if model.calibration is not None:
        facts["calibration"] = f"{model.calibration.images} pictures"
    return {**facts, "because": model.precision_reason, "terms": model.model.licence_note or "not said"}


def _model(name: str, model: BundledModel) -> list[str]:
    size = model.model.input
    found = [
        f"{name}: {model.precision}, because {model.precision_reason}",
        f"  version {model.model.version}, input {size.width_px}×{size.height_px} {size.channel_order}",
        f"  terms: {model.model.licence_note or 'not said'}",
        *_judged(model),
        *(f"  {gate.name}: {_verdict(gate.value, gate.limit, gate.passed)}" for gate in model.gates),
    ]
    if model.calibration is not None:
        about = model.calibration
        found.append(f"  ranges from {about.images} pictures, {about.chosen}, digest {about.sha256[:16]}…")
    if model.float_layers:
        found.append(f"  {len(model.float_layers)} layers left out of INT8: {', '.join(model.float_layers[:WORST])}, …")
    for layer in sorted(model.sensitivity, key=lambda layer: -model.sensitivity[layer])[:WORST]:
        found.append(f"  alone in INT8, {layer} costs {model.sensitivity[layer]:.2e}")
    return found


def _judged(model: BundledModel) -> list[str]:
    """What the gate looked at, where the bundle says it."""
    if model.judgement is None:
        return []
    return [f"  {'judged by' if model.judgement.enough else 'not judged:'} {model.judgement.by}"]


def _similarities(measured: Similarities) -> list[str]:
    pairs = {"of one track": measured.genuine, "of two at once": measured.impostor}
    found = [
        f"similarity {name}: {one.mean:.3f} ± {one.std:.3f}, 1 % below {one.p01:.3f}, 1 % above {one.p99:.3f}, "
        f"{one.pairs} pairs"
        for name, one in pairs.items()
        if one is not None
    ]
    return [*found, f"similarity: {measured.not_known}"] if measured.not_known else found


def _verdict(value: float, limit: float, passed: bool) -> str:
    return f"{value:.4f} ({'passes' if passed else 'misses'} {limit:g})"


def _day(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
