"""A thread that tells how the node is: cameras and node state when they change, everything else in a heartbeat.

It does not depend on the pipeline, which may be waiting for a camera or for the disk just when there is news.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from edge_app.contract.messages import CameraState, CameraStateName, NodeStateName
from edge_app.delivery.publish import Publisher
from edge_app.health.health import Health, HealthSettings
from edge_app.sources.status import CameraStatus
from edge_app.store.store import Store

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5


class Heartbeat:
    """`start` it after the publisher, `close` it before. `problem` says what ails the node beside its cameras."""

    def __init__(
        self,
        settings: HealthSettings,
        health: Health,
        publisher: Publisher,
        store: Store,
        *,
        cameras: Callable[[], Mapping[str, CameraStatus]],
        problem: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._health, self._publisher, self._store = settings, health, publisher, store
        self._cameras, self._problem, self._clock = cameras, problem, clock
        self._said: set[str] = set()  # cameras whose state was told at all
        self._node: tuple[NodeStateName, str | None] = ("online", None)
        self._beat_at_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except Exception:  # telling how the node is must not end because of one mistake
                log.exception("heartbeat: unexpected error")
            self._stop.wait(LOOK_EVERY_S)

    def _look(self) -> None:
        letterhead = self._publisher.letterhead
        sick: list[str] = []
        for camera, status in self._cameras().items():
            state, reason = _contract_state(status)
            news = self._health.see(camera, state, reason, status.frames, status.dropped)
            if news or camera not in self._said:
                self._said.add(camera)
                (log.info if state == "ok" else log.warning)("camera %s: %s%s", camera, state, _because(reason))
                message = CameraState(**letterhead.once(self._clock()), camera=camera, state=state, reason=reason)
                self._publisher.hold(message)
            if state != "ok" and status.state != "ended":
                sick.append(f"camera {camera}: {state}")
        self._look_at_node(sick)
        if time.monotonic() >= self._beat_at_s:
            self._beat_at_s += self._settings.interval_s
            self._publisher.send(self._health.heartbeat(letterhead, self._store, self._clock()))

    def _look_at_node(self, sick: list[str]) -> None:
        problem = self._problem()
        reason = "; ".join(([problem] if problem else []) + sick)[:300] or None
        node: tuple[NodeStateName, str | None] = ("degraded" if reason else "online", reason)
        if node != self._node:
            self._node = node
            self._publisher.set_state(*node)


def _contract_state(status: CameraStatus) -> tuple[CameraStateName, str | None]:
    """A recording that was read to its end is offline to the outside."""
    if status.state == "ended":
        return "offline", "the recording has ended"
    reason = status.reason or status.last_error
    return status.state, None if status.state == "ok" or not reason else reason[:300]


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
