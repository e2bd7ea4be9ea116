"""The settings of a run as data: their mistakes are told in a moment, before torch is imported (five seconds).

`outline.json` beside this file is the JSON schema of `trainer.config.TrainSettings`, without its prose, as `python -m
trainer.config` writes it. `settings_model` makes models of it that say of a value what those of the run say; what needs
code, such as a number that must fit another, is told when the run's own models read the file.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from edge_app.contract import yaml
from edge_app.contract.mistakes import keys_of, mistakes
from edge_app.contract.yaml import YamlError, plain
from trainer.errors import ConfigurationError

FILE = Path(__file__).with_name("outline.json")
Schema = dict[str, Any]
KINDS: dict[str, Any] = {"integer": int, "number": float, "string": str, "boolean": bool, "null": None}
ANY_OF: Any = Union  # made of types that are known at run time only
SEQUENCE: Any = tuple
BOUNDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}


def check(path: Path, content: dict[str, Any], overrides: list[str]) -> None:
    """`ConfigurationError` with every mistake that the outline shows in a file's content with overrides on top."""
    model, content = settings_model(), copy.deepcopy(content)
    problems: list[str] = []
    for override in overrides:
        try:
            set_value(content, override, model)
        except ConfigurationError as error:
            problems += error.problems
    where = "command line"
    try:
        model.model_validate(content)
    except ValidationError as error:
        where, problems = plain(path), problems + mistakes(error, model)
    if problems:
        raise ConfigurationError(problems, where)


def set_value(content: dict[str, Any], override: str, model: type[BaseModel]) -> None:
    """Set one `a.b=value` in plain values, in place; a path is relative to the current folder. `ConfigurationError`."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigurationError([f"{plain(override)}: expected key=value, for example epochs=10"], "command line")
    try:
        value = yaml.read_value(text)
    except YamlError as error:
        problems = [f"{plain(key)}: {problem}" for problem in error.problems]
        raise ConfigurationError(problems, "command line") from None
    place = content
    *parents, last = key.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            problem = f"{plain(override)}: {plain(parent)} is a value, not a group"
            raise ConfigurationError([problem], "command line")
    named = any(key == known and Path in kinds for known, kinds in keys_of(model))
    place[last] = str(Path.cwd() / Path(value).expanduser()) if named and isinstance(value, str) else value


@cache
def settings_model() -> type[BaseModel]:
    """The model of a whole file."""
    schema = json.loads(FILE.read_text(encoding="utf-8"))
    made: dict[str, type[BaseModel]] = {}
    for name in _inner_first(schema["$defs"]):
        made[name] = _model(name, schema["$defs"][name], made)
    return _model("TrainSettings", schema, made)


def outline(schema: Any) -> Any:
    """A schema without titles and descriptions, unless a setting has that name."""
    if isinstance(schema, list):
        return [outline(item) for item in schema]
    if isinstance(schema, dict):
        prose = {name for name in ("title", "description") if isinstance(schema.get(name), str)}
        return {name: outline(item) for name, item in schema.items() if name not in prose}
    return schema


def _model(name: str, schema: Schema, made: dict[str, type[BaseModel]]) -> type[BaseModel]:
    required = schema.get("required", ())
    fields: dict[str, Any] = {
        key: (_kind(about, made), ... if key in required else about.get("default"))
        for key, about in schema["properties"].items()
    }
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _kind(schema: Schema, made: dict[str, type[BaseModel]]) -> Any:
    """The annotation of a value."""
    if "$ref" in schema:
        return made[schema["$ref"].rsplit("/", 1)[1]]
    if "const" in schema or "enum" in schema:
        return Literal[tuple(schema.get("enum", [schema.get("const")]))]
    if "anyOf" in schema or "oneOf" in schema:
        kinds = ANY_OF[tuple(_kind(each, made) for each in schema.get("anyOf") or schema["oneOf"])]
        told_by = schema.get("discriminator", {}).get("propertyName")
        return Annotated[kinds, Field(discriminator=told_by)] if told_by else kinds
    if schema["type"] == "array":
        fixed = tuple(_kind(each, made) for each in schema.get("prefixItems", ()))
        return SEQUENCE[fixed] if fixed else SEQUENCE[_kind(schema["items"], made), ...]
    kind = Path if schema.get("format") == "path" else KINDS[schema["type"]]
    bounds = {BOUNDS[name]: schema[name] for name in BOUNDS if name in schema}
    return Annotated[kind, Field(**bounds)] if bounds else kind


def _inner_first(schemas: dict[str, Schema]) -> list[str]:
    """The names, each after those that it refers to."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order:
            for other in schemas:
                if other != name and f'"#/$defs/{other}"' in json.dumps(schemas[name]):
                    visit(other)
            order.append(name)

    for name in schemas:
        visit(name)
    return order
