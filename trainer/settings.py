"""The base of the trainer's configuration models. Each model lives beside the code that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from edge_app.contract import yaml
from edge_app.contract.yaml import YamlError, plain
from trainer.errors import ConfigurationError


class Settings(BaseModel):
    """A frozen group of settings; an unknown key is an error, a field's docstring becomes its documentation.

    A group that is given in part keeps the rest of the defaults *of its place*: a method that clusters at eps 0.5 by
    default still does so when a file sets nothing but its k1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_defaults_of_this_place(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        filled = dict(given)
        for name, field in cls.model_fields.items():
            of_one_kind = isinstance(field.annotation, type) and isinstance(field.default, Settings)
            if of_one_kind and isinstance(given.get(name), dict):
                filled[name] = _over(field.default.model_dump(), given[name])
        return filled


def read(path: Path) -> dict[str, Any]:
    """The plain values of a settings file; nothing heavy is imported for it. `ConfigurationError` when it is none."""
    try:
        return yaml.read(path)
    except YamlError as error:
        raise ConfigurationError(error.problems, plain(path)) from None


def _over(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`given` on top of `defaults`, group by group."""
    merged = dict(defaults)
    for name, value in given.items():
        below = defaults.get(name)
        merged[name] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
