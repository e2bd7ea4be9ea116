"""An S3 bucket as the site's store, through s3fs's connection (aiobotocore).

s3fs's own calls know no checksum and no condition and hide what the server said, so its client is asked directly. An
object is one PutObject, never a multipart upload: only so does S3 keep a SHA-256 of the whole object, which the server
checks before it says that it has it, and tells again for a HeadObject. A server that keeps none is read back.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import s3fs

from edge_app.contract.errors import (
    ObjectMissingError,
    ObjectStoreAwayError,
    ObjectStoreError,
    ObjectStoreRefusedError,
    ObjectTakenError,
)
from edge_app.contract.objects.s3_faults import translated
from edge_app.contract.objects.settings import ObjectStoreSettings
from edge_app.contract.objects.store import (
    CHUNK_BYTES,
    LARGEST_BYTES,
    LEFT_BEHIND_S,
    SMALL_BYTES,
    Pace,
    Stored,
    at_once,
    check_name,
    digest_of,
    is_name,
    receive,
    same_digest,
    taken,
    wait_turn,
)

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2
PAGE = 1000  # names in an answer, S3's own limit
PIECE_BYTES = 1 << 16  # so fine is the pace
T = TypeVar("T")


class S3:
    """An `ObjectStore`. Nobody is asked before the first call."""

    def __init__(self, settings: ObjectStoreSettings, stop: threading.Event) -> None:
        self.where = settings.where()
        bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._stop, self._silent_s = stop, settings.connect_timeout_s + settings.silent_s
        client = {"region_name": settings.region, "verify": str(settings.ca) if settings.ca else None}
        self._files = s3fs.S3FileSystem(
            key=settings.key_env and os.environ[settings.key_env],
            secret=settings.secret_env and os.environ[settings.secret_env],
            profile=settings.profile,
            endpoint_url=settings.endpoint,
            client_kwargs={name: value for name, value in client.items() if value},
            config_kwargs={
                "connect_timeout": settings.connect_timeout_s,
                "read_timeout": settings.silent_s,
                # once more, for a kept connection that went away meanwhile; longer patience is the caller's
                "retries": {"mode": "standard", "total_max_attempts": 2},
            },
            skip_instance_cache=True,
            use_listings_cache=False,
        )

    def put(self, name: str, path: Path, sha256: str, pace: Pace = at_once) -> bool:
        with path.open("rb") as file:
            if self._is_done(name, sha256):
                return False
            body = _Outgoing(file, pace)
            checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
            try:
                self._ask("put_object", name, body.moved_s, Body=body, IfNoneMatch="*", ChecksumSHA256=checksum)
            except ObjectTakenError:  # somebody was faster, or our own first attempt arrived after all
                if self._is_done(name, sha256):
                    return False
                raise
            finally:
                body.end()
        self.confirm(name, sha256)
        return True

    def confirm(self, name: str, sha256: str) -> None:
        same_digest(f"{self.where}: {name}", self._digest(name), sha256)

    def list(self, prefix: str = "") -> Sequence[Stored]:
        found: list[Stored] = []
        foreign, after = 0, dict[str, Any]()
        while True:
            page = self._ask("list_objects_v2", None, Prefix=self._prefix + prefix, MaxKeys=PAGE, **after)
            for each in page.get("Contents", ()):
                name = each["Key"].removeprefix(self._prefix)
                if is_name(name):
                    found.append(Stored(name, each["Size"]))
                else:
                    foreign += not name.endswith("/")  # a console's idea of a folder
            if not page.get("IsTruncated"):
                break
            after = {"ContinuationToken": page["NextContinuationToken"]}
        if foreign:
            log.warning("%s: %d objects are none of ours by their names, and left alone", self.where, foreign)
        return sorted(found, key=lambda each: each.name)

    def get(self, name: str, path: Path, sha256: str | None = None, limit_bytes: int = LARGEST_BYTES) -> str:
        return receive(self._chunks(name), path, sha256, limit_bytes)

    def read(self, name: str) -> tuple[bytes, str]:
        answer = self._ask("get_object", name)
        try:
            if answer["ContentLength"] > SMALL_BYTES:
                raise ObjectStoreRefusedError(f"{self.where}: {name} is larger than {SMALL_BYTES} bytes: none of ours")
            return self._wait(answer["Body"].read(), name), answer["ETag"]
        finally:
            answer["Body"].close()

    def delete(self, name: str) -> None:
        self._ask("delete_object", name)

    def create(self, name: str, content: bytes) -> str:
        return self._swap(name, content, IfNoneMatch="*")

    def replace(self, name: str, content: bytes, etag: str) -> str:
        return self._swap(name, content, IfMatch=etag)

    def sweep(self, prefix: str = "") -> int:
        """Multipart uploads: none are ours, but their parts are paid for, and nobody sees them in a listing."""
        answer = self._ask("list_multipart_uploads", None, Prefix=self._prefix + (f"{prefix}/" if prefix else ""))
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])  # the server's own clock
        stale = [
            each for each in answer.get("Uploads", ()) if (now - each["Initiated"]).total_seconds() > LEFT_BEHIND_S
        ]
        for each in stale:
            name = each["Key"].removeprefix(self._prefix)
            with suppress(ObjectMissingError):  # it was finished, or somebody else swept
                self._ask("abort_multipart_upload", name, UploadId=each["UploadId"])
        return len(stale)

    def close(self) -> None:
        """Its connections end with the last reference."""
        del self._files

    def _is_done(self, name: str, sha256: str) -> bool:
        """Raises ObjectTakenError."""
        try:
            found = self._digest(name)
        except ObjectMissingError:
            return False
        if found != sha256:
            raise taken(self.where, name)
        return True

    def _digest(self, name: str) -> str:
        said: str = self._ask("head_object", name, ChecksumMode="ENABLED").get("ChecksumSHA256", "")
        if said and "-" not in said:  # that of a multipart upload is a digest of digests
            return base64.b64decode(said).hex()
        return digest_of(self._chunks(name))

    def _swap(self, name: str, content: bytes, **condition: Any) -> str:
        try:
            etag: str = self._ask("put_object", name, Body=content, **condition)["ETag"]
        except ObjectTakenError:
            found, etag = self.read(name)
            if found != content:  # else it was our own first attempt, whose answer was lost
                raise
        return etag

    def _chunks(self, name: str) -> Iterator[bytes]:
        body = self._ask("get_object", name)["Body"]
        try:
            while chunk := self._wait(body.read(CHUNK_BYTES), name):
                yield chunk
        finally:
            body.close()

    def _ask(
        self, method: str, name: str | None, moved_s: Callable[[], float] = lambda: 0.0, **arguments: Any
    ) -> dict[str, Any]:
        """One request about one object, or about the bucket where `name` is None."""
        if name is not None:
            arguments["Key"] = self._prefix + check_name(name)

        async def ask() -> dict[str, Any]:
            client = await self._files.set_session()
            answer: dict[str, Any] = await getattr(client, method)(Bucket=self._bucket, **arguments)
            return answer

        return self._wait(ask(), name or method, moved_s)

    def _wait(self, asked: Awaitable[T], what: str, moved_s: Callable[[], float] = lambda: 0.0) -> T:
        """As long as something moves, monotonic; the libraries' own timeouts do not cover a body that is not taken."""
        future = asyncio.run_coroutine_threadsafe(_awaited(asked), self._files.loop)
        began_s = time.monotonic()
        try:
            while True:
                try:
                    return future.result(LOOK_EVERY_S)
                except NotYet:
                    if future.done():
                        return future.result()
                wait_turn(0.0, self._stop)
                if time.monotonic() - max(began_s, moved_s()) > self._silent_s:
                    raise ObjectStoreAwayError(f"{self.where}: {what}: nothing moved for {self._silent_s:g} s")
        except ObjectStoreError:
            raise
        except Exception as error:
            raise translated(error, self.where, what) from error
        finally:
            future.cancel()


async def _awaited(asked: Awaitable[T]) -> T:
    return await asked


class _Outgoing(io.RawIOBase):
    """A file on its way out: keeps to the pace, tells when it moved, and knows when its own disk failed."""

    def __init__(self, file: BinaryIO, pace: Pace) -> None:
        self._file, self._pace = file, pace
        self._moved_s = time.monotonic()
        self._failed: OSError | None = None
        self._over = threading.Event()

    def read(self, size: int = -1) -> bytes:
        """The connection's loop reads to sign, and must not be held; what is sent, a thread beside it reads."""
        sending = not _on_a_loop()
        try:
            chunk = self._file.read(min(size, PIECE_BYTES) if sending and size > 0 else size)
        except OSError as error:
            self._failed = error
            raise
        if sending:
            pause_s = self._pace(len(chunk))
            self._moved_s = time.monotonic() + pause_s
            if self._over.wait(pause_s):
                raise OSError("the transfer is over")
        return chunk

    def moved_s(self) -> float:
        return self._moved_s

    def end(self) -> None:
        """Nobody waits for the pace any longer. Raises OSError when the file itself could not be read."""
        self._over.set()
        if self._failed is not None:
            raise self._failed

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()  # from which the connection learns the size


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
