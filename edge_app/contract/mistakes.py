"""The mistakes that pydantic finds in settings, in words of both packages: where, what came, what was meant.

mistakes(error: ValidationError, model: type[BaseModel]) -> list[str]     # one line each, `place: what is wrong`
keys_of(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]        # every key below a model, as `a.b`
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from edge_app.contract.yaml import plain

MOST = 100  # mistakes that are put into words: nobody reads more

Model = type[BaseModel]


@dataclass(slots=True)
class _Place:
    """Where a location of pydantic leads."""

    kinds: list[Any]  # what may stand there
    names: list[str] = field(default_factory=list)  # without the labels of unions
    chosen: str = ""  # of a union that a name decides, such as `method cap`
    others: list[tuple[str, Any]] = field(default_factory=list)  # what it would be of another name

    @property
    def keys(self) -> list[str]:
        return list(dict.fromkeys(name for model in _models(self.kinds) for name in model.model_fields))


def mistakes(error: ValidationError, model: Model) -> list[str]:
    """Every mistake in the settings of `model`, one line each. An unknown key comes with the nearest known one; what
    may be a secret is not shown."""
    items = error.errors(include_url=False)
    more = [f"and {len(items) - MOST:,} mistakes more"] if len(items) > MOST else []
    return [_mistake(item, model) for item in items[:MOST]] + more


def keys_of(model: Model, prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Every key below a model as `a.b`, with the alternatives of its type; lists are not entered."""
    for name, about in model.model_fields.items():
        kinds = _alternatives(about.annotation)
        yield prefix + name, kinds
        for kind in _models(kinds):
            yield from keys_of(kind, f"{prefix}{name}.")


def _mistake(item: Any, model: Model) -> str:
    unknown = item["type"] in ("extra_forbidden", "invalid_key")
    place = _followed(model, item["loc"][:-1] if unknown else item["loc"])
    key = str(item["loc"][-1]) if unknown else ""
    where = ".".join(plain(name) for name in (*place.names, *[key] * unknown)) or "settings"
    if unknown:
        return f"{where}: {_advice(key, place, model)}"
    if item["type"] == "missing":
        return f"{where}: missing"
    came = item.get("input")
    # an address with a password must not reach a log, nor one that stands where its variable's name belongs
    secret = "password" in where or (isinstance(came, str) and "@" in came)
    shown = isinstance(came, str | int | float | bool) and not secret
    return f"{where}: {item['msg'].removeprefix('Value error, ')}" + (f" (got {plain(repr(came))})" if shown else "")


def _advice(key: str, place: _Place, model: Model) -> str:
    """What an unknown key was meant for: one of its group, or one of the same name elsewhere."""
    elsewhere = [name for name, kind in place.others for other in _models([kind]) if key in other.model_fields]
    if elsewhere:
        return f"not a key of {place.chosen}, but of {', '.join(dict.fromkeys(elsewhere))}"
    known = place.keys
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    near = near or [other for other, _ in keys_of(model) if other.split(".")[-1] == key][:1]
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return "unknown key; " + (f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}")


def _followed(model: Model, location: tuple[str | int, ...]) -> _Place:
    place = _Place([model])
    for part in location:
        models, name = _models(place.kinds), str(part)
        decided = [each for each in models if _name(each) == part]
        if any(part in each.model_fields for each in models):
            place.names.append(name)
            place.kinds = _below(place.kinds, name)
            place.others = [(other, kind) for other, group in place.others for kind in _below([group], name)]
        elif decided:
            place.chosen = f"{place.names[-1] if place.names else ''} {name}".strip()
            place.others = [(str(_name(each)), each) for each in models if each not in decided]
            place.kinds = list(decided)
        elif isinstance(part, int) or any(get_origin(kind) is dict for kind in place.kinds):
            place.names.append(name)
            inner = [get_args(kind) for kind in place.kinds if get_origin(kind) in (tuple, list, dict)]
            place.kinds = [kind for parts in inner for each in parts for kind in _alternatives(each)]
    return place


def _below(kinds: list[Any], name: str) -> list[Any]:
    """What may stand under a name of these models."""
    fields = [model.model_fields[name] for model in _models(kinds) if name in model.model_fields]
    return [kind for about in fields for kind in _alternatives(about.annotation)]


def _models(kinds: list[Any]) -> list[Model]:
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _name(model: Model) -> Any:
    """The name that tells this model from others in a union."""
    return model.model_fields["name"].default if "name" in model.model_fields else None


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    return [annotation]
