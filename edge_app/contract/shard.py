"""Shards: how crops travel from a node to the trainer. A WebDataset tar file of which every byte is prescribed.

    node-1-a1b2c3.7-000012-0123456789abcdef.tar  `{node}-{boot}-{number}-{first 16 hex digits of its SHA-256}.tar`
      east-a1b2c3-7-41-9f86d081884c-0.jpg     the pixels, a baseline or progressive JPEG
      east-a1b2c3-7-41-9f86d081884c-0.json    a `CropRecord`
      east-a1b2c3-7-41-9f86d081884c-0.npy     (D,) float16, its embedding; absent where it has none

A name is never used twice and carries the digest, so a shard that was cut short or changed on its way is refused as a
whole, before any of it is used. What is read is compared with the prescribed headers (see `archive.py`), never
interpreted: there are no links, no paths and nothing compressed, and what a member may be at most is known before it is
read. One crop at a time is in memory.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_app.contract.archive import BLOCK_BYTES, END, header, padding
from edge_app.contract.crop import LARGEST_JPEG_BYTES, LARGEST_NPY_BYTES, LARGEST_RECORD_BYTES, Crop, decoded, encoded
from edge_app.contract.errors import ShardError
from edge_app.contract.whole import OWN, beside, settle

MOST_CROPS, LARGEST_SHARD_BYTES = 50_000, 1 << 30
_LIMITS = {".jpg": LARGEST_JPEG_BYTES, ".json": LARGEST_RECORD_BYTES, ".npy": LARGEST_NPY_BYTES}
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ShardName:
    """What a shard's name says."""

    node: str
    boot: str  # `[A-Za-z0-9_.]+`
    number: int
    digest: str  # the first 16 hexadecimal digits of the file's SHA-256

    def __str__(self) -> str:
        boot = re.sub(r"[^A-Za-z0-9_.]", "_", self.boot)
        return f"{self.node}-{boot}-{self.number:06d}-{self.digest}.tar"

    @classmethod
    def parse(cls, name: str) -> ShardName:
        """Raises `ShardError` for what is no name of a shard."""
        found = re.fullmatch(r"([A-Za-z0-9_-]{1,64})-([A-Za-z0-9_.]{1,64})-(\d{6,12})-([0-9a-f]{16})\.tar", name)
        if found is None or str(made := cls(found[1], found[2], int(found[3]), found[4])) != name:
            raise ShardError(
                f"{name[:200]!r} is no name of a shard, expected {{node}}-{{boot}}-{{number}}-{{hash}}.tar"
            )
        return made


def encode(crop: Crop) -> bytes:
    """The members of one crop as they stand in a shard. Raises `ShardError` for a crop that no reader would take."""
    members = {crop.record.key + ending: body for ending, body in encoded(crop).items()}
    return b"".join(header(name, len(body)) + body + padding(len(body)) for name, body in members.items())


def write_shard(folder: Path, node: str, boot: str, number: int, crops: Iterable[Crop]) -> Path:
    """Write a shard, whole or not at all; returns its path. Raises `ShardError` when the disk or a crop fails."""
    digest = hashlib.sha256()
    try:
        with beside(folder / f"{node}-{number:06d}", OWN) as file:
            for block in (*map(encode, crops), END):
                digest.update(block)
                file.write(block)
            path = folder / str(ShardName(node, boot, number, digest.hexdigest()[:16]))
            settle(file, path)
    except OSError as error:
        raise ShardError(f"shard {number} cannot be written to {folder}: {error.strerror or error}") from None
    return path


def read_shard(path: Path, sha256: str | None = None) -> Iterator[Crop]:
    """The crops of a shard in their order, after the whole file was compared with the digest in its name and, where it
    is known, with all of `sha256` (hexadecimal). Reads the file twice, and holds one crop.

    Raises `ShardError`: at once for a file that was cut short, changed or is no shard, while reading for one that was
    made by somebody else to look like one.
    """
    with _reading(path) as file:
        found = _digest(file)
        if found[:16] != ShardName.parse(path.name).digest or found != (sha256 or found):
            raise ShardError(
                f"shard {path} was cut short or changed on its way: it has the SHA-256 {found}; fetch it again"
            )
        file.seek(0)
        seen: set[str] = set()
        for crop, _ in samples(file, str(path)):
            key = crop.record.key
            if key in seen or len(seen) >= MOST_CROPS:
                raise ShardError(f"shard {path} has more than {MOST_CROPS} crops, or one of them twice: {key}")
            seen.add(key)
            yield crop
        if file.read(1):
            raise ShardError(f"shard {path} goes on behind its end")


def samples(file: BinaryIO, where: str) -> Iterator[tuple[Crop, int]]:
    """Each crop with the offset behind it, up to the end mark. Raises `ShardError` at the first wrong byte; what came
    before is whole, which is how a segment that was being written is looked through."""
    block, offset = file.read(BLOCK_BYTES), 0
    while block != END[:BLOCK_BYTES]:
        key = _named(block).removesuffix(".jpg")
        members: list[bytes] = []
        for ending, limit_bytes in _LIMITS.items():
            if ending == ".npy" and _named(block) != f"{key}.npy":
                break
            members.append(_member(file, block, key + ending, limit_bytes, where))
            offset += BLOCK_BYTES + len(members[-1]) + len(padding(len(members[-1])))
            block = file.read(BLOCK_BYTES)
        yield decoded(key, members, where), offset
    if file.read(BLOCK_BYTES) != END[BLOCK_BYTES:]:
        raise ShardError(f"{where} is damaged at its end")


def _named(block: bytes) -> str:
    return block[:100].split(b"\0")[0].decode("ascii", "replace")


def _member(file: BinaryIO, block: bytes, name: str, limit_bytes: int, where: str) -> bytes:
    """The content behind a header that says exactly this name, and a size within the limit."""
    if len(block) < BLOCK_BYTES:
        raise ShardError(f"{where} is cut short")
    digits = block[124:135]
    size = int(digits, 8) if re.fullmatch(rb"[0-7]{11}", digits) else -1
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,90}\.(jpg|json|npy)", name) or size < 0 or block != header(name, size):
        raise ShardError(f"{where}: expected the plain file {name[:100]!r}, found the header {block[:40]!r}")
    if size > limit_bytes:
        raise ShardError(f"{where}: {name} claims {size} bytes; at most {limit_bytes} are allowed")
    body = file.read(size + len(padding(size)))
    if len(body) < size + len(padding(size)) or body[size:] != padding(size):
        raise ShardError(f"{where} is cut short or damaged in {name}")
    return body[:size]


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST_SHARD_BYTES:
                raise ShardError(f"shard {path} is no plain file, or larger than {LARGEST_SHARD_BYTES} bytes")
            yield file
    except OSError as error:
        raise ShardError(f"shard {path} cannot be read: {error.strerror or error}") from None


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
