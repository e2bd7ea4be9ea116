"""The page of a running node. A request starts a look; while nobody asks, nothing is drawn and nothing is kept.

The pipeline's thread alone sees frames, and hands a finished look over; the page is made by the request's own thread.
"""

from __future__ import annotations

import http.client
import ipaddress
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from edge_app import listening
from edge_app.look.look import Look, keep_aside
from edge_app.look.settings import LookSettings
from edge_app.perception.open_track import OpenTrack
from edge_app.perception.perception import Perception
from edge_app.perception.witness import Ending, Sight
from edge_app.types import Tracklet

SERVER = "crosslane-look"
MOST_S = 300.0
LATE_S = 15.0  # so much longer than it was asked for is waited for a look: cameras may be silent
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class LookPage(listening.Listening):
    """A `Witness` that looks when it is asked to, and the server that asks."""

    def __init__(self, settings: LookSettings, perception: Perception, new_look: Callable[[], Look]) -> None:
        self._settings, self._perception, self._new_look = settings, perception, new_look
        self._asking = threading.Lock()  # one look at a time; whoever comes meanwhile waits for the next
        self._wanted: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Look] = queue.SimpleQueue()
        self._look: Look | None = None
        self._until_s = 0.0
        perception.watch(self)
        super().__init__("look", place_of(settings), self._served)

    def saw(self, sight: Sight) -> None:
        if self._look is None:
            with suppress(queue.Empty):
                self._begin(self._wanted.get_nowait())
            return  # what stands aside is known from the next frame on
        self._look.saw(sight)
        if time.monotonic() >= self._until_s:
            keep_aside(self._perception, False)
            self._done.put(self._look)
            self._look = None

    def joined(self, camera: str, track: str, passage: str) -> None:
        if self._look is not None:
            self._look.joined(camera, track, passage)

    def ended(self, track: OpenTrack, how: Ending) -> None:
        if self._look is not None:
            self._look.ended(track, how)

    def add(self, tracklets: Iterable[Tracklet]) -> None:
        """Passages that were finished."""
        if self._look is not None:
            self._look.add(tracklets)

    def html(self, seconds: float | None) -> str | None:
        """The page of a look that begins now; None where no camera delivers."""
        seconds = min(max(seconds or self._settings.seconds, 1.0), MOST_S)
        with self._asking:
            for old in (self._wanted, self._done):
                while not old.empty():
                    old.get()
            self._wanted.put(seconds)
            try:
                return self._done.get(timeout=seconds + LATE_S).html()
            except queue.Empty:
                return None

    def _served(self, place: listening.Place) -> tuple[ThreadingHTTPServer, threading.Thread]:
        page, settings = self, self._settings

        class Handler(BaseHTTPRequestHandler):
            server_version = SERVER

            def do_GET(self) -> None:
                _answer(self, page, settings)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are nobody's business."""

        class Server(ThreadingHTTPServer):
            address_family = place.family
            daemon_threads = True

        server = Server((place.address, place.port), Handler)
        thread = threading.Thread(target=server.serve_forever, name="look", daemon=True)
        thread.start()
        return server, thread

    def _begin(self, seconds: float) -> None:
        self._look, self._until_s = self._new_look(), time.monotonic() + seconds
        keep_aside(self._perception, True)


def check_port(settings: LookSettings) -> str:
    """What `edge-app check` says of the page. Raises `WorldError` when somebody else has its port."""
    who = "" if _is_own(settings.address) else "; whoever can reach it sees pictures of the cameras"
    return listening.check_port(place_of(settings), _is_a_node) + who


def place_of(settings: LookSettings) -> listening.Place:
    return listening.Place(settings.address, settings.port or 0, "look.port")


def _is_a_node(place: listening.Place) -> bool:
    """Asked for a page that there is not: a look would be begun by the right one."""
    try:
        with urllib.request.urlopen(f"{place.from_here}/none", timeout=2) as answer:
            server = answer.headers["Server"]
    except urllib.error.HTTPError as error:
        server = error.headers["Server"]
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return str(server).startswith(SERVER)


def _answer(request: BaseHTTPRequestHandler, owner: LookPage, settings: LookSettings) -> None:
    """One request. A page elsewhere that calls this machine by a name of its own is refused."""
    asked = urlsplit(request.path)
    if _is_own(settings.address) and not _is_own(request.headers.get("Host", "").rsplit(":", 1)[0]):
        request.send_error(403, "ask for this machine by its own name")
        return
    if asked.path != "/":
        request.send_error(404, "the page is at /")
        return
    try:
        seconds = float(parse_qs(asked.query).get("seconds", ["0"])[0])
    except ValueError:
        request.send_error(400, "seconds is a number")
        return
    text = owner.html(seconds if 0 < seconds < float("inf") else None)
    if text is None:
        request.send_error(503, "no camera delivered a picture meanwhile")
        return
    body = text.encode()
    with suppress(ConnectionError):
        request.send_response(200)
        for name, value in HEADERS.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


def _is_own(host: str) -> bool:
    """A name of this machine that only it has."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
