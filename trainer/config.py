"""The configuration of a training run: a YAML file, overrides `key=value`, and every mistake at once."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from edge_app.contract.preprocess import InputSpec
from trainer.errors import ConfigurationError
from trainer.extract import ExtractSettings
from trainer.methods.cap import CapSettings
from trainer.methods.cluster_contrast import ClusterContrastSettings
from trainer.methods.crosslane import CrosslaneSettings
from trainer.methods.gracl import GraclSettings
from trainer.methods.o2cap import O2capSettings
from trainer.methods.scl import SclSettings
from trainer.methods.spcl import SpclSettings
from trainer.methods.tcrl import TcrlSettings
from trainer.models.embedder import ModelSettings
from trainer.optimiser import OptimiserSettings
from trainer.settings import Settings

PERSON_INPUT = InputSpec(width_px=128, height_px=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
MethodSettings = Annotated[
    ClusterContrastSettings
    | SpclSettings
    | GraclSettings
    | SclSettings
    | CapSettings
    | O2capSettings
    | TcrlSettings
    | CrosslaneSettings,
    Field(discriminator="name"),
]
# choices of a method that do not add up over the pieces of a batch, and those to take instead
WHOLE_BATCHES = {"aggregation": ("camera_sum", "batch_mean"), "writeback": ("faithful", "clean")}
METHOD_NAMES = {kind.model_fields["name"].default for kind in get_args(get_args(MethodSettings)[0])}


class DataSettings(Settings):
    """Which crops, and how the network sees them."""

    root: Path
    """Folder of a data set, folder of crops, or CSV table."""
    layout: str | None = None
    """Name of the layout; recognised from the files where absent."""
    input: InputSpec = PERSON_INPUT
    """How a picture becomes the network's input; goes into the model and to the roadside."""
    cache: Path = Path("~/.cache/crosslane")
    """Folder for the decoded crops, about H·W·3 bytes each."""
    bad_limit: float = Field(default=0.01, ge=0, le=1)
    """Share of unreadable pictures that is skipped by name; more of them end the run."""


class TrainSettings(Settings):
    """One training run."""

    data: DataSettings
    model: ModelSettings = ModelSettings()
    method: MethodSettings = ClusterContrastSettings()
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
    evaluate_every: int = Field(default=0, ge=0)
    """Epochs between evaluations on the test set, for the log only; 0 = at the end only."""
    checkpoint_steps: int = Field(default=0, ge=0)
    """Steps between checkpoints inside an epoch; 0 = at the end of each epoch only."""

    @property
    def batch(self) -> int:
        """Crops per step."""
        return self.method.batch if isinstance(self.method, SclSettings) else self.method.sampler.batch

    @field_validator("accumulate")
    @classmethod
    def _pieces_add_up(cls, accumulate: int, others: ValidationInfo) -> int:
        """The loss of a batch must be the mean of the losses of its pieces."""
        method = others.data.get("method")
        for key, (whole, instead) in WHOLE_BATCHES.items():
            if accumulate > 1 and getattr(method, key, None) == whole:
                advice = f"set method.{key}={instead}"
                raise ValueError(f"method.{key} {whole} needs whole batches, got {accumulate} pieces: {advice}")
        return accumulate


def load(path: Path, overrides: list[str] | None = None) -> TrainSettings:
    """The settings of a file with overrides `a.b=value` on top; `ConfigurationError` with every mistake."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigurationError([f"{path} cannot be read: {error.strerror or error}"]) from None
    except yaml.YAMLError as error:
        raise ConfigurationError([f"{path} is not YAML: {error}"]) from None
    if not isinstance(content, dict):
        raise ConfigurationError([f"{path}: expected keys and values, got {type(content).__name__}"])
    for override in overrides or []:
        set_value(content, override)
    return parse(content, str(path))


def parse(content: dict[str, Any], where: str) -> TrainSettings:
    """Settings from plain values; `where` names them in the `ConfigurationError`."""
    try:
        return TrainSettings.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError([_explain(problem) for problem in error.errors()], where) from None


def differences(first: TrainSettings, second: TrainSettings) -> list[str]:
    """Keys that differ, as `a.b: old → new`; places of files that do not change the result are left out."""
    old, new = (_flat(settings.model_dump(mode="json")) for settings in (first, second))
    free = ("data.cache", "evaluate_every", "checkpoint_steps", "device", "compile")
    keys = [key for key in old | new if key not in free and old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key)} → {new.get(key)}" for key in keys]


def set_value(content: dict[str, Any], override: str) -> None:
    """Set one `a.b=value` in plain values, in place."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigurationError([f"{override!r}: expected key=value, for example epochs=10"], "command line")
    place = content
    *parents, last = key.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigurationError([f"{override!r}: {parent} is a value, not a group"], "command line")
    place[last] = yaml.safe_load(text)


def _explain(problem: Any) -> str:
    """One mistake in one line; an unknown key comes with the nearest known one of the method that was chosen."""
    place = ".".join(str(part) for part in problem["loc"] if part not in METHOD_NAMES)
    if problem["type"] != "extra_forbidden":
        return f"{place}: {problem['msg']}"
    chosen = next((str(part) for part in problem["loc"] if part in METHOD_NAMES), None)
    known = _known_keys(TrainSettings, chosen)
    if place not in known and place in _known_keys(TrainSettings, None):
        return f"{place}: not a key of method {chosen}, but of another"
    near = difflib.get_close_matches(place, known, n=1, cutoff=0.5)
    return f"{place}: unknown key" + (f"; did you mean {near[0]}?" if near else "")


def _known_keys(model: type[BaseModel], method: str | None, prefix: str = "") -> list[str]:
    """Keys below `model`, as `a.b`; of all methods' settings only those of `method`, where one is named."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in inner:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                named = kind.model_fields["name"].default if "name" in kind.model_fields else None
                if method in (None, named) or named not in METHOD_NAMES:
                    keys += _known_keys(kind, method, f"{prefix}{name}.")
    return keys


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
