"""A thread that tells how the node is: cameras and node state when they change, everything else in a heartbeat.

It does not depend on the pipeline, which may be waiting for a camera or for the disk just when there is news.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from edge_app.contract.messages import CameraState, NodeStateName
from edge_app.contract.topics import Message
from edge_app.delivery.outgoing import Letterhead
from edge_app.health.health import Health, HealthSettings
from edge_app.health.told import Condition, same_reason
from edge_app.sources.status import CameraStatus
from edge_app.store.store import Store

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
JOIN_S = 0.5
LONGEST_REASON = 300  # characters


class Says(Protocol):
    """Tells others; see `Publisher`."""

    letterhead: Letterhead

    @property
    def counters(self) -> Mapping[str, int]: ...

    def hold(self, message: Message) -> None: ...

    def set_state(self, state: NodeStateName, reason: str | None = None) -> None: ...

    def send(self, message: Message) -> None: ...


class Heartbeat:
    """`start` it after the publisher, `close` it before. `problem` says what ails the node beside its cameras.

    Without a publisher it looks all the same, for the log and for Prometheus.
    """

    def __init__(
        self,
        settings: HealthSettings,
        health: Health,
        publisher: Says | None,
        store: Store,
        *,
        cameras: Callable[[], Mapping[str, CameraStatus]],
        problem: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._health, self._publisher, self._store = settings, health, publisher, store
        self._cameras, self._problem, self._clock = cameras, problem, clock
        self._beat_at_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """The last word on every camera. A look that waits for a disk that hangs is left behind."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)
            for camera, status in self._cameras().items():
                self._is_sick(camera, status, last=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except Exception:  # telling how the node is must not end because of one mistake
                log.exception("heartbeat: unexpected error")
            self._stop.wait(LOOK_EVERY_S)

    def _look(self) -> None:
        """The node's state goes first: counting the heartbeat's numbers may have to wait for the disk."""
        sick = [camera for camera, status in self._cameras().items() if self._is_sick(camera, status)]
        self._health.look_at_pace()
        self._look_at_node(sick)
        now_s = time.monotonic()
        if now_s >= self._beat_at_s and self._publisher is not None:
            missed = (now_s - self._beat_at_s) // self._settings.interval_s  # a pause is not made up for
            self._beat_at_s += (missed + 1) * self._settings.interval_s
            letterhead = self._publisher.letterhead
            for name, n in list(self._publisher.counters.items()):
                self._health.stands_at(name, n)
            with letterhead.guard("health"):
                for page in letterhead.pages(self._health.heartbeat(letterhead, self._store, self._clock())):
                    self._publisher.send(page)

    def _is_sick(self, camera: str, status: CameraStatus, *, last: bool = False) -> bool:
        """Tell of this camera when there is news."""
        news = self._health.see(camera, _condition(status, self._health.pace.stuck), status, last=last)
        count = self._health.cameras[camera]
        if news:
            reason = count.reason and count.reason[:LONGEST_REASON]
            level = logging.INFO if count.state == "ok" else logging.WARNING
            log.log(level, "camera %s: %s%s", camera, count.state, _because(reason))
            if self._publisher is not None:
                envelope = self._publisher.letterhead.once(self._clock())
                self._publisher.hold(CameraState(**envelope, camera=camera, state=count.state, reason=reason))
        return count.state != "ok" and status.state != "ended"

    def _look_at_node(self, sick: list[str]) -> None:
        pace = self._health.pace
        ills = [pace.stuck, self._problem(), pace.overloaded]
        ills += [f"camera {camera}: {self._health.cameras[camera].state}" for camera in sick]
        reason = "; ".join(ill for ill in ills if ill)[:LONGEST_REASON] or None
        node: tuple[NodeStateName, str | None] = ("degraded" if reason else "online", reason)
        before = self._health.node
        if node[0] != before[0] or not same_reason(node[1], before[1]):
            self._health.node = node
            log.log(logging.WARNING if reason else logging.INFO, "node: %s%s", node[0], _because(reason))
            if self._publisher is not None:
                self._publisher.set_state(*node)


def _condition(status: CameraStatus, stuck: str | None) -> Condition:
    """To the outside a recording that was read to its end is offline, and no camera is ok that nobody looks at."""
    if status.state == "ended":
        return "offline", "the recording has ended"
    if status.state == "ok":
        return ("stalled", stuck) if stuck else ("ok", None)
    return status.state, status.reason or status.last_error


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
