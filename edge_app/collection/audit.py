"""What left this node: one JSON object a line, on the disk before what it tells of is deleted here.

    {"time": …, "event": "sent", "shard": …, "sha256": …, "bytes": …, "to": …, "seconds": …}

Bounded: at its limit the file moves to `….1` and replaces the one before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from edge_app.contract.envelope import rfc3339
from edge_app.contract.whole import sync_folder
from edge_app.runtime.private import FILE_MODE, make_folder


class Audit:
    """Opens the file anew for every line: it may be moved or read by others meanwhile. Raises `OSError`."""

    def __init__(self, path: Path, limit_bytes: int, wall: Callable[[], float]) -> None:
        self.path, self._limit_bytes, self._wall = path, limit_bytes, wall

    def note(self, event: str, **facts: object) -> None:
        line = json.dumps({"time": rfc3339(self._wall()), "event": event, **facts}, ensure_ascii=False).encode() + b"\n"
        make_folder(self.path.parent)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE_MODE)
        try:
            os.fchmod(handle, FILE_MODE)
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line  # the last one was cut short by a power cut
            written = os.write(handle, line)
            if written != len(line):
                os.ftruncate(handle, size)
                raise OSError(28, os.strerror(28))
            os.fsync(handle)
        finally:
            os.close(handle)
        if size == 0:
            sync_folder(self.path.parent)
        elif size + len(line) > self._limit_bytes:
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
