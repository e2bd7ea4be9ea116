"""One site as the trainer works for it: SITE.yaml, with every mistake at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from edge_app.contract.envelope import Slug
from edge_app.contract.mistakes import mistakes
from edge_app.contract.objects import ObjectStoreSettings
from edge_app.contract.yaml import FilePath, plain
from trainer.adapt.gate.verdict import GateSettings
from trainer.errors import ConfigurationError
from trainer.settings import Settings, read

DAY_S = 86_400.0


class TransitSettings(Settings):
    """How long a way takes, in the words of the edge's settings."""

    min_s: float = Field(gt=0)
    """Seconds that the fastest take."""
    typical_s: float | None = Field(default=None, gt=0)
    """Not used here: what is usual is learned."""
    max_s: float = Field(gt=0)
    """Seconds that the slowest take."""

    @model_validator(mode="after")
    def _in_order(self) -> TransitSettings:
        if self.max_s <= self.min_s:
            raise ValueError(f"max_s {self.max_s:g} must be more than min_s {self.min_s:g}")
        return self


class LinkSettings(Settings):
    """A way between two cameras; copy them from the edge's settings."""

    from_camera: Slug
    to_camera: Slug
    transit: TransitSettings


class KeepSettings(Settings):
    """What is kept, and what of it is trained on."""

    days: float = Field(default=90, gt=0, le=3650)
    """No crop is kept longer than so many days after it was taken, nor after it came, whichever is earlier."""
    window_days: float = Field(default=14, gt=0)
    """Every crop of the last so many days is trained on; the newest crop says when they end."""
    reservoir: int = Field(default=20_000, ge=0)
    """Older crops that are trained on too, as many of each cluster and camera; 0 forgets them. Each workstation knows
    those of its own rounds: one that takes a site over begins with the window alone."""
    most: int = Field(default=200_000, ge=1)
    """Crops of the window that are trained on, evenly over its passages where there are more."""
    near_bits: int = Field(default=3, ge=-1, le=64)
    """Crops of one passage whose picture hashes differ in at most so many of 64 bits are one; −1 keeps all."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the hours of which no passage is trained on, so that the new model can be judged on them.
    Raise it later, and hours that were trained on until then judge nothing: that is said, and counted."""
    held_out_s: float = Field(default=3600.0, gt=0)
    """Seconds of such an hour, for a site that has only minutes to show: longer than two of its ways take."""


class WatchSettings(Settings):
    """When `--watch` begins an adaptation."""

    passages: int = Field(default=500, ge=1)
    """New passages that are worth one."""
    every_s: float = Field(default=600, gt=0)
    """Seconds between two looks at the store."""
    lease_s: float = Field(default=300, ge=1, le=86_400)
    """Another process takes the site over when its owner has not been heard of for so many seconds."""


class SiteSettings(Settings):
    """A site, where its crops are, and how its model is trained."""

    site: Slug
    """Its name, as in the edge's settings."""
    store: ObjectStoreSettings
    """Where the nodes upload to."""
    folder: FilePath
    """The trainer's own folder for this site: crops, runs, models. Nobody else's."""
    start: FilePath
    """The model before the first adaptation: ONNX, its manifest beside it, or a model.pt."""
    train: FilePath
    """A training configuration, as `trainer train` takes it. Data, weights and the site's ways are filled in."""
    links: Annotated[tuple[LinkSettings, ...], Field(max_length=10_000)] = ()
    keep: KeepSettings = KeepSettings()
    gate: GateSettings = GateSettings()
    precision: Literal["auto", "int8", "fp16", "fp32"] = "auto"
    """Of the bundle; `auto` takes the smallest that passes the export's gate and pays."""
    key: FilePath | None = None
    """Private key that signs bundles, PEM; by default one in the folder, which is made where none is."""
    watch: WatchSettings = WatchSettings()

    @property
    def prefix(self) -> str:
        """Of its shards on the store."""
        return f"{self.site}/crops/"


def load(path: Path) -> SiteSettings:
    """The settings of a file, paths relative to it. `ConfigurationError` with every mistake."""
    content = read(path)
    try:
        settings = SiteSettings.model_validate(content, context={"folder": path.parent})
    except ValidationError as error:
        raise ConfigurationError(mistakes(error, SiteSettings), plain(path)) from None
    missing = [
        f"{name}: no file {file}"
        for name, file in (("start", settings.start), ("train", settings.train))
        if not file.is_file()
    ]
    if missing:
        raise ConfigurationError(missing, plain(path))
    return settings


def load_all(paths: Sequence[Path]) -> list[SiteSettings]:
    """Every site. `ConfigurationError` with the mistakes of all of them, and where two share a folder."""
    found, problems = [], list[str]()
    for path in paths:
        try:
            found.append(load(path))
        except ConfigurationError as error:
            problems += [f"{plain(path)}: {problem}" for problem in error.problems]
    folders = [str(settings.folder) for settings in found]
    problems += [
        f"folder {one}: two sites share it; give each its own" for one in sorted(set(folders)) if folders.count(one) > 1
    ]
    if problems:
        raise ConfigurationError(problems, "sites")
    return found
