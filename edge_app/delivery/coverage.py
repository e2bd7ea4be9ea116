"""How long each camera delivered in each interval, and the stored forms of everything that is counted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from math import isfinite

from edge_app.delivery.counting import Counted
from edge_app.store.parts import sealed, unsealed

COVERAGE = "aggregate/coverage"
LONGEST_STEP_S = 5.0  # a longer silence between two updates is not coverage


class Coverage:
    """`add` with every tick. Goes with every commit, as the interval that was just added to: a kill costs the last
    step, no more. An interval in which nobody ran is known too, so that the hole can be told."""

    def __init__(self, cameras: Sequence[str], interval_s: float, most_holes: int) -> None:
        """`most_holes`: so many intervals without a tick are told at most, the newest."""
        self._interval_s, self._most_holes = interval_s, most_holes
        self._covered_s: dict[str, dict[int, float]] = {camera: {} for camera in cameras}
        self.intervals: set[int] = set()
        self._now_s: float | None = None
        self._new: set[int] = set()  # intervals that were added to and are not committed
        self._gone: set[int] = set()

    @property
    def now_s(self) -> float | None:
        """Time of the last tick."""
        return self._now_s

    def add(self, delivering: Iterable[str], now_s: float) -> set[int]:
        """The intervals that this made known, or known of another camera."""
        step_s = 0.0 if self._now_s is None else now_s - self._now_s
        self._now_s = now_s
        interval = int(now_s // self._interval_s)
        if not 0 < step_s <= LONGEST_STEP_S:
            return self._holes_before(interval)
        begun = {interval} - self.intervals
        self._new |= begun
        for camera in self._covered_s.keys() & set(delivering):  # one taken out of the configuration says nothing
            covered_s = self._covered_s[camera]
            if interval not in covered_s:
                begun.add(interval)
            covered_s[interval] = covered_s.get(interval, 0.0) + step_s
            self._new.add(interval)
        self.intervals |= begun
        return begun

    def share(self, camera: str, interval: int) -> float:
        """In [0, 1]."""
        return min(self._covered_s[camera].get(interval, 0.0) / self._interval_s, 1.0)

    def forget(self, interval: int) -> None:
        for covered_s in self._covered_s.values():
            covered_s.pop(interval, None)
        self.intervals.discard(interval)
        self._gone.add(interval)
        self._new.discard(interval)

    def go_on(self, at_s: float | None) -> None:
        """The next tick follows this one, None when something may have passed meanwhile."""
        self._now_s = at_s

    def take_changes(self) -> dict[str, bytes | None]:
        """The parts of the store that changed since the last call; None deletes."""
        changes: dict[str, bytes | None] = {f"{COVERAGE}/{interval}": None for interval in self._gone}
        for interval in self._new:
            covered_s = {camera: of[interval] for camera, of in self._covered_s.items() if interval in of}
            changes[f"{COVERAGE}/{interval}"] = stored("coverage", covered_s)
        self._new, self._gone = set(), set()
        return changes

    def load(self, interval: int, covered_s: Mapping[str, float]) -> None:
        """A camera that is no longer configured has none."""
        self.intervals.add(interval)
        for camera, one_s in covered_s.items():
            if camera in self._covered_s:
                self._covered_s[camera][interval] = one_s

    def _holes_before(self, interval: int) -> set[int]:
        """Whole intervals since the last known one in which nobody ran."""
        if not self.intervals:
            return set()
        holes = set(range(max(max(self.intervals) + 1, interval - self._most_holes), interval))
        self.intervals |= holes
        self._new |= holes
        return holes


def stored(group: str, value: object) -> bytes:
    return sealed(f"crosslane.{group}/2", json.dumps(value).encode())


def read_counted(value: bytes) -> Counted:
    """A field that this release added takes its default, one that it dropped is passed over."""
    values = json.loads(unsealed(value, "crosslane.counted/2"))
    known = {field.name: values[field.name] for field in fields(Counted) if field.name in values}
    for name in ("entry_s", "exit_s"):
        if not isfinite(float(known[name])):
            raise ValueError(f"{name} is {known[name]}")
    if not all(isinstance(known[name], str) for name in ("id", "camera", "class_name", "entry_zone", "exit_zone")):
        raise ValueError("a name is none")
    known["came"] = tuple((str(name), float(p)) for name, p in known.get("came", ()))
    if not all(0 <= p <= 1 for _, p in known["came"]):
        raise ValueError("a probability is none")
    return Counted(**known)


def read_said(value: bytes) -> tuple[int, str]:
    revision, digest = json.loads(unsealed(value, "crosslane.said/2"))
    return int(revision), str(digest)


def read_coverage(value: bytes) -> dict[str, float]:
    return {camera: float(one_s) for camera, one_s in json.loads(unsealed(value, "crosslane.coverage/2")).items()}
