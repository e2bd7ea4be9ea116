"""A line to a real server that loses, changes or holds what is sent: a TCP proxy."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class BadLine:
    """`with BadLine(port) as line:` and connect to `line.port`. What it does to requests is `line.does`:

    `pass` · `flip` one bit of the byte number `after` of each connection · `cut` there · `hold` all that comes behind ·
    `slow`: 20 kB a second.
    """

    def __init__(self, port: int, does: str = "pass", after: int = 0) -> None:
        self.does, self.after = does, after
        self.passed = 0  # bytes towards the server
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]

    def __enter__(self) -> BadLine:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answers, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        come = 0
        with contextlib.suppress(OSError):
            while chunk := client.recv(16_384):
                here = come <= self.after < come + len(chunk)
                if self.does == "flip" and here:
                    place = self.after - come
                    chunk = chunk[:place] + bytes([chunk[place] ^ 1]) + chunk[place + 1 :]
                if self.does == "cut" and here:
                    break
                while self.does == "hold" and come + len(chunk) > self.after:
                    time.sleep(0.05)
                if self.does == "slow":
                    time.sleep(len(chunk) / 20_000)
                come += len(chunk)
                self.passed += len(chunk)
                server.sendall(chunk)
        self._end(client, server)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := server.recv(65_536):
                client.sendall(chunk)
        self._end(client, server)

    def _end(self, *sockets: socket.socket) -> None:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
