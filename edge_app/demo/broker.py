"""A small MQTT broker inside this process, for demos and tests: anonymous, reachable from this machine only.

It speaks MQTT 3.1.1 and is silent when asked for 5; connect with `protocol: 3.1.1` or wait for the fallback of `auto`.
Everything else uses a real broker (`deploy/broker`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import threading
from types import TracebackType

from edge_app.errors import BrokerError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0  # importing the broker takes long on a machine with other things to do


def free_port() -> int:
    """A port nobody listens on right now, outside the range from which the system serves outgoing connections."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise BrokerError("no free port between 20000 and 30000; is something listening on all of them?")


class EmbeddedBroker:
    """`with EmbeddedBroker() as broker:` then connect to `broker.port`. Port 0 chooses a free one."""

    def __init__(self, port: int = 0) -> None:
        self.host, self.port = HOST, port or free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="embedded-broker", daemon=True)
        self._ready = threading.Event()
        self._problem: Exception | None = None
        self._stop = asyncio.Event()

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Returns when clients can connect. Raises BrokerError when the port is taken."""
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_S) or self._problem:
            raise BrokerError(f"embedded broker on {self.host}:{self.port}: {self._problem or 'did not start'}")

    def close(self) -> None:
        """Disconnects everybody and frees the port."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(START_TIMEOUT_S)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda _, context: log.debug("embedded broker: %s", context["message"]))
        try:
            self._loop.run_until_complete(self._main())
        except Exception as error:
            self._problem = error
        finally:
            self._ready.set()
            self._loop.close()

    async def _main(self) -> None:
        from amqtt.broker import Broker

        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # every disconnect is a warning there
        broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{self.host}:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await broker.start()
        self._ready.set()
        await self._stop.wait()
        await broker.shutdown()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
