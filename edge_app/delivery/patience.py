"""How long to wait before the next connection, or the next message of a backlog. Pure, with monotonic times.

A lost connection comes back within seconds. A refusal may be mended by time as well (after a power cut the password
backend is late), but trying every second locks accounts; and two clients with one id that both hurry only fight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from edge_app.bus import MqttSettings

End: TypeAlias = Literal["lost", "idle", "refused", "taken over"]
"""`idle`: the broker hung up although everything was acknowledged."""

YOUNG_S = 60.0
YOUNG_ENDS = 3  # so many idle connections that ended young are a pattern: not every broker gives a reason


class Patience:
    """Used by one thread, apart from looking at `rival`."""

    def __init__(self, settings: MqttSettings, chance: Callable[[float, float], float]) -> None:
        """`chance(a, b)` is a random number between both, so that the nodes of a site do not return all at once."""
        self._settings, self._chance = settings, chance
        self._lost = self._refused = self._taken = self._young = 0
        self._rival_s: float | None = None  # when another client was last seen to use our id

    def pause_s(self, end: End, lived_s: float, now_s: float) -> float:
        """After a connection that lived so long (0 when it was never accepted) and ended in this way."""
        settings = self._settings
        if lived_s >= YOUNG_S:
            self._young = 0
        elif end == "idle":
            self._young += 1
        self._refused = self._refused + 1 if end == "refused" else 0
        if lived_s > settings.reconnect_max_s:
            self._lost = 0
        if lived_s > settings.refused_max_s:
            self._taken = 0
        if end == "taken over" or (end == "idle" and self._young >= YOUNG_ENDS):
            self._rival_s, self._taken = now_s, self._taken + 1
            pause_s = self._doubled_s(settings.reconnect_max_s, self._taken)
        elif end == "refused":
            pause_s = self._doubled_s(settings.refused_min_s, self._refused)
        elif end == "idle":  # the broker is there: find out soon whether it is a rival
            pause_s = settings.reconnect_min_s
        else:
            pause_s = min(settings.reconnect_min_s * 2.0**self._lost, settings.reconnect_max_s)
            self._lost = min(self._lost + 1, 60)
        return pause_s * self._chance(0.8, 1.2)

    def rival(self, now_s: float) -> bool:
        """Another client seems to use our id: told until it has been quiet for a while."""
        return self._rival_s is not None and now_s - self._rival_s < 2 * self._settings.refused_max_s

    def _doubled_s(self, first_s: float, times: int) -> float:
        return min(first_s * 2.0 ** min(times - 1, 60), self._settings.refused_max_s)


class Pace:
    """So many a second, evenly; `slack_s` is how long the caller may sleep without losing any."""

    def __init__(self, per_s: float, slack_s: float) -> None:
        self._interval_s, self._slack_s = 1 / per_s, slack_s
        self._next_s = float("-inf")

    def may(self, now_s: float) -> bool:
        """Is it time for the next one."""
        if now_s < self._next_s:
            return False
        # a pause of the loop does not slow the pace, an idle hour does not allow a burst
        self._next_s = max(self._next_s + self._interval_s, now_s - self._slack_s)
        return True
