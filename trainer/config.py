"""The configuration of a training run: a YAML file, overrides `key=value`, and every mistake at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from edge_app.contract.mistakes import mistakes
from edge_app.contract.preprocess import InputSpec
from edge_app.contract.yaml import FilePath, plain
from trainer import outline
from trainer.errors import ConfigurationError
from trainer.extract import ExtractSettings
from trainer.methods import table
from trainer.methods.base import MethodSettings
from trainer.models.embedder import ModelSettings
from trainer.optimiser import OptimiserSettings
from trainer.settings import Settings, read

PERSON_INPUT = InputSpec(width_px=128, height_px=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
if TYPE_CHECKING:
    AnyMethod = MethodSettings
else:
    AnyMethod = Annotated[Union[tuple(map(table.settings_of, table.METHODS))], Field(discriminator="name")]  # noqa: UP007


class DataSettings(Settings):
    """Which crops, and how the network sees them."""

    root: FilePath
    """Folder of a data set, folder of crops, or CSV table."""
    layout: str | None = None
    """Name of the layout; recognised from the files where absent."""
    input: InputSpec = PERSON_INPUT
    """How a picture becomes the network's input; goes into the model and to the roadside."""
    cache: FilePath = Path("~/.cache/crosslane")
    """Folder for the decoded crops, about H·W·3 bytes each."""
    bad_limit: float = Field(default=0.01, ge=0, le=1)
    """Share of unreadable pictures that is skipped by name; more of them end the run."""


class TrainSettings(Settings):
    """One training run."""

    data: DataSettings
    model: ModelSettings = ModelSettings()
    start: FilePath | None = None
    """model.pt of an earlier run to go on from: its network as it is. `model` and `data.input` must be its own."""
    method: AnyMethod = table.settings_of("cluster_contrast")()
    optimiser: OptimiserSettings = OptimiserSettings()
    extraction: ExtractSettings = ExtractSettings()
    """Extraction for clustering and for evaluation."""
    epochs: int = Field(default=50, ge=1)
    """Clusterings."""
    seed: int = Field(default=0, ge=0)
    """All chance of the run is drawn from it and the place in the run."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    average: float | None = Field(default=None, ge=0, lt=1)
    """Momentum of the running mean of the weights that labels the crops and is exported; none by default."""
    accumulate: int = Field(default=1, ge=1)
    """Pieces a batch is computed in, to save memory; memories move once per batch all the same."""
    compile: bool = False
    """Compile the trunk with torch.compile."""
    keep: Literal["last", "silhouette"] = "last"
    """Which network becomes the model: the last one, or the one whose own clusters have the best silhouette. No
    labels."""
    when_in_doubt: Literal["keep_start", "train"] = "keep_start"
    """What becomes of a run whose crops teach nothing, or whose network is no better than the weights it started from
    by measures that need no labels (`trainer/judge.py`): the start is the model, and the command ends with status 3;
    or train all the same and ask nothing."""
    evaluate_every: int = Field(default=0, ge=0)
    """Epochs between evaluations on the test set, for the log only; 0 = at the end only."""
    checkpoint_steps: int = Field(default=0, ge=0)
    """Steps between checkpoints inside an epoch; 0 = at the end of each epoch only."""

    @field_validator("accumulate")
    @classmethod
    def _pieces_add_up(cls, accumulate: int, others: ValidationInfo) -> int:
        """The loss of a batch must be the mean of the losses of its pieces."""
        method: MethodSettings | None = others.data.get("method")
        if accumulate > 1 and method is not None and method.whole_batches:
            setting, _, advice = method.whole_batches.partition(": ")
            raise ValueError(f"method.{setting} needs whole batches, got {accumulate} pieces: {advice}")
        return accumulate


def load(path: Path, overrides: list[str] | None = None, content: dict[str, Any] | None = None) -> TrainSettings:
    """The settings of a file with overrides `a.b=value` on top; `ConfigurationError` with every mistake. Paths in the
    file are relative to it, those of an override to the current folder. `content` is what `read` gave, if it was."""
    content = read(path) if content is None else content
    problems: list[str] = []
    for override in overrides or []:
        try:
            set_value(content, override)
        except ConfigurationError as error:
            problems += error.problems
    try:
        settings = parse(content, str(path), path.parent)
    except ConfigurationError as error:
        raise ConfigurationError([*problems, *error.problems], plain(path)) from None
    if problems:
        raise ConfigurationError(problems, "command line")
    return settings


def parse(content: dict[str, Any], where: str, folder: Path | None = None) -> TrainSettings:
    """Settings from plain values; `where` names them in the `ConfigurationError`. Paths are relative to `folder`."""
    try:
        return TrainSettings.model_validate(content, context={"folder": folder})
    except ValidationError as error:
        raise ConfigurationError(mistakes(error, TrainSettings), plain(where)) from None


def differences(first: TrainSettings, second: TrainSettings) -> list[str]:
    """Keys that differ, as `a.b: old → new`; places of files that do not change the result are left out."""
    old, new = (_flat(settings.model_dump(mode="json")) for settings in (first, second))
    free = ("data.cache", "evaluate_every", "checkpoint_steps", "device", "compile")
    keys = [key for key in old | new if key not in free and old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key)} → {new.get(key)}" for key in keys]


def set_value(content: dict[str, Any], override: str) -> None:
    """Set one `a.b=value` in plain values, in place, see `trainer.outline`."""
    outline.set_value(content, override, TrainSettings)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def write_outline() -> None:
    """Renew `outline.json`."""
    text = json.dumps(outline.outline(TrainSettings.model_json_schema()), indent=1)
    outline.FILE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_outline()
