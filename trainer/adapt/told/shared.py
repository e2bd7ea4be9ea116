"""What the processes that adapt one site tell each other, on the site's store, whoever of them has its lease.

SITE/lock              the lease (`edge_app.contract.lease`)
SITE/adapted           JSON: the last round, its model, and up to which shard of every node it knew them
SITE/models/NAME.pt    accepted models, never overwritten
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_app.contract.errors import ObjectMissingError, ShardError
from edge_app.contract.objects import ObjectStore, sha256_of
from edge_app.contract.objects.store import SMALL_BYTES
from edge_app.contract.shard import ShardName
from trainer.errors import DataError, WorldError

Told = TypeVar("Told", bound=BaseModel)


class Adapted(BaseModel):
    """The object's content."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["crosslane-adapted/1"] = "crosslane-adapted/1"
    round: int = Field(default=0, ge=0)
    """Rounds count over all processes."""
    model: str | None = None
    """Object of the model in force; None = the start."""
    sha256: str | None = None
    model_round: int = 0
    """The round that made it."""
    best: str | None = None
    """Object of the best accepted model on the anchor set; None = the start."""
    best_sha256: str | None = None
    best_round: int = 0
    anchor: tuple[int, ...] = ()
    """Hours of the anchor set."""
    trained: tuple[tuple[float, float], ...] = ()
    """Begin and end of the times that any round was trained on."""
    seen: dict[str, int] = {}
    """Node and boot → its last shard that a round knew."""


def read(store: ObjectStore, site: str) -> tuple[Adapted, str | None]:
    """What was told last, and its etag; None before the first. `DataError` for what this release cannot read."""
    return read_told(
        store, _name(site), Adapted, "update this program, or delete the object to adapt the site from its start"
    )


def read_told(store: ObjectStore, name: str, kind: type[Told], advice: str) -> tuple[Told, str | None]:
    """An object and its etag; an empty one and None where there is none yet. `DataError` with the advice for what this
    release cannot read."""
    try:
        content, etag = store.read(name)
    except ObjectMissingError:
        return kind(), None
    try:
        return kind.model_validate_json(content), etag
    except ValidationError as error:
        raise DataError(f"{store.where}: {name} cannot be read: {error.errors()[0]['msg']}; {advice}") from None


def write(store: ObjectStore, site: str, told: Adapted, etag: str | None) -> None:
    """Only over what was read. Raises as `write_told`."""
    advice = (
        f"it names {len(told.trained)} times that were trained on; choose a longer keep.held_out_s, or fewer keep.days"
    )
    write_told(store, _name(site), told, etag, advice)


def write_told(store: ObjectStore, name: str, told: BaseModel, etag: str | None, advice: str) -> None:
    """An object, only over what was read. Raises `ObjectTakenError` when another process was faster, `WorldError` with
    the advice when it is too large to be read again."""
    content = told.model_dump_json(indent=1).encode()
    if len(content) > SMALL_BYTES:
        raise WorldError(
            f"{store.where}: {name} would have {len(content)} bytes, at most {SMALL_BYTES} are allowed: {advice}"
        )
    if etag is None:
        store.create(name, content)
    else:
        store.replace(name, content, etag)


def send_model(store: ObjectStore, site: str, number: int, model: Path) -> tuple[str, str]:
    """The model's object and its digest; it may be there already."""
    sha256 = sha256_of(model)
    name = f"{site}/models/{number:06d}-{sha256[:16]}.pt"
    store.put(name, model, sha256)
    return name, sha256


def new_shards(told: Adapted, names: Iterable[str]) -> list[str]:
    """Those of the shards that came after what the last round knew."""
    return [name for name in names if (one := _place(name)) and one[1] > told.seen.get(one[0], -1)]


def seen_of(names: Iterable[str]) -> dict[str, int]:
    """The last of these shards of every node and boot."""
    seen: dict[str, int] = {}
    for name in names:
        if one := _place(name):
            seen[one[0]] = max(one[1], seen.get(one[0], -1))
    return seen


def _place(name: str) -> tuple[str, int] | None:
    try:
        parsed = ShardName.parse(name)
    except ShardError:
        return None
    return f"{parsed.node}-{parsed.boot}", parsed.number


def _name(site: str) -> str:
    return f"{site}/adapted"
