"""What is told of a camera's condition, so that a sick camera is news a few times, not every few seconds. Pure."""

from __future__ import annotations

from collections import deque

from edge_app.sources.status import CameraState

_MEMORY_S = 1200.0  # changes that were told within this time make the next ones slower
_FREE = 3  # so many changes are told at once
_HOLD_FIRST_S = 60.0  # then a change must hold so long, twice as long after each further one
_HOLD_LONGEST_S = 600.0
_SETTLE_S = 10.0  # one bad condition takes the place of another only when it lasts

Condition = tuple[CameraState, str | None]


class Told:
    """The told condition of one camera, from all that is seen of it.

    From ok to anything else is told at once. Back to ok, too, the first times; a camera that comes and goes has to be
    ok for minutes, and until then its reason says that it comes and goes. Between two bad conditions (offline, stalled,
    another reason) the first is told until another one holds.
    """

    def __init__(self, state: CameraState, reason: str | None) -> None:
        self.falls = 0  # how often it was ok and then was not
        self._seen = self._told = self._candidate = (state, reason)
        self._begun = False
        self._flaps = False
        self._since_s = 0.0
        self._changes_s: deque[float] = deque(maxlen=32)

    @property
    def condition(self) -> Condition:
        state, reason = self._told
        return state, f"comes and goes: {reason}" if self._flaps and state != "ok" else reason

    def see(self, condition: Condition, now_s: float) -> bool:
        """The condition at a monotonic time. True when what is told changed."""
        self.falls += self._seen[0] == "ok" and condition[0] != "ok"
        self._seen = condition
        if condition == self._told:
            self._candidate = condition
            return False
        if condition != self._candidate:
            self._candidate, self._since_s = condition, now_s
        while self._changes_s and now_s - self._changes_s[0] > _MEMORY_S:
            self._changes_s.popleft()
        if self._begun and now_s - self._since_s < self._hold_s():
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
