"""A small server of a node, for people or their tools. While its port is taken, `problem` says so, and it tries again:
no page and no chart is a reason to stop matching."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from edge_app.errors import WorldError

log = logging.getLogger(__name__)

TRY_AGAIN_S = 10.0

Start: TypeAlias = Callable[["Place"], tuple[Any, threading.Thread]]  # a `socketserver`, and the thread that serves


class Place(NamedTuple):
    """Where it listens, and the setting that says so."""

    address: str
    port: int
    setting: str

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    @property
    def from_here(self) -> str:
        """Its address for somebody on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.address)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def refused(self, error: OSError) -> str:
        return f"cannot listen on {self.address}:{self.port}: {error.strerror or error}; choose another {self.setting}"


class Listening:
    """Serves in a thread until it is closed. Port 0 takes a free one; `port` is the one that was taken."""

    def __init__(self, name: str, place: Place, start: Start) -> None:
        self.problem: str | None = None
        self.port = place.port
        self._name, self._place, self._start = name, place, start
        self._serving: tuple[Any, threading.Thread] | None = None
        self._stop = threading.Event()
        self._again = threading.Thread(target=self._try_again, name=name, daemon=True)
        if not self._listen():
            self._again.start()

    def close(self) -> None:
        self._stop.set()
        if self._again.is_alive():
            self._again.join()
        if self._serving is not None:
            server, thread = self._serving
            server.shutdown()
            server.server_close()
            thread.join()

    def _try_again(self) -> None:
        while not self._stop.wait(TRY_AGAIN_S):
            if self._listen():
                return

    def _listen(self) -> bool:
        try:
            self._serving = self._start(self._place)
        except OSError as error:
            if self.problem is None:
                self.problem = f"{self._name}: {self._place.refused(error)}"
                log.warning("%s; trying again every %g s", self.problem, TRY_AGAIN_S)
            return False
        self.port = self._serving[0].server_port
        if self.problem is not None:
            log.info("%s: listening on %s:%d", self._name, self._place.address, self.port)
        self.problem = None
        return True


def check_port(place: Place, is_a_node: Callable[[Place], bool]) -> str:
    """What `edge-app check` says of it. Raises WorldError when somebody else has its port; a node that runs while it is
    checked, as in an update, is nobody else."""
    try:
        with socket.create_server((place.address, place.port), family=place.family):
            return f"{place.address}:{place.port} is free"
    except OSError as error:
        if error.errno == errno.EADDRINUSE and is_a_node(place):
            return f"{place.address}:{place.port}: a node is serving there"
        raise WorldError(f"{place.setting}: {place.refused(error)}") from error
