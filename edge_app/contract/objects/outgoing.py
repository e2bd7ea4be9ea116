"""A file on its way into a connection that reads it by itself."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from edge_app.contract.objects.store import PIECE_BYTES, Pace

T = TypeVar("T")


class Outgoing(io.RawIOBase):
    """Keeps to the pace, tells when it moved last (monotonic), and knows when its own disk failed."""

    def __init__(self, file: BinaryIO, pace: Pace) -> None:
        self._file, self._pace = file, pace
        self._moved_s = time.monotonic()
        self._failed: OSError | None = None
        self._over = threading.Event()

    def read(self, size: int = -1) -> bytes:
        """The connection's loop reads to sign, and must not be held; what is sent, a thread beside it reads."""
        sending = not _on_a_loop()
        chunk = self._of_file(self._file.read, min(size, PIECE_BYTES) if sending and size > 0 else size)
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
        return self._of_file(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()  # from which the connection learns the size

    def _of_file(self, ask: Callable[..., T], *arguments: int) -> T:
        try:
            return ask(*arguments)
        except OSError as error:
            self._failed = error
            raise


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
