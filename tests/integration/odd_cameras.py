"""RTSP cameras that misbehave, each a small server in threads of this process, that counts how often it is asked."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import cache

import numpy as np

FPS = 25
_CLOCK = 90_000  # of RTP's timestamps
_PAYLOAD = 1200  # bytes

REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 454: "Session Not Found", 503: "Unavailable"}


class OddCamera:
    """`answer` to DESCRIBE: a status as 404, "redirect" (to `leads_to`: itself), "silent", or "stream"; "redirect at
    once" leads on as soon as OPTIONS.

    A stream is a second of moving picture over and over; after `frames` pictures it falls silent but stays connected
    ("freeze"), or hangs up ("hang up").
    """

    def __init__(self, answer: int | str, frames: int | None = None, then: str = "freeze") -> None:
        self._answer, self._frames, self._then = answer, frames, then
        self._stop = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.url = self.leads_to = f"rtsp://127.0.0.1:{self.port}/clip"
        self.connections = 0
        self.asked: list[tuple[float, str]] = []  # monotonic time, method
        threading.Thread(target=self._accept, daemon=True).start()

    def count(self, method: str) -> int:
        return sum(asked == method for _, asked in self.asked)

    def close(self) -> None:
        self._stop.set()
        self._server.close()

    def __enter__(self) -> OddCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while not self._stop.is_set() and (request := _request(connection)) is not None:
                    self.asked.append((time.monotonic(), request[0]))
                    if self._answer == "silent":
                        self._stop.wait()
                        return
                    connection.sendall(self._reply(*request))
                    if request[0] == "PLAY":
                        self._play(connection)
                        return
            except OSError:
                return

    def _reply(self, method: str, sequence: str) -> bytes:
        head, body = {
            "OPTIONS": ("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER", ""),
            "SETUP": ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1;timeout=60", ""),
            "DESCRIBE": (f"Content-Type: application/sdp\r\nContent-Base: {self.url}/", _SDP),
        }.get(method, ("Session: 1", ""))
        status = "200 OK"
        if method == _LEADS_ON_AT.get(self._answer):
            status, head, body = "302 Moved Temporarily", f"Location: {self.leads_to}", ""
        elif method == "DESCRIBE" and isinstance(self._answer, int):
            status = f"{self._answer} {REASONS[self._answer]}"
            head, body = ('WWW-Authenticate: Basic realm="camera"' if self._answer == 401 else "X-Odd: yes"), ""
        return f"RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    def _play(self, connection: socket.socket) -> None:
        began_s, sequence, film, index = time.monotonic(), 0, _film(), 0
        while not self._stop.is_set() and (self._frames is None or index < self._frames):
            for payload, last in _payloads(film[index % len(film)]):
                stamp = index * _CLOCK // FPS & 0xFFFFFFFF
                packet = struct.pack("!BBHII", 0x80, 96 | last << 7, sequence & 0xFFFF, stamp, 7) + payload
                connection.sendall(struct.pack("!cBH", b"$", 0, len(packet)) + packet)
                sequence += 1
            index += 1
            self._stop.wait(max(0.0, began_s + index / FPS - time.monotonic()))
        if self._then == "freeze":
            self._stop.wait()


_LEADS_ON_AT: dict[int | str, str] = {"redirect": "DESCRIBE", "redirect at once": "OPTIONS"}
_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=odd\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
_SDP += "a=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"


def _request(connection: socket.socket) -> tuple[str, str] | None:
    """(method, CSeq) of the next request; None when the camera's client hung up."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = connection.recv(1)
        if not part:
            return None
        head += part
    lines = head.decode(errors="replace").split("\r\n")
    sequences = [line.split(":")[1].strip() for line in lines if line.lower().startswith("cseq:")]
    return lines[0].split(" ")[0], (sequences or ["0"])[0]


@cache
def _film() -> list[list[bytes]]:
    """A second of pictures, each the H.264 units of one; the first is a key frame."""
    import av

    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = 160, 96, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, FPS), Fraction(FPS), FPS
    encoder.options = {"tune": "zerolatency", "preset": "ultrafast"}
    film = []
    for index in range(FPS):
        image = np.full((96, 160, 3), 32 + 8 * index, np.uint8)
        picture = av.VideoFrame.from_ndarray(image, format="bgr24")
        picture.pts = index
        film += [
            [unit for unit in bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
            for packet in encoder.encode(picture)
        ]
    return film


def _payloads(units: list[bytes]) -> Iterator[tuple[bytes, bool]]:
    """RTP payloads of one picture (RFC 6184), and whether it is the picture's last."""
    for unit in units:
        last_unit = unit is units[-1]
        if len(unit) <= _PAYLOAD:
            yield unit, last_unit
            continue
        parts = [unit[begin : begin + _PAYLOAD] for begin in range(1, len(unit), _PAYLOAD)]
        for index, part in enumerate(parts):
            first, last = index == 0, index == len(parts) - 1
            head = bytes([unit[0] & 0xE0 | 28, first << 7 | last << 6 | unit[0] & 0x1F])
            yield head + part, last_unit and last
