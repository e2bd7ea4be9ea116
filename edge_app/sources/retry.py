"""When a camera that failed is tried again. Values in, values out."""

from __future__ import annotations

import random

from edge_app.errors import SourceRefusedError

_LOST_FIRST_S = 0.5
_LOST_LONGEST_S = 4.0  # with an open time-out of 4 s a returning camera is back in less than 10 s
_REFUSED_FIRST_S = 60.0
_REFUSED_LONGEST_S = 600.0  # a path may appear when its camera reaches the media server
_LOGIN_LONGEST_S = 3600.0  # every try with a wrong password may lock the account


class Retry:
    """The pauses between the tries at one camera: doubling, and never in step with other cameras.

    A lost cable or a restarting camera is mended by time, and tried every few seconds. What the camera refuses is
    mended by people, and tried after minutes, later up to every hour.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._lost = self._refused = 0

    def settled(self) -> None:
        """The last connection was good: begin anew."""
        self._lost = self._refused = 0

    def pause_s(self, problem: Exception) -> float:
        """Seconds until the next try, after this failure."""
        if isinstance(problem, SourceRefusedError):
            longest_s = _LOGIN_LONGEST_S if problem.login else _REFUSED_LONGEST_S
            pause_s = min(longest_s, _REFUSED_FIRST_S * 2.0**self._refused)
            self._refused = min(self._refused + 1, 10)
            return pause_s * self._rng.uniform(1.0, 1.25)
        self._lost = min(self._lost + 1, 10)
        return min(_LOST_LONGEST_S, _LOST_FIRST_S * 2.0**self._lost) * self._rng.uniform(0.5, 1.0)
