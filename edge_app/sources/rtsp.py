"""Where an RTSP address leads, asked before a library follows it: both of ours follow redirects without end."""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from edge_app.sources.settings import CameraSettings

if TYPE_CHECKING:
    import ssl

_MOST_REDIRECTS = 5
_LONGEST_ANSWER = 65536  # bytes
_QUESTIONS = ("OPTIONS", "DESCRIBE")  # a library's first two, in its order; the answer to either may lead on
_PORTS = {"rtsp": 554, "rtsps": 322}
_STATUS = re.compile(rb"^RTSP/1\.\d 3\d\d\b")
_LOCATION = re.compile(rb"^location:[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)


def refuse_endless_redirects(settings: CameraSettings) -> None:
    """Raises SourceRefusedError when the camera leads from address to address, SourceError when nobody answers.

    Asks without user name and password, as a library's first questions do. Whatever else there is to say about the
    camera is left to the library that opens it.
    """
    address = settings.source
    for _ in range(_MOST_REDIRECTS + 1):
        try:
            led_to = _leads_to(address, settings.open_timeout_s)
        except TimeoutError:
            raise settings.failure(f"cannot be opened: no answer within {settings.open_timeout_s:g} s") from None
        except (OSError, ValueError):
            return
        if led_to is None:
            return
        address = urljoin(address, led_to) if urlsplit(address).scheme in _PORTS else led_to
    raise settings.refusal(f"the camera redirects more than {_MOST_REDIRECTS} times; check the address in `source`")


def _leads_to(address: str, timeout_s: float) -> str | None:
    """Where the camera leads from here; None when it does not. Raises OSError; ValueError for no RTSP address."""
    parts = urlsplit(address)
    if parts.scheme.lower() not in _PORTS or not parts.hostname:
        raise ValueError(address)
    until_s = time.monotonic() + timeout_s
    port = parts.port or _PORTS[parts.scheme.lower()]
    with socket.create_connection((parts.hostname, port), timeout=timeout_s) as plain:
        connection = _encrypted(plain) if parts.scheme.lower() == "rtsps" else plain
        for sequence, question in enumerate(_QUESTIONS, start=1):
            asked = f"{question} {address} RTSP/1.0\r\nCSeq: {sequence}\r\nAccept: application/sdp\r\n\r\n"
            connection.sendall(asked.encode())
            head = _head(connection, until_s)
            if _STATUS.match(head) and (found := _LOCATION.search(head)):
                return found.group(1).decode("ascii", "replace")
    return None


def _head(connection: socket.socket, until_s: float) -> bytes:
    """The head of the next answer; less when the camera hangs up. Raises OSError."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _LONGEST_ANSWER:
        connection.settimeout(max(until_s - time.monotonic(), 1e-3))
        part = connection.recv(4096)
        if not part:
            break
        head += part
    return head


def _encrypted(plain: socket.socket) -> ssl.SSLSocket:
    """Cameras sign their certificates themselves; FFmpeg and GStreamer take them unseen, too."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)
