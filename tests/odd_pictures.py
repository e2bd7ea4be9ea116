"""Pictures that are not as they should be, byte by byte, so that no library has to be able to write them."""

import struct
import zlib

import numpy as np


def with_exif(jpeg: bytes, number: int, order: str = "<") -> bytes:
    """A JPEG that notes this EXIF orientation (tag 274) in an APP1 segment of its own."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 274, 3, 1, number, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + jpeg[2:]


def png(width: int, height: int, rows: bytes, bits: int = 8, colour: int = 2, exif: int | None = None) -> bytes:
    """A PNG of this header with these rows, whether they fit or not; an EXIF orientation stands behind them."""
    noted = b"" if exif is None else _chunk(b"eXIf", b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, exif, 0, 0))
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + noted + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def bomb(side: int = 60_000) -> bytes:
    """A kilobyte that declares side × side pixels."""
    return png(side, side, bytes(1000))


def png16(pixels: np.ndarray) -> bytes:
    """A grey PNG of (H, W) uint16."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png(pixels.shape[1], pixels.shape[0], rows, bits=16, colour=0)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
