"""Files that are there as a whole or, as before, not at all: written beside their name, synced, and then renamed.

A hidden file `.NAME.XXXXXXXX.partial` is locked while it is written, so that what a killed process left of one is known
by its open lock, and goes when the same name is written again; two processes that write one name do not meet, the
later one stays.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

ENDING = ".partial"
OWN = 0o600  # for the user alone


@contextmanager
def whole(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write to, which is `path`, and on the disk, when the block ends; where the block raises, `path` is as
    it was and nothing else is left. `mode`: its rights, less the user's mask; `OWN` stays whole. Raises OSError."""
    with beside(path, mode) as file:
        yield file
        settle(file, path)


@contextmanager
def beside(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """The first half of `whole`, for a file that gets its name last: gone when the block ends without `settle`."""
    _sweep(path)
    with _hidden(path, mode) as file:
        try:
            yield file
        finally:
            with suppress(OSError):  # the folder may have gone
                os.unlink(file.name)


def settle(file: BinaryIO, path: Path) -> None:
    """The second half: what was written so far is `path` now, in the folder that it lies in. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())
    os.replace(file.name, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hidden(path: Path, mode: int) -> BinaryIO:
    """A new locked file."""
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}{ENDING}")
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    file = open(name, "wb", opener=lambda *_: handle)  # noqa: SIM115, by its name, which `settle` asks for
    if mode == OWN:
        os.fchmod(file.fileno(), OWN)  # whatever a strange mask has taken
    with suppress(OSError):  # a disk without locks: nothing is swept there
        fcntl.flock(file, fcntl.LOCK_EX)
    if os.fstat(file.fileno()).st_nlink:
        return file
    file.close()  # somebody's sweep came between
    return _hidden(path, mode)


def _sweep(path: Path) -> None:
    """Delete what killed processes left beside `path`: nobody holds its lock."""
    for left in path.parent.glob(f".{escape(path.name)}.{'[0-9a-f]' * 8}{ENDING}"):
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
