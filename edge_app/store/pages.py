"""The rows in the pages of an SQLite file, read without SQLite, which refuses a file for one bad page.

From the description of the file format (sqlite.org/fileformat2.html): table leaves and their overflow pages, newest
copy of each page from the committed frames of the write-ahead log, free pages left out. Every row stands for itself:
what cannot be made sense of is passed over. Whose rows they are shows in their columns; see `salvage.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE_BYTES = 4096  # what SQLite makes by default, where the header does not say
TABLE_LEAF = 0x0D
WAL_MAGIC = (0x377F0682, 0x377F0683)
WAL_HEAD, FRAME_HEAD = 32, 24
LARGEST_ROW_BYTES = 64_000_000

Value = Any  # None, int, float, str or bytes


def rows(path: Path) -> Iterator[tuple[int, tuple[Value, ...]]]:
    """(rowid, columns) of every row of every table that can be read; of all tables, in no order."""
    pages = _pages(path)
    free = _free(pages)
    for number, page in pages.items():
        start = 100 if number == 1 else 0
        if number in free or len(page) < start + 8 or page[start] != TABLE_LEAF:
            continue
        count = int.from_bytes(page[start + 3 : start + 5], "big")
        for place in range(start + 8, min(start + 8 + 2 * count, len(page) - 1), 2):
            try:
                yield _cell(page, int.from_bytes(page[place : place + 2], "big"), pages)
            except (ValueError, IndexError, KeyError, struct.error):
                continue


def _pages(path: Path) -> dict[int, bytes]:
    """By number from 1: what the file holds, overlaid with what its log had committed."""
    content = path.read_bytes()
    size = int.from_bytes(content[16:18], "big")
    size = 65536 if size == 1 else size
    if size < 512 or size & (size - 1):
        size = PAGE_BYTES
    pages = {at // size + 1: content[at : at + size] for at in range(0, len(content), size)}
    log = path.with_name(path.name + "-wal")
    if log.is_file():
        pages.update(_committed(log.read_bytes(), size))
    return pages


def _committed(log: bytes, size: int) -> dict[int, bytes]:
    """The pages in the log's frames up to its last commit."""
    if len(log) < WAL_HEAD or int.from_bytes(log[:4], "big") not in WAL_MAGIC:
        return {}
    salts = log[16:24]
    committed: dict[int, bytes] = {}
    open_frames: dict[int, bytes] = {}
    for at in range(WAL_HEAD, len(log) - FRAME_HEAD - size + 1, FRAME_HEAD + size):
        if log[at + 8 : at + 16] != salts:  # of an earlier round of the log
            break
        open_frames[int.from_bytes(log[at : at + 4], "big")] = log[at + FRAME_HEAD : at + FRAME_HEAD + size]
        if log[at + 4 : at + 8] != b"\0\0\0\0":
            committed.update(open_frames)
            open_frames = {}
    return committed


def _free(pages: dict[int, bytes]) -> set[int]:
    """The pages that the file's list of free pages names; they may still hold rows that were deleted long ago."""
    free: set[int] = set()
    trunk = int.from_bytes(pages.get(1, b"")[32:36], "big")
    while trunk in pages and trunk not in free and trunk != 1:
        page = pages[trunk]
        count = int.from_bytes(page[4:8], "big")
        if page[:1] != b"\0" or count > len(page) // 4 - 2:  # the pointer is wrong: a page of a table, or of an index
            break
        free.update([trunk, *struct.unpack_from(f">{count}I", page, 8)])
        trunk = int.from_bytes(page[:4], "big")
    return free


def _cell(page: bytes, at: int, pages: dict[int, bytes]) -> tuple[int, tuple[Value, ...]]:
    length, at = _varint(page, at)
    rowid, at = _varint(page, at)
    if not 0 < length <= LARGEST_ROW_BYTES:
        raise ValueError("no row is that long")
    usable = len(page)
    least = (usable - 12) * 32 // 255 - 23
    here = least + (length - least) % (usable - 4)
    here = length if length <= usable - 35 else here if here <= usable - 35 else least
    record = page[at : at + here]
    following = int.from_bytes(page[at + here : at + here + 4], "big") if here < length else 0
    seen: set[int] = set()
    while len(record) < length:
        if following in seen:
            raise ValueError("the overflow pages go round in a circle")
        seen.add(following)
        overflow = pages[following]
        following, record = int.from_bytes(overflow[:4], "big"), record + overflow[4:]
    return rowid, _record(record[:length])


def _record(record: bytes) -> tuple[Value, ...]:
    end, at = _varint(record, 0)
    kinds = []
    while at < end:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values = []
    for kind in kinds:
        value, at = _value(record, at, kind)
        values.append(value)
    if at != len(record):
        raise ValueError("the row has another length than its head says")
    return tuple(values)


def _value(record: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind in (0, 8, 9):
        return (None, 0, 1)[(0, 8, 9).index(kind)], at
    if kind in (10, 11):
        raise ValueError("a kind of value that is never stored")
    length = (1, 2, 3, 4, 6, 8, 8)[kind - 1] if kind < 8 else (kind - 12) // 2
    part = record[at : at + length]
    if len(part) != length:
        raise ValueError("the row is cut short")
    if kind < 7:
        return int.from_bytes(part, "big", signed=True), at + length
    if kind == 7:
        return struct.unpack(">d", part)[0], at + length
    return (part.decode() if kind % 2 else part), at + length


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and the place behind it."""
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | content[place] & 0x7F
        if content[place] < 0x80:
            return value, place + 1
    return value << 8 | content[at + 8], at + 9
