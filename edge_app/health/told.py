"""What is told of a camera's condition, so that a sick camera is news a few times, not every few seconds. Pure."""

from __future__ import annotations

import re
from collections import deque

from edge_app.contract.messages import CameraStateName

_MEMORY_S = 1200.0  # changes that were told within this time make the next ones slower
_FREE = 3  # so many changes are told at once
_HOLD_FIRST_S = 60.0  # then a change must hold so long, twice as long after each further one
_HOLD_LONGEST_S = 600.0
_SETTLE_S = 10.0  # one bad condition takes the place of another only when it lasts
_MEASURED = re.compile(r"\d+(\.\d+)?(?= ?(s|ms|min|h|%|fps|bytes|kB|MB)\b)")  # "no frame for 3.2 s" is one reason

Condition = tuple[CameraStateName, str | None]


def same_reason(one: str | None, other: str | None) -> bool:
    """Do two reasons differ in nothing but what was measured?"""
    return _MEASURED.sub("…", one or "") == _MEASURED.sub("…", other or "")


class Told:
    """The told condition of one camera, from all that is seen of it.

    From ok to anything else is told at once. Back to ok, too, the first times; a camera that comes and goes has to be
    ok for minutes, and until then its reason says that it comes and goes. Between two bad conditions (offline, stalled,
    another reason) the first is told until another one holds.
    """

    def __init__(self, state: CameraStateName, reason: str | None) -> None:
        self.changes = 0  # of the state itself, told or not
        self._state = state
        self._told = self._candidate = (state, reason)
        self._begun = False
        self._flaps = False
        self._since_s = 0.0
        self._changes_s: deque[float] = deque(maxlen=32)

    @property
    def condition(self) -> Condition:
        state, reason = self._told
        return state, f"comes and goes: {reason}" if self._flaps and state != "ok" else reason

    def see(self, condition: Condition, now_s: float, *, last: bool = False) -> bool:
        """The condition at a monotonic time; the `last` one waits for nothing. True when what is told changed."""
        self.changes += condition[0] != self._state
        self._state = condition[0]
        if _same(condition, self._told):
            self._candidate = condition
            return False
        if not _same(condition, self._candidate):
            self._candidate, self._since_s = condition, now_s
        while self._changes_s and now_s - self._changes_s[0] > _MEMORY_S:
            self._changes_s.popleft()
        if self._begun and not last and now_s - self._since_s < self._hold_s():
            return False
        fell = self._told[0] == "ok"
        self._flaps = (fell and len(self._changes_s) >= _FREE - 1) or (self._flaps and not fell)
        if self._begun:  # how it begins is no change
            self._changes_s.append(now_s)
        self._begun = True
        self._told = condition
        return True

    def _hold_s(self) -> float:
        """How long the candidate has to last before it is told."""
        if self._told[0] == "ok":
            return 0.0
        changes = max(len(self._changes_s), _FREE if self._flaps else 0)
        hold_s = 0.0 if changes < _FREE else min(_HOLD_LONGEST_S, _HOLD_FIRST_S * 2.0 ** (changes - _FREE))
        return hold_s if self._candidate[0] == "ok" else max(_SETTLE_S, hold_s)


def _same(one: Condition, other: Condition) -> bool:
    return one[0] == other[0] and same_reason(one[1], other[1])
