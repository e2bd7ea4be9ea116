"""What is counted in one interval, as functions of the table of passages. Plain values out: the fields of a message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MOST_FLOWS = 120  # so many (class, entry, exit) fit into one message; the rarest are counted as "other"


@dataclass(frozen=True, slots=True)
class Counted:
    """One finished tracklet, and which one it continues as far as is known."""

    id: str
    camera: str
    class_name: str
    entry_s: float
    exit_s: float
    entry_zone: str
    exit_zone: str
    decided: bool = False
    from_track: str | None = None
    came: tuple[tuple[str, float], ...] = ()  # earlier passages that it may continue, and how probably

    @property
    def chances(self) -> tuple[tuple[str, float], ...]:
        """The same, also of a passage of which only the decision is known."""
        return self.came or (((self.from_track, 1.0),) if self.from_track is not None else ())


@dataclass(frozen=True, slots=True)
class Link:
    id: str
    from_camera: str
    to_camera: str
    transit_max_s: float


@dataclass
class Table:
    """All passages of the last hour, each with the one that continues it."""

    passages: dict[str, Counted] = field(default_factory=dict)
    next: dict[str, str] = field(default_factory=dict)  # id → id of the passage that continues it
    maybe: dict[str, dict[str, float]] = field(default_factory=dict)  # id → ids of those that may, and how probably

    def after(self, passage: Counted) -> Counted | None:
        return self.passages.get(self.next.get(passage.id, ""))

    def onward(self, passage: Counted) -> list[tuple[Counted, float]]:
        """Those that may continue it, with their probabilities."""
        return [(self.passages[to], p) for to, p in self.maybe.get(passage.id, {}).items() if to in self.passages]

    def put(self, passage: Counted) -> None:
        """A new passage, or one of which more is known."""
        self._forget_chances(passage.id)
        self.passages[passage.id] = passage
        for name, p in passage.chances:
            self.maybe.setdefault(name, {})[passage.id] = p

    def take(self, name: str) -> Counted:
        """The passage of this name, which is gone then."""
        self._forget_chances(name)
        return self.passages.pop(name)

    def _forget_chances(self, passage: str) -> None:
        for name, _ in self.passages[passage].chances if passage in self.passages else ():
            self.maybe.get(name, {}).pop(passage, None)
            if not self.maybe.get(name, True):
                del self.maybe[name]

    def before(self, passage: Counted) -> Counted | None:
        return self.passages.get(passage.from_track or "")

    def last(self, passage: Counted) -> Counted:
        """The end of its trip as far as is known."""
        for _ in range(len(self.passages)):  # a loop of links would be a bug elsewhere; it must not hang this
            following = self.after(passage)
            if following is None:
                break
            passage = following
        return passage


def flow(camera: str, coverage: float, left: Sequence[Counted]) -> dict[str, Any]:
    """Counts per class and direction of what left one camera."""
    counts = Counter((one.class_name, one.entry_zone, one.exit_zone) for one in left if one.camera == camera)
    common = dict(counts.most_common(MOST_FLOWS))
    for (class_name, entry, leave), n in counts.items():
        if (class_name, entry, leave) not in common:
            common[class_name, "other", "other"] = common.get((class_name, "other", "other"), 0) + n
    rows = [
        {"class_name": class_name, "entry_zone": entry, "exit_zone": leave, "n": n}
        for (class_name, entry, leave), n in sorted(common.items())
    ]
    return {"camera": camera, "coverage": round(coverage, 3), "counts": rows}


def travel_time(link: Link, left: Sequence[Counted], entries: int, table: Table) -> dict[str, Any]:
    """Matches and transit times of what left `link.from_camera`. Found on another link is not eligible for this one."""
    exits = [one for one in left if one.camera == link.from_camera]
    followers = [(one, table.after(one)) for one in exits]
    transits_s = [to.entry_s - one.exit_s for one, to in followers if to is not None and to.camera == link.to_camera]
    eligible = sum(to is None or to.camera == link.to_camera for _, to in followers)
    p10_s, median_s, p90_s = (
        (round(float(value), 3) for value in np.quantile(transits_s, (0.1, 0.5, 0.9)))
        if transits_s
        else (None, None, None)
    )
    return {
        "link": link.id,
        "from_camera": link.from_camera,
        "to_camera": link.to_camera,
        "exits": len(exits),
        "eligible_exits": eligible,
        "entries": entries,
        "n": len(transits_s),
        "match_rate": round(len(transits_s) / eligible, 4) if eligible else None,
        "median_s": median_s if median_s is None else max(median_s, 0.0),
        "p10_s": p10_s if p10_s is None else max(p10_s, 0.0),
        "p90_s": p90_s if p90_s is None else max(p90_s, 0.0),
    }


def origin_destination(
    left: Sequence[Counted], table: Table, patience_s: Mapping[str, float], now_s: float
) -> list[dict[str, Any]]:
    """Finished trips that began with one of these exits, by first and last camera.

    `patience_s`: how long after leaving a camera a trip may still go on.
    """
    pairs: dict[tuple[str, str], Counter[str]] = {}
    for one in left:
        if not one.decided or one.from_track is not None:
            continue
        end = table.last(one)
        if now_s > end.exit_s + patience_s.get(end.camera, 0.0):
            pairs.setdefault((one.camera, end.camera), Counter())[one.class_name] += 1
    return [
        {"origin": origin, "destination": destination, "counts": dict(sorted(counts.items()))}
        for (origin, destination), counts in sorted(pairs.items())
    ]
