"""The anchor set: held-out hours of all days that are kept, on which no model may be much worse than the best one was.

A model is accepted for what it does on the hours of the window. Were that all, each could lose a little of last month's
light. So the same hours ask every model again, and what is compared is not the model in force but the best one so far.

    own/anchor.json    the hours that are in it, and the round whose model is the best on it

How "grown, never replaced" and retention go together:

    grown            a day gives whole held-out hours until it has given its share, `anchor_passages / anchor_days`;
                     first those whose time of day the set has least of. So the set spans whatever is kept, no day
                     outweighs the others, and its size is bounded by the days that are kept
    never replaced   an hour stays until its crops are past `keep.days`, or are held out no longer; none goes to make
                     room
    fair             both models are measured anew on what the set is now, so a set that grew moves no bound

A set that is closed at its thousandth passage would go as a whole when `keep.days` are over, and leaves some 400
comparisons, of which a difference of 0.01 is four: mostly chance. The longer a site is kept, the better this one tells.

Best: the accepted model that is not below the best before it; before the set suffices, the newest accepted, which was
better than its predecessor by the other measures; before any is accepted, the start.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.adapt import rounds
from trainer.adapt.crops.choice import Known
from trainer.adapt.gate.verdict import GateSettings
from trainer.adapt.settings import DAY_S
from trainer.errors import DataError

FILE, FORMAT = "anchor.json", "crosslane-anchor/1"


@dataclass(frozen=True, slots=True)
class Anchor:
    """What is remembered between two rounds."""

    hours: tuple[int, ...] = ()  # of `keep.held_out_s` since the epoch, ascending
    best: int = 0  # the round that made the best accepted model; 0 = the start
    H: float | None = None  # its H when it was last measured
    format: str = FORMAT


@dataclass(frozen=True, slots=True)
class Grown:
    """The set of one round, and what became of the one before."""

    hours: tuple[int, ...]
    passages: int
    crops: int
    days: float  # from its first hour to its last
    came: int  # hours that are new in it
    went: int  # hours whose crops are past their days, or that are held out no longer

    @property
    def sentence(self) -> str:
        return (
            f"the anchor set has {self.passages} passages of {len(self.hours)} hours over {self.days:.1f} days; "
            f"{self.came} hours came, {self.went} went with their crops"
        )


def read(own: Path) -> Anchor:
    """Empty before the first round. Raises `DataError` for what is none."""
    path = own / FILE
    if not path.exists():
        return Anchor()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = Anchor(**{**content, "hours": tuple(sorted(map(int, content["hours"])))})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error}; delete it to begin a new anchor set") from None
    if found.format != FORMAT:
        raise DataError(f"{path}: expected {FORMAT}, found {found.format}; update, or delete it")
    return found


def save(own: Path, anchor: Anchor) -> None:
    """Whole or not at all. Raises `WorldError`."""
    rounds.write_json(own / FILE, asdict(anchor))


def best_model(own: Path, start: Path, anchor: Anchor) -> Path:
    """The file of the best accepted model. Raises `DataError` when it is gone."""
    if not anchor.best:
        return start
    path = own / rounds.model_name(anchor.best)
    if not path.is_file():
        raise DataError(f"{own / FILE} names {path.name} as the best model, which is not there: put it back")
    return path


def grow(known: Known, held: Sequence[int], before: Sequence[int], settings: GateSettings, hour_s: float) -> Grown:
    """The set now, from the usable crops and the hours (of `hour_s` seconds) that are held out, ascending. Where
    `hour_s` has changed, none of the hours before is there any more. Pure; O(N log N)."""
    counts = _passages_by_hour(known, hour_s)
    there = [hour for hour in held if counts[hour]]
    hours = set(before) & set(there)
    share = settings.anchor_passages / settings.anchor_days
    times = Counter(hour * hour_s % DAY_S for hour in hours)
    for _, group in groupby(there, key=lambda hour: hour * hour_s // DAY_S):
        day = list(group)
        given = sum(counts[hour] for hour in day if hour in hours)
        for hour in sorted(set(day) - hours, key=lambda hour: (times[hour * hour_s % DAY_S], hour)):
            if given >= share:
                break
            hours.add(hour)
            times[hour * hour_s % DAY_S] += 1
            given += counts[hour]
    ordered = tuple(sorted(hours))
    return Grown(
        ordered,
        passages=sum(counts[hour] for hour in ordered),
        crops=len(rows_in(known, ordered, hour_s)),
        days=(ordered[-1] + 1 - ordered[0]) * hour_s / DAY_S if ordered else 0.0,
        came=len(hours - set(before)),
        went=len(set(before) - hours),
    )


def rows_in(known: Known, hours: Sequence[int], hour_s: float) -> NDArray[np.int64]:
    """Rows of the crops whose passages entered in these hours, ascending."""
    return np.flatnonzero(np.isin(_hour_of(known, hour_s), np.array(hours, np.int64)))


def after(before: Anchor, done: dict[str, dict[str, Any]], number: int, *, accepted: bool) -> Anchor:
    """What a round with these findings leaves. Again from its own result it is the same."""
    hours = tuple(done.get("choose", {}).get("anchor", {}).get("hours", before.hours))
    judged = done.get("judge", {})
    best, new = (mean_of(judged.get("anchor_units", ()), side) for side in ("old", "new"))
    if accepted and (best is None or new is None or new >= best):
        return Anchor(hours, number, new)
    return Anchor(hours, before.best, before.H if best is None else best)


def mean_of(units: Sequence[dict[str, Any]], side: str) -> float | None:
    """H over all comparisons, from that of every unit; None without any."""
    total = sum(unit["comparisons"] for unit in units)
    return sum(unit["comparisons"] * unit[side] for unit in units) / total if total else None


def _hour_of(known: Known, hour_s: float) -> NDArray[np.int64]:
    return np.floor(known.entered_s / hour_s).astype(np.int64)


def _passages_by_hour(known: Known, hour_s: float) -> Counter[int]:
    _, first = np.unique(known.passages, return_index=True)
    return Counter(_hour_of(known, hour_s)[first].tolist())
