"""The configuration reference, generated from the models: `python -m edge_app.reference > configs/edge/README.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal, get_args, get_origin

from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from edge_app.config import Site

HEAD = """# Configuration of a site

Generated from the models by `python -m edge_app.reference`; do not edit. One YAML file per node; relative paths are
relative to it. `edge-app check --config FILE` lists every mistake at once. A setting without a default must be given.
"""


def reference() -> str:
    """The whole page as Markdown."""
    return "\n".join([HEAD, *_sections(Site, "", set())])


def _sections(model: type[BaseModel], path: str, seen: set[type[BaseModel]]) -> Iterator[str]:
    """One table per group of settings, depth first; a group that is used twice is shown once."""
    seen.add(model)
    title = f"`{path}`" if path else "The file"
    yield f"## {title}\n"
    if path and model.__doc__ and not model.__doc__.startswith("A frozen group"):
        yield f"{model.__doc__.strip().splitlines()[0]}\n"
    yield "| setting | type | default | meaning |\n|---|---|---|---|"
    inner: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        yield f"| `{name}` | {_type(field)} | {_default(field)} | {_plain(field.description)} |"
        inner += [(f"{path}.{name}" if path else name, group) for group in _groups(field.annotation)]
    yield ""
    for inner_path, group in inner:
        if group not in seen:
            yield from _sections(group, inner_path, seen)


def _groups(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes inside an annotation such as `tuple[LinkSettings, ...]` or `MqttSettings | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [group for part in get_args(annotation) for group in _groups(part)]


def _type(field: FieldInfo) -> str:
    limits = [
        f"{sign} {value:g}"
        for constraint in field.metadata
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if (value := getattr(constraint, name, None)) is not None
    ]
    return " ".join([_name(field.annotation), *limits])


def _name(annotation: Any) -> str:
    """An annotation in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {_name(arguments[0])}"
    if origin is dict:
        return f"mapping of {_name(arguments[1])}"
    if arguments:
        optional = type(None) in arguments
        return " or ".join(_name(part) for part in (arguments if optional else arguments[:1]))
    return _simple_name(annotation)


def _simple_name(kind: Any) -> str:
    for base, word in ((BaseModel, "settings"), (PurePath, "path")):
        if isinstance(kind, type) and issubclass(kind, base):
            return word
    names = {str: "text", float: "number", int: "whole number", bool: "yes or no", type(None): "null"}
    return {**names, AwareDatetime: "date and time with zone"}.get(kind, "value")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return "see below"
    if value in (None, (), {}):
        return "–"
    return f"`{json.dumps(value, default=_written, ensure_ascii=False)}`"


def _written(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value)


def _plain(description: str | None) -> str:
    return " ".join((description or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
