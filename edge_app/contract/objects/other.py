"""Any other store that fsspec knows, by its address (`ssh://`, `gs://`, `webdav://` …), set up by fsspec's own files
and variables. Untested but for `memory://`.

Nothing here is atomic by promise, so it keeps no locks: `create` and `replace` are refused. An object comes as a hidden
`.part` and is moved under its name; what arrived is read back to confirm it.
"""

from __future__ import annotations

import errno
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import fsspec

from edge_app.contract.errors import (
    ObjectMissingError,
    ObjectStoreAwayError,
    ObjectStoreError,
    ObjectStoreRefusedError,
)
from edge_app.contract.objects.settings import ObjectStoreSettings
from edge_app.contract.objects.store import (
    CHUNK_BYTES,
    LARGEST_BYTES,
    SMALL_BYTES,
    Pace,
    Stored,
    at_once,
    check_name,
    chunks_of,
    digest_of,
    is_name,
    receive,
    same_digest,
    taken,
    wait_turn,
)

log = logging.getLogger(__name__)


class Other:
    """An `ObjectStore` that keeps no locks."""

    def __init__(self, settings: ObjectStoreSettings, stop: threading.Event) -> None:
        self.where, self._stop = settings.where(), stop
        with self._border("open"):
            self._files, self._root = fsspec.core.url_to_fs(
                settings.url, skip_instance_cache=True, use_listings_cache=False
            )

    def put(self, name: str, path: Path, sha256: str, pace: Pace = at_once) -> bool:
        target = self._path(name)
        folder, _, last = target.rpartition("/")
        part = f"{folder}/.{last}.{secrets.token_hex(4)}.part"
        with path.open("rb") as source, self._border(name):
            if self._files.exists(target):
                return self._done_already(name, sha256)
            self._files.makedirs(folder, exist_ok=True)
            try:
                with self._files.open(part, "wb") as file:
                    for chunk in chunks_of(source):
                        wait_turn(pace(len(chunk)), self._stop)
                        file.write(chunk)
                same_digest(name, digest_of(self._chunks(part, name)), sha256)
                if self._files.exists(target):  # some stores would replace it, some refuse
                    return self._done_already(name, sha256)
                self._files.mv(part, target)
            finally:
                with suppress(Exception):
                    if self._files.exists(part):
                        self._files.rm_file(part)
        self.confirm(name, sha256)
        return True

    def confirm(self, name: str, sha256: str) -> None:
        found = digest_of(self._chunks(self._path(name), name))
        same_digest(f"{self.where}: {name}", found, sha256)

    def list(self, prefix: str = "") -> Sequence[Stored]:
        with self._border(prefix):
            try:
                everything = self._files.find(self._root, detail=True)
            except FileNotFoundError:
                everything = {}
        names = {path[len(self._root) :].strip("/"): each for path, each in everything.items()}
        found = [Stored(name, each["size"]) for name, each in names.items() if is_name(name)]
        return sorted((each for each in found if each.name.startswith(prefix)), key=lambda each: each.name)

    def get(self, name: str, path: Path, sha256: str | None = None, limit_bytes: int = LARGEST_BYTES) -> str:
        return receive(self._chunks(self._path(name), name), path, sha256, limit_bytes)

    def read(self, name: str) -> tuple[bytes, str]:
        path = self._path(name)
        with self._border(name):
            content: bytes = self._files.cat_file(path, end=SMALL_BYTES)
        return content, digest_of([content])

    def delete(self, name: str) -> None:
        path = self._path(name)
        with self._border(name), suppress(FileNotFoundError):
            self._files.rm_file(path)

    def create(self, name: str, content: bytes) -> str:
        self._no_locks(name)

    def replace(self, name: str, content: bytes, etag: str) -> str:
        self._no_locks(name)

    def sweep(self, prefix: str = "") -> int:
        """Nobody knows this store's clock: what is left behind stays, hidden by its name."""
        return 0

    def close(self) -> None:
        """fsspec ends its connections with the last reference."""

    def _no_locks(self, name: str) -> NoReturn:
        raise ObjectStoreRefusedError(f"{self.where}: {name}: this kind of store keeps no locks; use a folder or S3")

    def _done_already(self, name: str, sha256: str) -> bool:
        if digest_of(self._chunks(self._path(name), name)) != sha256:
            raise taken(self.where, name)
        return False

    def _chunks(self, path: str, name: str) -> Iterator[bytes]:
        with self._border(name):
            file = self._files.open(path, "rb")
        with file:
            read: Callable[[int], bytes] = file.read
            while True:
                wait_turn(0.0, self._stop)
                with self._border(name):
                    chunk = read(CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{check_name(name)}"

    @contextmanager
    def _border(self, what: str) -> Iterator[None]:
        """Foreign errors end here, of whatever library serves the address."""
        try:
            yield
        except ObjectStoreError:
            raise
        except ImportError:
            raise
        except FileNotFoundError as error:
            raise ObjectMissingError(f"{self.where}: no object {what}") from error
        except Exception as error:
            said = f"{self.where}: {what}: {type(error).__name__}: {' '.join(str(error).split())}"
            if isinstance(error, PermissionError) or getattr(error, "errno", None) in (errno.EACCES, errno.EROFS):
                raise ObjectStoreRefusedError(f"{said}; check the login and its rights") from error
            if isinstance(error, ValueError | NotImplementedError | TypeError):
                raise ObjectStoreRefusedError(f"{said}; correct url, or use a folder or S3") from error
            raise ObjectStoreAwayError(said) from error
