"""What a picture file says of itself in its first bytes: kind, size, and how it is to be seen. Nothing is decoded.

So a kilobyte that declares 60,000 × 60,000 pixels is known for what it is before memory is taken, and the EXIF
orientation does not depend on what a version of OpenCV knows of PNG or WebP.

Formats: JPEG (ITU-T T.81, Annex B), PNG (3rd edition, 5 and 11), WebP (RFC 9649), BMP, GIF89a, TIFF 6.0; EXIF 2.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edge_app.contract.orientation import Orientation, of_exif

ORIENTATION, WIDTH, HEIGHT = 274, 256, 257  # tags of TIFF
_NOT_SIZES = {0xC4, 0xC8, 0xCC}  # between the markers of JPEG's frames, but other tables
_BARE = {0x01, 0xFF, *range(0xD0, 0xD9)}  # markers of JPEG without a length


@dataclass(frozen=True, slots=True)
class Header:
    """The size is that of the stored picture, before it is turned."""

    kind: str
    width_px: int
    height_px: int
    seen: Orientation


def read_header(data: bytes) -> Header | None:
    """The header of a picture file; None when it is no picture, or cut off before its size."""
    for marks, kind, reader in _KINDS:
        if data.startswith(marks) and (kind != "WebP" or data[8:12] == b"WEBP"):
            try:
                width, height, exif = reader(data)
            except (struct.error, IndexError, KeyError):
                return None
            return Header(kind, width, height, of_exif(exif)) if width > 0 and height > 0 else None
    return None


Facts = tuple[int, int, int | None]  # width, height, EXIF orientation


def _jpeg(data: bytes) -> Facts:
    exif, place = None, 2
    while True:
        if data[place] != 0xFF:
            raise IndexError
        marker = data[place + 1]
        if marker in _BARE:
            place += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        if marker == 0xE1 and data[place + 4 : place + 10] == b"Exif\0\0" and exif is None:
            exif = _orientation(data[place + 10 : place + 2 + length])
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_SIZES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height, exif
        place += 2 + length


def _png(data: bytes) -> Facts:
    width, height = struct.unpack_from(">II", data, 16)
    chunks = dict(_chunks(data, 8, ">I4s", trailer=4))
    return width, height, _orientation(chunks.get(b"eXIf", b""))


def _webp(data: bytes) -> Facts:
    chunks = dict(_chunks(data, 12, "<4sI", trailer=0))
    exif = _orientation(chunks.get(b"EXIF", b"").removeprefix(b"Exif\0\0"))
    if b"VP8X" in chunks:
        low, high = (int.from_bytes(chunks[b"VP8X"][at : at + 3], "little") for at in (4, 7))
        return low + 1, high + 1, exif
    if b"VP8L" in chunks:
        (bits,) = struct.unpack_from("<I", chunks[b"VP8L"], 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, exif
    width, height = struct.unpack_from("<HH", chunks[b"VP8 "], 6)
    return width & 0x3FFF, height & 0x3FFF, exif


def _bmp(data: bytes) -> Facts:
    (length,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", data, 18)
    return width, abs(height), None  # a negative height: rows from top to bottom


def _gif(data: bytes) -> Facts:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height, None


def _tiff(data: bytes) -> Facts:
    tags = _tags(data)
    return tags[WIDTH], tags[HEIGHT], tags.get(ORIENTATION)


_KINDS = (
    (b"\xff\xd8", "JPEG", _jpeg),
    (b"\x89PNG\r\n\x1a\n", "PNG", _png),
    (b"RIFF", "WebP", _webp),
    (b"BM", "BMP", _bmp),
    (b"GIF8", "GIF", _gif),
    ((b"II*\0", b"MM\0*"), "TIFF", _tiff),
)


def _chunks(data: bytes, place: int, layout: str, trailer: int) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of PNG's and RIFF's chunks, as far as the file goes; RIFF's begin at even places."""
    while place + 8 <= len(data):
        first, second = struct.unpack_from(layout, data, place)
        name, length = (first, second) if isinstance(first, bytes) else (second, first)
        yield name, data[place + 8 : place + 8 + length]
        place += 8 + length + trailer + (0 if trailer else length % 2)


def _orientation(exif: bytes) -> int | None:
    try:
        return _tags(exif).get(ORIENTATION)
    except (struct.error, KeyError):
        return None  # a damaged note does not make the picture unreadable


def _tags(tiff: bytes) -> dict[int, int]:
    """The whole numbers that stand in the first directory of a TIFF, by tag; no other tag is looked at."""
    order = {b"II*\0": "<", b"MM\0*": ">"}[tiff[:4]]
    (place,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, place)
    tags: dict[int, int] = {}
    for at in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", tiff, at)
        if kind in (3, 4) and values == 1:  # short, long
            (tags[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", tiff, at + 8)
    return tags
