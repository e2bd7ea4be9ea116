"""What the commands do, without the command line around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.errors import ContractError
from edge_app.contract.model import read_manifest
from edge_app.contract.preprocess import InputSpec
from edge_app.contract.yaml import plain
from trainer.data import layouts
from trainer.data.records import Crops, Dataset, FixedTest, Labelled, RandomTest
from trainer.data.summary import described, summarise, told, told_crops
from trainer.errors import ConfigurationError, DataError, shown
from trainer.evaluate import EvaluationSettings, Report
from trainer.features import FeatureTable, load_features, save_features, save_labels

__all__ = ["Place", "cluster_file", "evaluate", "extract", "inspect", "save_features"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """How the data are laid out, and where decoded crops are kept."""

    layout: str | None
    cache: Path
    pattern: str | None = None

    def read(self, data: Path, say: Say = lambda line: None) -> Dataset:
        """The data set; `say` is told what was found."""
        dataset = layouts.read(data, self.layout, self.pattern)
        for line in told(dataset):
            say(line)
        return dataset


def extract(
    model: Path, data: Path, part: str, place: Place, flip: bool, *, say: Say = lambda line: None
) -> FeatureTable:
    """Features of one part of a data set; unreadable crops are left out under the limit of the cache, by name."""
    crops = _part(place.read(data, say), part)
    embed = _embed(model, place, flip, say)
    known = crops.crops if isinstance(crops, Labelled) else crops
    features, kept = embed(known)
    return FeatureTable(
        features=features,
        cameras=known.cameras[kept],
        times_s=known.times_s[kept],
        tracklets=known.tracklets[kept],
        identities=crops.identities[kept] if isinstance(crops, Labelled) else None,
        paths=np.array([str(known.paths[row]) for row in kept]),
    )


def cluster_file(features: Path, out: Path, settings: dict[str, Any], say: Say = lambda line: None) -> dict[str, Any]:
    """Cluster a features.npz into a labels.npz by `LabelSettings`; returns the facts. `say` is told what the file knows
    of its crops."""
    from pydantic import ValidationError

    from trainer.labels import LabelSettings, clusters, without_effect

    try:
        checked = LabelSettings.model_validate(settings)
    except ValidationError as error:
        problems = [f"--{str(item['loc'][-1]).replace('_', '-')}: {item['msg']}" for item in error.errors()]
        raise ConfigurationError(problems, "command line") from None
    table = load_features(features)
    crops = _crops_of(table)
    for line in (told_crops("features", crops), *without_effect(crops, checked)):
        say(line)
    result = clusters(table.features, crops, checked)
    save_labels(out, result.labels, table.paths)
    quality = {name: value for name, value in result.quality.as_dict().items() if value is not None}
    return {**quality, "eps": result.eps, "seconds": sum(result.seconds.values())}


def _crops_of(table: FeatureTable) -> Crops:
    """What a file of features knows of its crops."""
    count = len(table.features)
    unknown = np.full(count, -1, np.int64)
    return Crops(
        tuple(Path(str(path)) for path in (range(count) if table.paths is None else table.paths.tolist())),
        unknown if table.cameras is None else table.cameras,
        np.full(count, np.nan) if table.times_s is None else table.times_s,
        unknown if table.tracklets is None else table.tracklets,
    )


def evaluate(
    model: Path, data: Path, place: Place, settings: EvaluationSettings, flip: bool, *, say: Say = lambda line: None
) -> Report:
    """Scores of a model, or of the features of a test part, found again by their paths."""
    from trainer.measure import measure

    test = place.read(data, say).test
    embed = _from_table(load_features(model)) if model.suffix == ".npz" else _embed(model, place, flip, say)
    return measure(embed, test, settings)


def inspect(data: Path, place: Place, sheet: Path | None) -> list[str]:
    """What was read, in lines; a contact sheet of the training crops (test crops where there are none) on request."""
    from trainer.report.sheets import contact_sheet, write_picture

    dataset = place.read(data)
    lines = [f"{plain(dataset.name)}: {place.layout or layouts.recognise(data)} layout", *described(summarise(dataset))]
    if sheet is not None:
        crops = dataset.train if len(dataset.train) else next(iter(_test_parts(dataset.test).values())).crops
        rows = np.linspace(0, len(crops) - 1, min(len(crops), 96)).astype(np.int64)
        write_picture(sheet, contact_sheet([crops.paths[row] for row in rows], [""] * len(rows), per_row=16))
        lines.append(f"contact sheet: {shown(sheet)}")
    return lines


def _test_parts(test: FixedTest | RandomTest | None) -> dict[str, Labelled]:
    if test is None:
        return {}
    return {"test": test.crops} if isinstance(test, RandomTest) else {"query": test.query, "gallery": test.gallery}


def _part(dataset: Dataset, part: str) -> Crops | Labelled:
    parts: dict[str, Crops | Labelled] = {"train": dataset.train, **_test_parts(dataset.test)}
    if isinstance(dataset.test, FixedTest) and part == "test":
        query, gallery = dataset.test.query, dataset.test.gallery
        return Labelled(_joined(query.crops, gallery.crops), np.concatenate([query.identities, gallery.identities]))
    if part not in parts or not len(parts[part]):
        there = ", ".join(name for name, crops in parts.items() if len(crops))
        raise DataError(f"{plain(dataset.name)} has no part {part!r}; it has {there}")
    return parts[part]


def _joined(first: Crops, second: Crops) -> Crops:
    columns = (
        np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("cameras", "times_s", "tracklets")
    )
    return Crops(first.paths + second.paths, *columns)


def _embed(model: Path, place: Place, flip: bool, say: Say) -> Any:
    from trainer.extract import ExtractSettings
    from trainer.measure import with_network
    from trainer.parallel import join

    processes = join()
    network, spec = load_network(model)
    settings = ExtractSettings(flip=flip)
    return with_network(network.to(processes.device), spec, settings, place.cache, processes, say=say)


def load_network(model: Path) -> tuple[Any, InputSpec]:
    """A trained model, or all of an ONNX file with unit rows at its end, in evaluation mode, and its input."""
    from trainer import checkpoint
    from trainer.onnx_graph.trunk import UnitRows, read_trunk

    if model.suffix != ".onnx":
        loaded = checkpoint.load_model(model)
        return loaded.network, loaded.spec
    try:
        content = model.read_bytes()
        manifest = read_manifest(model)
    except (OSError, ContractError) as error:
        raise DataError(f"{model} cannot be used: {error}") from None
    trunk = read_trunk(content, str(model), "")
    return UnitRows(trunk).eval(), manifest.input if manifest else _usual_input(trunk.image_size, model)


def _usual_input(size: tuple[int, int] | None, model: Path) -> InputSpec:
    """Without a manifest: the size that the file names, and the ImageNet numbers."""
    from trainer.config import PERSON_INPUT

    if size is None:
        raise DataError(
            f"{model} leaves its input size open: put a manifest {model.with_suffix('.json').name} beside it"
        )
    return PERSON_INPUT.model_copy(update={"height_px": size[0], "width_px": size[1]})


def _from_table(table: FeatureTable) -> Any:
    if table.paths is None:
        raise DataError("the features carry no paths, so they cannot be matched to the crops: use `trainer extract`")
    rows = {Path(path).parts[-2:]: row for row, path in enumerate(table.paths.tolist())}  # the data set may have moved
    lengths = np.linalg.norm(table.features, axis=1, keepdims=True)

    def embed(crops: Crops) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        kept = np.array([number for number, path in enumerate(crops.paths) if path.parts[-2:] in rows], np.int64)
        if len(kept) < len(crops):
            missing = next(path for path in crops.paths if path.parts[-2:] not in rows)
            raise DataError(f"{len(crops) - len(kept)} of {len(crops)} crops have no features, the first is {missing}")
        chosen = np.array([rows[path.parts[-2:]] for path in crops.paths], np.int64)
        return table.features[chosen] / np.maximum(lengths[chosen], 1e-12), kept

    return embed
