"""What every store of objects can do, what objects may be called, and what the stores share."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

from edge_app.contract.errors import ObjectDamagedError, ObjectStoreAwayError, ObjectTakenError
from edge_app.contract.whole import OWN, whole

CHUNK_BYTES = 1 << 18
PIECE_BYTES = 1 << 16  # of what is paced
LARGEST_BYTES = 5 << 30  # S3's own limit of a single PutObject
SMALL_BYTES = 1 << 20  # of objects that are held in memory
LEFT_BEHIND_S = 86_400.0  # no writer works on one object for a day

_PART = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}"  # never hidden, never `.` or `..`
_NAME = re.compile(rf"{_PART}(/{_PART}){{0,15}}")

Pace: TypeAlias = Callable[[int], float]
"""Asked before so many bytes are sent: seconds to wait first."""


def at_once(_bytes: int) -> float:
    return 0.0


@dataclass(frozen=True)
class Stored:
    """An object in a listing."""

    name: str
    size: int  # bytes


class ObjectStore(Protocol):
    """See the package. Any thread may ask. Names are relative to the store's address and follow `check_name`."""

    where: str

    def put(self, name: str, path: Path, sha256: str, pace: Pace = at_once) -> bool:
        """Send a file. False when these bytes were there already. Raises ObjectTakenError where the name has others,
        ObjectDamagedError when what was read or arrived has another digest, OSError of the file itself."""

    def confirm(self, name: str, sha256: str) -> None:
        """Raises ObjectMissingError or ObjectDamagedError unless the object has this digest."""

    def list(self, prefix: str = "") -> Sequence[Stored]:
        """Every object whose name begins so, sorted by name; what is still being written is not listed."""

    def get(self, name: str, path: Path, sha256: str | None = None, limit_bytes: int = LARGEST_BYTES) -> str:
        """Into a file, whole or not at all; its digest. Raises ObjectMissingError, and ObjectDamagedError for another
        digest or more bytes than allowed."""

    def read(self, name: str) -> tuple[bytes, str]:
        """Content of at most `SMALL_BYTES`, and the etag for `replace`. Raises ObjectMissingError."""

    def delete(self, name: str) -> None:
        """An object that is not there is deleted already."""

    def create(self, name: str, content: bytes) -> str:
        """The etag. Atomic: of several writers one succeeds, the others get ObjectTakenError. Content must differ
        between writers, for what arrived twice counts once."""

    def replace(self, name: str, content: bytes, etag: str) -> str:
        """The new etag. Raises ObjectTakenError when the object is not the one of `etag` any more."""

    def sweep(self, prefix: str = "") -> int:
        """Delete what interrupted writers left below this name, a day old by the store's own clock; how much."""

    def close(self) -> None: ...


def check_name(name: str) -> str:
    """The name itself. Raises ValueError for one that some store could not keep, or that leads elsewhere."""
    if not is_name(name):
        raise ValueError(f"object name {name!r}: expected parts of letters, digits, _, - and inner dots, joined by /")
    return name


def is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not name.endswith(".part")


def sha256_of(path: Path) -> str:
    """Lower-case hex digest of a file, read in pieces. Raises OSError."""
    with path.open("rb") as file:
        return digest_of(chunks_of(file))


def digest_of(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def chunks_of(file: BinaryIO, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    while chunk := file.read(size):
        yield chunk


class LocalError(Exception):
    """Carries the OSError of a file on this side past what translates those of the other side."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def local_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Pieces to send. Raises LocalError."""
    try:
        yield from chunks_of(file, PIECE_BYTES)
    except OSError as error:
        raise LocalError(error) from error


@contextmanager
def local_errors() -> Iterator[None]:
    """Around everything that reads `local_chunks`: raises the OSError that it was."""
    try:
        yield
    except LocalError as error:
        raise error.error from None


def receive(chunks: Iterable[bytes], path: Path, sha256: str | None, limit_bytes: int) -> str:
    """Into a file of the user's own (0600), whole or not at all; the digest. Raises as `ObjectStore.get`."""
    digest, size = hashlib.sha256(), 0
    with whole(path, OWN) as file:
        for chunk in chunks:
            size += len(chunk)
            if size > limit_bytes:
                raise ObjectDamagedError(f"{path.name}: more than the {limit_bytes} bytes that were expected")
            digest.update(chunk)
            file.write(chunk)
        same_digest(path.name, digest.hexdigest(), sha256)
    return digest.hexdigest()


def same_digest(name: str, found: str, expected: str | None) -> None:
    """Raises ObjectDamagedError."""
    if expected is not None and found != expected:
        raise ObjectDamagedError(f"{name}: has the digest {found[:16]}…, expected {expected[:16]}…")


def taken(where: str, name: str) -> ObjectTakenError:
    return ObjectTakenError(f"{where}: {name} is there with other content; nothing is overwritten")


def wait_turn(pause_s: float, stop: threading.Event) -> None:
    """Raises ObjectStoreAwayError when the pause was cut short."""
    if stop.wait(pause_s) if pause_s > 0 else stop.is_set():
        raise ObjectStoreAwayError("stopped in the middle of a transfer")
