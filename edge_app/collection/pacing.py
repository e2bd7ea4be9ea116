"""When a shard may be sent, how fast, and how long to wait after it failed. Pure: times come in, durations go out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

End: TypeAlias = Literal["away", "refused"]
LONGEST_WAIT_S = 30.0  # until the hours are looked at again: a wall clock may be set
DAY_MIN = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of the day, in minutes after midnight; one that ends before it begins goes over midnight."""

    begin_min: int
    end_min: int

    @classmethod
    def parse(cls, text: str) -> Hours:
        """From `22:00-05:30`. Raises ValueError."""
        found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)", text)
        begin, end = (int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])) if found else (0, 0)
        if begin == end or end > DAY_MIN:
            raise ValueError("expected hours as 22:00-05:30, that begin and end at different times")
        return cls(begin, end)

    def holds(self, minute: int) -> bool:
        if self.begin_min < self.end_min:
            return self.begin_min <= minute < self.end_min
        return minute >= self.begin_min or minute < self.end_min


def zone_of(name: str) -> tzinfo:
    """Raises ValueError. UTC is known where the system has no list of zones, too."""
    try:
        return timezone.utc if name == "UTC" else ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a zone that is not found is a KeyError
        raise ValueError("this system knows no such time zone; expected a name as Europe/Berlin") from None


def may_send(hours: Sequence[Hours], zone: tzinfo, wall_s: float) -> bool:
    """Is it time, by the wall clock (seconds since the epoch)? No hours are all hours."""
    local = datetime.fromtimestamp(wall_s, zone)
    return not hours or any(each.holds(local.hour * 60 + local.minute) for each in hours)


class Rate:
    """A `Pace` of so many bytes a second, with monotonic times: no burst after an idle hour."""

    def __init__(self, bytes_per_s: float | None, clock: Callable[[], float]) -> None:
        self._bytes_per_s, self._clock = bytes_per_s, clock
        self._free_at_s = float("-inf")  # when what was sent before has had its time

    def __call__(self, size: int) -> float:
        if self._bytes_per_s is None:
            return 0.0
        now_s = self._clock()
        pause_s = max(self._free_at_s - now_s, 0.0)
        self._free_at_s = now_s + pause_s + size / self._bytes_per_s
        return pause_s


class Patience:
    """How long to wait after each failure in a row: what time mends is tried soon, what a person must mend seldom."""

    def __init__(self, spans_s: dict[End, tuple[float, float]], chance: Callable[[float, float], float]) -> None:
        """`spans_s`: the first and the longest pause; `chance(a, b)` is a random number between both, so that the nodes
        of a site do not return all at once."""
        self._spans_s, self._chance = spans_s, chance
        self._times: dict[End, int] = {"away": 0, "refused": 0}

    def pause_s(self, end: End) -> float:
        first_s, longest_s = self._spans_s[end]
        self._times = {kind: self._times[kind] + 1 if kind == end else 0 for kind in self._times}
        return min(first_s * 2.0 ** min(self._times[end] - 1, 60), longest_s) * self._chance(0.8, 1.2)

    def succeeded(self) -> None:
        self._times = dict.fromkeys(self._times, 0)
