"""Tells systemd that the pipeline turns: READY=1 after its first step, then WATCHDOG=1 from its steps and nowhere else.

No thread pings, so a pipeline that hangs in a stage is silent, and systemd starts the node anew after `WatchdogSec`.
Live cameras give a step every half second, with frames or without: cameras that are away silence nobody.
"""

from __future__ import annotations

import faulthandler
import os
import time
from collections.abc import Callable, Mapping

from edge_app.sources.status import CameraStatus

SAY_EVERY_S = 1.0
STATUS_LIMIT = 300  # characters


class Watchdog:
    """Silent where no service manager listens (`NOTIFY_SOCKET`)."""

    def __init__(
        self, environment: Mapping[str, str] = os.environ, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._listens = bool(environment.get("NOTIFY_SOCKET"))
        self._every_s = min(SAY_EVERY_S, float(environment.get("WATCHDOG_USEC", "inf")) / 4e6)
        self._monotonic = monotonic
        self._steps = 0
        self._next_s = 0.0
        if self._listens:
            faulthandler.enable()  # systemd ends a silent node with SIGABRT: the journal then shows where it hung

    def starting(self, text: str) -> None:
        """What is done before the first step."""
        if self._listens:
            _say("STATUS", text)

    def step(self, status: Callable[[], str]) -> None:
        """One step of the pipeline was made. `status` says in one line how the node is doing."""
        self._steps += 1
        now_s = self._monotonic()
        if not self._listens or (self._steps > 1 and now_s < self._next_s):
            return
        self._next_s = now_s + self._every_s
        _say("STATUS", f"{status()}; step {self._steps}")
        _say("READY" if self._steps == 1 else "WATCHDOG")

    def stopping(self) -> None:
        """The last step was made; what follows is only tidying."""
        if self._listens:
            _say("STOPPING")


def status_line(cameras: Mapping[str, CameraStatus], problem: str | None) -> str:
    """`3 of 4 cameras deliver; gate: offline; broker …`: what `systemctl status` shows, and the installer reads."""
    away = [f"{name}: {status.state}" for name, status in cameras.items() if status.state in ("offline", "stalled")]
    said = [f"{len(cameras) - len(away)} of {len(cameras)} cameras deliver", *away, *([problem] if problem else [])]
    return " ".join("; ".join(said).split())[:STATUS_LIMIT]


def _say(name: str, value: str = "") -> None:
    from cysystemd.daemon import Notification, notify

    notify(Notification[name], value)
