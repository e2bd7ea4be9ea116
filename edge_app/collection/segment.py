"""The shard that is being filled: a file that only grows, and how much of it counts.

`State` goes into the store with the facts; what the file holds beyond it was never accepted, and is cut off at the next
start. So a crop is in the file before it is accepted, and accepted exactly when the store says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from edge_app.contract.archive import END
from edge_app.contract.crop import CropRecord
from edge_app.contract.envelope import rfc3339
from edge_app.contract.errors import ShardError
from edge_app.contract.shard import samples
from edge_app.contract.whole import sync_folder
from edge_app.store.parts import sealed, unsealed

FORMAT = "crosslane.segment/1"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """What some crops are of."""

    crops: int = 0
    camera_hours: Mapping[str, int] = field(default_factory=dict)  # `east 2026-01-31T12` (UTC) → crops
    first_s: float = 0.0  # capture times
    last_s: float = 0.0

    def plus(self, records: Sequence[CropRecord]) -> Contents:
        if not records:
            return self
        hours = [f"{one.camera} {rfc3339(one.captured_at_s)[:13]}" for one in records]
        times_s = [one.captured_at_s for one in records] + ([self.first_s, self.last_s] if self.crops else [])
        counts = dict(Counter(self.camera_hours) + Counter(hours))
        return Contents(self.crops + len(records), counts, min(times_s), max(times_s))


@dataclass(frozen=True, slots=True)
class State:
    """How much of which file counts."""

    number: int
    opened_at_s: float  # in the store's time
    size_bytes: int = 0
    crc32: int = 0
    contents: Contents = field(default_factory=Contents)
    accepted: int = 0  # crops that ever were, of this spool

    def stored(self) -> bytes:
        return sealed(FORMAT, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, stored: bytes) -> State:
        """Raises ValueError, TypeError or KeyError for what nobody can go on from."""
        values = json.loads(unsealed(stored, FORMAT))
        state = cls(**{**values, "contents": Contents(**values["contents"])})
        if min(state.number, state.size_bytes, state.crc32, state.contents.crops, state.accepted) < 0:
            raise ValueError(f"a segment of {state.size_bytes} bytes")
        return state


class Segment:
    """One file. Every method raises OSError when the disk fails, and nothing has changed then."""

    def __init__(self, folder: Path, state: State) -> None:
        self.path, self.state = path_of(folder, state.number), state

    def resume(self) -> bool:
        """Cut off what was not accepted; False when what was accepted is not there, or was changed by the disk."""
        if not self.state.size_bytes:
            self.path.unlink(missing_ok=True)
            return True
        if not self.path.exists() or self.path.stat().st_size < self.state.size_bytes:
            return False
        os.truncate(self.path, self.state.size_bytes)
        return self._checksums()[0] == self.state.crc32

    def append(self, blocks: Sequence[bytes], records: Sequence[CropRecord]) -> None:
        """Crops, as `encode` makes them: on the disk when this returns."""
        body, before = b"".join(blocks), self.state
        try:
            self._write(body)
        except OSError:
            self._cut()
            raise
        self.state = replace(
            before,
            size_bytes=before.size_bytes + len(body),
            crc32=zlib.crc32(body, before.crc32),
            contents=before.contents.plus(records),
            accepted=before.accepted + len(records),
        )

    def finish(self) -> str | None:
        """Write the end mark; the file's SHA-256, or None when the disk has changed what was written."""
        self._cut()
        try:
            self._write(END)
        except OSError:
            self._cut()
            raise
        crc32, sha256 = self._checksums()
        return sha256 if crc32 == zlib.crc32(END, self.state.crc32) else None

    def _write(self, body: bytes) -> None:
        is_new = not self.path.exists()
        with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0) as file:
            left = memoryview(body)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.path.parent)

    def _cut(self) -> None:
        with suppress(OSError):
            os.truncate(self.path, self.state.size_bytes)

    def _checksums(self) -> tuple[int, str]:
        crc32, digest = 0, hashlib.sha256()
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                crc32 = zlib.crc32(chunk, crc32)
                digest.update(chunk)
        return crc32, digest.hexdigest()


def path_of(folder: Path, number: int) -> Path:
    return folder / f"segment-{number:06d}.open"


def contents_of(path: Path) -> Contents:
    """Of the whole crops that a file begins with, whatever follows."""
    contents = Contents()
    with suppress(ShardError, OSError), path.open("rb") as file:
        for crop, _ in samples(file, path.name):
            contents = contents.plus([crop.record])
    return contents
