"""A closed shard that waits for its upload, as the store remembers it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_app.collection.segment import Contents
from edge_app.contract.archive import digest_of
from edge_app.contract.shard import ShardName, read_shard
from edge_app.store.parts import sealed, unsealed

FORMAT = "crosslane.closed/1"


@dataclass(frozen=True, slots=True)
class ClosedShard:
    """A file that does not change any more."""

    name: str  # `ShardName`
    path: Path
    sha256: str
    bytes: int
    contents: Contents
    closed_at_s: float  # in the store's time


def stored(shard: ClosedShard) -> bytes:
    """As a part of the store."""
    values = asdict(shard)
    del values["path"]
    return sealed(FORMAT, json.dumps(values).encode())


def read(part: bytes, folder: Path) -> ClosedShard:
    """Raises ValueError, TypeError, KeyError or `ShardError` for what is none."""
    values = json.loads(unsealed(part, FORMAT))
    ShardName.parse(values["name"])
    return ClosedShard(**{**values, "contents": Contents(**values["contents"]), "path": folder / values["name"]})


def adopted(path: Path, now_s: float) -> ClosedShard:
    """A shard that no store knows, read through. Raises `ShardError` for a file that is none."""
    contents = Contents()
    for crop in read_shard(path):
        contents = contents.plus([crop.record])
    size, sha256 = digest_of(path)
    return ClosedShard(path.name, path, sha256, size, contents, now_s)
