"""The state of the application in parts: every value carries the name of its format and a checksum of its bytes.

    crosslane.passage/2 3f1c09aa        the format, and the CRC-32 of all that follows
    {"id": …}                           the body, as its owner writes it

So a value of another release, one that the disk changed and one that somebody else wrote are told from a good one
before anything is built of it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def sealed(format_name: str, body: bytes) -> bytes:
    """The value to store. `format_name` is as `crosslane.passage/2`: a name, and the number of its version."""
    return f"{format_name} {zlib.crc32(body):08x}\n".encode() + body


def unsealed(value: bytes, format_name: str) -> bytes:
    """The body. Raises ValueError when the value has no such head, is of another format, or was changed."""
    head, feed, body = value.partition(b"\n")
    found, _, checksum = head.decode("ascii", "replace").rpartition(" ")
    if not feed or not re.fullmatch(r"[\w.-]+/\d+", found):
        raise ValueError(f"it names no format, expected {format_name}")
    if found != format_name:
        raise ValueError(f"it is of the format {found!r}, expected {format_name}")
    if checksum != f"{zlib.crc32(body):08x}":
        raise ValueError("its checksum does not fit: the disk changed it, or it is cut short")
    return body


class Parts:
    """Everything that was stored, read part by part. What cannot be read is remembered with its reason, not raised:
    one bad value must not cost the others, or the start."""

    def __init__(self, values: Mapping[str, bytes] | None = None) -> None:
        self._values = dict(values or {})
        self.unreadable: dict[str, str] = {}  # key → why

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def under(self, prefix: str) -> list[str]:
        """The keys that begin so, in order."""
        return sorted(key for key in self._values if key.startswith(prefix))

    def read(self, key: str, decode: Callable[[bytes], T]) -> T | None:
        """What `decode` makes of the stored value; None when there is none, or when `decode` raises."""
        if key not in self._values:
            return None
        try:
            return decode(self._values[key])
        except Exception as error:  # whatever a wrong value does to code that was written for good ones
            self.refuse(key, str(error) or type(error).__name__)
            return None

    def refuse(self, key: str, reason: str) -> None:
        """This part is of no use, for a reason that only its owner sees."""
        self.unreadable[key] = reason
