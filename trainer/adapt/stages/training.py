"""From a site's settings and its current model to a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer import config
from trainer.adapt.settings import SiteSettings
from trainer.clustering.ways import Way
from trainer.commands import load_network
from trainer.config import TrainSettings
from trainer.data import layouts
from trainer.errors import ConfigurationError
from trainer.models.embedder import Embedder
from trainer.settings import read


def training(settings: SiteSettings, current: Path, table: Path, cache: Path) -> TrainSettings:
    """The run that goes on from the current model, on the crops of a table, with all that the site knows: its tracks
    and its ways. `ConfigurationError` with every mistake of the training configuration."""
    network, spec = load_network(current)
    names = layouts.read(table, "table").camera_names
    content = read(settings.train)
    given = {name: _group(content, name, settings.train) for name in ("data", "model", "method")}
    if not isinstance(network, Embedder):
        content["model"] = {**given["model"], "backbone": "onnx", "weights": str(current)}
    else:
        content["model"] = network.blueprint.settings.model_dump(mode="json")
        content["start"] = str(current)
    size = spec.model_dump(mode="json")
    content["data"] = {**given["data"], "root": str(table), "layout": "table", "cache": str(cache), "input": size}
    ways = [way.model_dump() for way in ways_of(settings, names)]
    labels = {"tracks": True, "ways": ways, **_group(given["method"], "labels", settings.train)}
    if _clusters(given["method"].get("name")):
        content["method"] = {**given["method"], "labels": labels}
    return config.parse(content, str(settings.train), settings.train.parent)


def ways_of(settings: SiteSettings, names: tuple[str, ...]) -> list[Way]:
    """The site's links between cameras that have crops, by their numbers."""
    numbers = {name: number for number, name in enumerate(names)}
    return [
        Way(
            from_camera=numbers[link.from_camera],
            to_camera=numbers[link.to_camera],
            min_s=link.transit.min_s,
            max_s=link.transit.max_s,
        )
        for link in settings.links
        if link.from_camera in numbers and link.to_camera in numbers
    ]


def check(settings: SiteSettings) -> None:
    """What is wrong with the training configuration, before any crop is there. Raises `ConfigurationError`."""
    content = read(settings.train)
    content["data"] = {**_group(content, "data", settings.train), "root": "."}
    content["model"] = {**_group(content, "model", settings.train), "backbone": "onnx", "weights": str(settings.start)}
    config.parse(content, str(settings.train), settings.train.parent)


def _clusters(method: Any) -> bool:
    """Whether the method has settings for its labels; SpCL makes its own."""
    from trainer.methods import table

    name = method or "cluster_contrast"
    return name in table.METHODS and "labels" in table.settings_of(name).model_fields


def _group(content: dict[str, Any], name: str, where: Path) -> dict[str, Any]:
    group = content.get(name, {})
    if not isinstance(group, dict):
        raise ConfigurationError([f"{name}: expected a group of settings, got {type(group).__name__}"], str(where))
    return group
