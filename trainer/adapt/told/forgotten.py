"""What was forgotten at a site, on the site's store, for every process that takes in its crops.

    SITE/forgotten     JSON: the requests, oldest first

A shard may come late or twice, and other workstations have crops of their own: each of them erases what a request meets
before it takes anything in, and nothing that one meets is taken in again. Of an identity the digests of its passages'
names stay, not the names. A request is dropped when all that it can meet is past its days anyway.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edge_app.contract.crop import CropRecord
from edge_app.contract.errors import ShardError
from edge_app.contract.forgetting import Selection, continued
from edge_app.contract.objects import ObjectStore, sha256_of
from edge_app.contract.shard import ShardName, read_shard, write_shard
from trainer.adapt.told.shared import read_told, write_told
from trainer.errors import WorldError


class Request(BaseModel):
    """One thing that was asked for: an identity as passages, or what a camera, or all of them, saw in a time."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: str = Field(default_factory=lambda: secrets.token_hex(8))
    asked_at_s: float
    passages: tuple[str, ...] = ()
    """Digests of their names; none = by camera and time."""
    camera: str | None = None
    since_s: float | None = None
    until_s: float | None = None

    def meets(self, record: CropRecord) -> bool:
        """Also a passage that continues one of these, and came too late to be asked for by name."""
        if self.passages:
            other = continued(record)
            names = [record.passage] if other is None else [record.passage, other]
            return any(digest_of(record.site, name) in self.passages for name in names)
        since_s = -float("inf") if self.since_s is None else self.since_s
        until_s = float("inf") if self.until_s is None else self.until_s
        selection = Selection(None, self.camera, since_s, until_s)
        return selection.met(record.camera, record.entered_at_s, record.left_at_s)


class Forgotten(BaseModel):
    """The object's content."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["crosslane-forgotten/1"] = "crosslane-forgotten/1"
    requests: tuple[Request, ...] = ()

    def meets(self, record: CropRecord) -> bool:
        return any(request.meets(record) for request in self.requests)


NOTHING = Forgotten()


def digest_of(site: str, passage: str) -> str:
    """What is kept of a passage's name: enough to know it again, and no name."""
    return hashlib.sha256(f"{site} {passage}".encode()).hexdigest()[:32]


def of_passages(site: str, passages: Iterable[str], asked_at_s: float) -> Request:
    """The request for an identity."""
    return Request(asked_at_s=asked_at_s, passages=tuple(sorted(digest_of(site, one) for one in passages)))


def read(store: ObjectStore, site: str) -> tuple[Forgotten, str | None]:
    """What was told, and its etag; None before the first. `DataError` for what this release cannot read: nothing may
    be taken in then."""
    advice = "update this program. It says what must not be taken in again, so nothing is until it can be read"
    return read_told(store, _name(site), Forgotten, advice)


def add(store: ObjectStore, site: str, new: Sequence[Request], before_s: float) -> None:
    """Tell some more, and drop those that were asked before that. Raises `ObjectTakenError` when another process was
    faster, `WorldError` when there are too many."""
    told, etag = read(store, site)
    requests = [one for one in told.requests if one.asked_at_s >= before_s]
    advice = "forget by camera and time instead of single identities"
    write_told(store, _name(site), Forgotten(requests=(*requests, *new)), etag, advice)


def without(path: Path, unwanted: Callable[[CropRecord], bool]) -> tuple[Path | None, Sequence[str]]:
    """A shard of the others beside this one, and the keys of the crops that are not in it: the very shard where nothing
    is unwanted, None where everything is. The same crops give the same name, on every workstation. Raises
    `ShardError`."""
    keys, others = [], 0
    for crop in read_shard(path):
        if unwanted(crop.record):
            keys.append(crop.record.key)
        else:
            others += 1
    if not keys or not others:
        return (None if keys else path), keys
    name, left_out = ShardName.parse(path.name), set(keys)
    crops = (crop for crop in read_shard(path) if crop.record.key not in left_out)
    try:
        return write_shard(path.parent, name.node, name.boot, name.number, crops), keys
    except ShardError as error:  # the disk: the shard itself was read to its end
        raise WorldError(str(error)) from error


def exchange(store: ObjectStore, old: str, new: Path | None) -> None:
    """The object of a shard for another one beside it, or for none. The new one first: nothing is lost in between."""
    if new is not None:
        store.put(f"{old.rpartition('/')[0]}/{new.name}", new, sha256_of(new))
    store.delete(old)


def _name(site: str) -> str:
    return f"{site}/forgotten"
