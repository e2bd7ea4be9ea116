"""A folder as the site's store: on this machine, or one that several machines mount (NFS 4, SMB).

The rule for writers: bytes come as a hidden `.part` beside their name and are renamed when they are whole and on the
disk. Whoever gives a name its content holds the folder's guard, `flock` on `.guard`, for the look at what is there and
the rename, never for a transfer. The system takes the guard back from whoever dies, so nobody needs to judge that.

The folder must be there: where it is the mount's own folder, files would land on the disk below while nothing is
mounted, so give a folder inside. Files get 0660 and folders 0770, less the umask; its group decides who else reads.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_app.contract.errors import (
    ObjectMissingError,
    ObjectStoreAwayError,
    ObjectStoreError,
    ObjectStoreRefusedError,
)
from edge_app.contract.objects.store import (
    LARGEST_BYTES,
    LEFT_BEHIND_S,
    SMALL_BYTES,
    Pace,
    Stored,
    at_once,
    check_name,
    is_name,
    local_chunks,
    local_errors,
    receive,
    same_digest,
    sha256_of,
    taken,
    wait_turn,
)
from edge_app.contract.whole import sync_folder

log = logging.getLogger(__name__)

GUARD = ".guard"
GUARD_EVERY_S = 0.02
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class Folder:
    """An `ObjectStore`."""

    def __init__(self, root: Path, stop: threading.Event, silent_s: float) -> None:
        self.where = str(root)
        self._root, self._stop, self._silent_s = root, stop, silent_s

    def put(self, name: str, path: Path, sha256: str, pace: Pace = at_once) -> bool:
        target = self._path(name)
        with path.open("rb") as source, local_errors(), self._border(name):
            if target.exists():
                return self._done_already(name, target, sha256)
            with self._part(target) as (part, handle):
                digest = hashlib.sha256()
                for chunk in local_chunks(source):
                    wait_turn(pace(len(chunk)), self._stop)
                    digest.update(chunk)
                    _write(handle, chunk)
                same_digest(name, digest.hexdigest(), sha256)
                os.fsync(handle)
                with self._guard():
                    is_new = not target.exists()
                    if is_new:
                        self._settle(part, target)
            if is_new:
                same_digest(name, sha256_of(target), sha256)
                return True
            return self._done_already(name, target, sha256)

    def confirm(self, name: str, sha256: str) -> None:
        with self._border(name):
            same_digest(f"{self.where}: {name}", sha256_of(self._path(name)), sha256)

    def list(self, prefix: str = "") -> Sequence[Stored]:
        found, foreign = [], 0
        below, _, _ = prefix.rpartition("/")
        with self._border(prefix):
            self._must_be_there()
            top = self._path(below) if below else self._root
            for folder, inner, files in os.walk(top, onerror=_raise) if top.is_dir() else ():
                inner[:] = [each for each in inner if not each.startswith(".")]
                for file in files:
                    path = Path(folder, file)
                    name = path.relative_to(self._root).as_posix()
                    if not name.startswith(prefix) or file.startswith("."):
                        continue
                    foreign += not is_name(name)
                    if is_name(name):
                        with suppress(FileNotFoundError):  # deleted since it was listed
                            found.append(Stored(name, path.stat().st_size))
        if foreign:
            log.warning("%s: %d files are none of ours by their names, and left alone", self.where, foreign)
        return sorted(found, key=lambda each: each.name)

    def get(self, name: str, path: Path, sha256: str | None = None, limit_bytes: int = LARGEST_BYTES) -> str:
        with self._border(name):
            source = self._path(name).open("rb")
        with source:
            return receive(self._read(source.read, name), path, sha256, limit_bytes)

    def read(self, name: str) -> tuple[bytes, str]:
        with self._border(name):
            return self._content(name)

    def delete(self, name: str) -> None:
        with self._border(name):
            self._path(name).unlink(missing_ok=True)
            self._must_be_there()

    def create(self, name: str, content: bytes) -> str:
        return self._swap(name, content, None)

    def replace(self, name: str, content: bytes, etag: str) -> str:
        return self._swap(name, content, etag)

    def sweep(self, prefix: str = "") -> int:
        swept, below = 0, self._path(prefix) if prefix else self._root
        with self._border("sweep"):
            self._must_be_there()
            with self._part(self._root / "now") as (part, _):
                now_s = part.stat().st_mtime  # the folder's own clock, not this machine's
            for part in below.rglob(".*.part"):
                with suppress(FileNotFoundError):
                    if now_s - part.stat().st_mtime > LEFT_BEHIND_S:
                        part.unlink()
                        swept += 1
        return swept

    def close(self) -> None:
        """Nothing is open between calls."""

    def _swap(self, name: str, content: bytes, etag: str | None) -> str:
        """The etag is the content's digest, since writers never write the same twice."""
        target = self._path(name)
        with self._border(name), self._part(target) as (part, handle):
            _write(handle, content)
            os.fsync(handle)
            with self._guard():
                found = self._content(name)[1] if target.exists() else None
                if found == _etag(content):
                    return found
                if found != etag:
                    raise taken(self.where, name)
                self._settle(part, target)
        return _etag(content)

    def _content(self, name: str) -> tuple[bytes, str]:
        with self._path(name).open("rb") as file:
            content = file.read(SMALL_BYTES + 1)
        if len(content) > SMALL_BYTES:
            raise ObjectStoreRefusedError(f"{self.where}: {name} is larger than {SMALL_BYTES} bytes: none of ours")
        return content, _etag(content)

    def _done_already(self, name: str, target: Path, sha256: str) -> bool:
        if sha256_of(target) != sha256:
            raise taken(self.where, name)
        return False

    def _read(self, read: Callable[[int], bytes], name: str) -> Iterator[bytes]:
        """The reading end alone is the store's: an error of the writing end stays what it is."""
        while True:
            wait_turn(0.0, self._stop)
            with self._border(name):
                chunk = read(1 << 18)
            if not chunk:
                return
            yield chunk

    def _path(self, name: str) -> Path:
        return self._root / check_name(name)

    def _must_be_there(self) -> None:
        if not self._root.is_dir():
            raise ObjectStoreAwayError(
                f"{self.where}: no such folder; make it, or mount what it lies on. It is never made by itself, or files"
                " would land on another disk while nothing is mounted"
            )

    @contextmanager
    def _part(self, target: Path) -> Iterator[tuple[Path, int]]:
        """A hidden file beside the target and its handle; deleted at the end unless it was settled."""
        self._must_be_there()
        target.parent.mkdir(0o770, parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o660)
        try:
            yield part, handle
        finally:
            os.close(handle)
            part.unlink(missing_ok=True)

    def _settle(self, part: Path, target: Path) -> None:
        part.replace(target)
        sync_folder(target.parent)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Waits its turn; everybody holds it for a moment only."""
        handle = os.open(self._root / GUARD, os.O_RDWR | os.O_CREAT, 0o660)
        try:
            for _ in range(int(self._silent_s / GUARD_EVERY_S) + 1):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    wait_turn(GUARD_EVERY_S, self._stop)
            else:
                raise ObjectStoreAwayError(f"{self.where}: somebody holds {GUARD} for {self._silent_s:g} s")
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _border(self, what: str) -> Iterator[None]:
        """Foreign errors end here."""
        try:
            yield
        except ObjectStoreError:
            raise
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                self._must_be_there()
            raise self._translated(error, what) from error

    def _translated(self, error: OSError, what: str) -> ObjectStoreError:
        said = f"{self.where}: {what}: {error.strerror or error}"
        if isinstance(error, FileNotFoundError):
            return ObjectMissingError(f"{self.where}: no object {what}")
        if error.errno in _FULL:
            return ObjectStoreAwayError(f"{said}; make room there")
        if error.errno in _NO_LOCKS:
            return ObjectStoreRefusedError(f"{said}; this file system knows no locks: mount it with them, or use S3")
        if error.errno in _REFUSED:
            return ObjectStoreRefusedError(f"{said}; this user must be allowed to write there")
        return ObjectStoreAwayError(said)


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def _raise(error: OSError) -> None:
    raise error
