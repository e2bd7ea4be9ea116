"""A camera's state as it is told: one that comes and goes is a single piece of news, not hundreds."""

from __future__ import annotations

import re
from collections import deque

from edge_app.contract.messages import CameraStateName

FLAPS = 6  # so many changes of the state …
WITHIN_S = 600.0  # … in so long are told as "comes and goes"
CALM_S = 60.0  # until one state has held for so long
COMES_AND_GOES = "comes and goes; the changes are counted in health"

_MEASURED = re.compile(r"\d+(\.\d+)?(?= ?(s|ms|min|h|%|fps|bytes|kB|MB)\b)")  # "no frame for 3.2 s" is one reason


def same_reason(one: str | None, other: str | None) -> bool:
    """Do two reasons differ in nothing but what was measured?"""
    return _MEASURED.sub("…", one or "") == _MEASURED.sub("…", other or "")


class Steady:
    """One camera. `tell` what it is like now; what comes back is what others are told."""

    def __init__(self) -> None:
        self.changes = 0  # of the state itself, told or not
        self._state: CameraStateName | None = None
        self._changed_s: deque[float] = deque(maxlen=FLAPS)  # monotonic
        self._worst: CameraStateName | None = None  # the state that is told while it comes and goes

    def tell(self, state: CameraStateName, reason: str | None, now_s: float) -> tuple[CameraStateName, str | None]:
        """`now_s` is monotonic time."""
        if self._state is not None and state != self._state:
            self.changes += 1
            self._changed_s.append(now_s)
        self._state = state
        calm = not self._changed_s or now_s - self._changed_s[-1] > CALM_S
        flapping = len(self._changed_s) == FLAPS and now_s - self._changed_s[0] <= WITHIN_S
        if calm or not (flapping or self._worst):
            self._worst = None
            return state, reason
        self._worst = self._worst or (state if state != "ok" else "stalled")
        return self._worst, COMES_AND_GOES
