"""The archive around a bundle's members: an uncompressed ustar file of which every byte is prescribed.

Why tar: one pass from the front, every size known before its bytes, and no second directory at the end that could say
something else than the first, as in a zip file. Why stored: weights hardly compress, and what is not compressed cannot
unpack to more than was fetched. Why prescribed: the reader knows which header must come next and compares its 512
bytes, so names, links, owners and paddings are never interpreted; `tar tf` still lists the file.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from edge_app.contract.errors import BundleError
from edge_app.contract.whole import whole

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
_CHUNK_BYTES = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"PK": "zip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}


def header(name: str, size_bytes: int) -> bytes:
    """The 512 bytes before a member: a plain file of mode 644, of nobody, from 1970."""
    fields = (name.encode("ascii"), b"0000644", b"0000000", b"0000000", b"%011o" % size_bytes, b"0" * 11)
    blank = struct.pack("100s8s8s8s12s12s8ss100s6s2s247x", *fields, b" " * 8, b"0", b"", b"ustar", b"00")
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def padding(size_bytes: int) -> bytes:
    """The zeros that fill a member's last block."""
    return bytes(-size_bytes % BLOCK_BYTES)


def length(sizes_bytes: list[int]) -> int:
    """Length in bytes of an archive of members of these sizes."""
    return sum(BLOCK_BYTES + size + len(padding(size)) for size in sizes_bytes) + len(END)


def write_archive(path: Path, members: Mapping[str, bytes | Path]) -> None:
    """Write the members in their order, whole or not at all. Raises `BundleError` when the disk or a member fails."""
    try:
        with whole(path) as file:
            for name, content in members.items():
                size = len(content) if isinstance(content, bytes) else content.stat().st_size
                file.write(header(name, size))
                written = 0
                for chunk in [content] if isinstance(content, bytes) else _chunks(content):
                    written += file.write(chunk)
                if written != size:
                    raise BundleError(f"{content!s} changed while it was packed into {path}")
                file.write(padding(size))
            file.write(END)
    except OSError as error:
        raise BundleError(f"bundle {path} cannot be written: {error.strerror or error}") from None


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


class ArchiveReader:
    """Takes an archive apart from the front. Every method raises `BundleError` at the first wrong byte."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self.where = file, where

    def unknown_size(self, name: str, limit_bytes: int) -> bytes:
        """A small member whose size only its header says."""
        block = self._header(name)
        digits = block[124:135]
        size = int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else -1
        if size < 0 or block != header(name, size):
            raise self._unexpected(name, block)
        if size > limit_bytes:
            raise BundleError(f"{self.where}: {name} claims {size} bytes; at most {limit_bytes} are allowed")
        return b"".join(self._content(name, size))

    def member(self, name: str, size_bytes: int) -> Iterator[bytes]:
        """The chunks of a member of known size. Take them all before the next call."""
        block = self._header(name)
        if block != header(name, size_bytes):
            raise self._unexpected(name, block)
        yield from self._content(name, size_bytes)

    def end(self) -> None:
        """Nothing but the end mark may follow."""
        if self._file.read(len(END) + 1) != END:
            raise BundleError(f"{self.where} is damaged behind its last member; fetch it again")

    def _header(self, name: str) -> bytes:
        block = self._file.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise BundleError(f"{self.where} is truncated: it ends before {name}; fetch it again")
        return block

    def _content(self, name: str, size_bytes: int) -> Iterator[bytes]:
        left = size_bytes
        while left:
            chunk = self._file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise BundleError(f"{self.where} is truncated: {left} bytes of {name} are missing; fetch it again")
            left -= len(chunk)
            yield chunk
        zeros = padding(size_bytes)
        if self._file.read(len(zeros)) != zeros:
            raise BundleError(f"{self.where} is damaged or truncated behind {name}; fetch it again")

    def _unexpected(self, name: str, block: bytes) -> BundleError:
        """What stands there instead of the prescribed header; its fields are read for this message only."""
        found = block[:100].split(b"\0")[0].decode("ascii", "replace")
        prefix, kind = block[345:500].split(b"\0")[0].decode("ascii", "replace"), block[156:157]
        compressed = next((word for magic, word in _COMPRESSED.items() if block.startswith(magic)), None)
        if compressed:
            problem = f"it is compressed ({compressed}); a bundle is a plain tar file, which cannot unpack to more"
        elif block[257:262] != b"ustar":
            problem = "it is no tar file here: damaged, or no bundle at all"
        elif block == bytes(BLOCK_BYTES) or not found:
            problem = f"the member {name} is missing"
        elif found.startswith("/") or prefix or ".." in found.split("/") or "\\" in found:
            problem = (
                f"a member leads out of the bundle (path traversal): {prefix}/{found}"
                if prefix
                else (f"a member leads out of the bundle (path traversal): {found}")
            )
        elif kind not in (b"0", b"\0"):
            problem = f"{found} is a link or a special file; only plain files are allowed"
        elif found != name:
            problem = f"expected the member {name}, found {found}"
        else:
            problem = f"the header of {name} is damaged or says another size than the manifest"
        return BundleError(f"{self.where} is not a usable bundle: {problem}")


def digest_of(content: bytes | Path) -> tuple[int, str]:
    """Size in bytes and hexadecimal SHA-256."""
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in [content] if isinstance(content, bytes) else _chunks(content):
            digest.update(chunk)
            size += len(chunk)
    except OSError as error:
        raise BundleError(f"{content!s} cannot be read: {error.strerror or error}") from None
    return size, digest.hexdigest()
