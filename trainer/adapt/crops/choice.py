"""Which crops a site's model is trained on, and which of them outlive the window. Pure.

The window moves with the newest crop. What leaves it would be forgotten, last month's light with it; so a reservoir of
older crops is kept, as many of each cluster and camera as there is room for: a rare one keeps all it has, a common one
gives up most, evenly over time. Crops that no cluster has count as one cluster per camera.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from trainer.adapt.crops.trained_on import Spans, merged, met
from trainer.adapt.settings import DAY_S, KeepSettings

Integers = NDArray[np.int64]
Seconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Known:
    """N usable crops, in the order in which they came."""

    ids: Integers  # (N,) of the index, ascending
    passages: Integers  # (N,)
    cameras: Integers  # (N,)
    captured_s: Seconds  # (N,)
    entered_s: Seconds  # (N,) of the passage
    left_s: Seconds  # (N,)
    control: NDArray[np.bool_]  # (N,) of a passage that is kept to judge by
    reservoir: NDArray[np.bool_]  # (N,) kept when the window left it

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Choice:
    """Row numbers of `Known`, ascending; no passage is in both."""

    trained: Integers
    judged: Integers
    held_hours: tuple[int, ...]  # hours (`keep.held_out_s`) since the epoch of which nothing is trained on
    known_hours: int = 0  # that would be held out, had they not been trained on before
    spans: Spans = ()  # of the hours that are trained on

    @property
    def sentences(self) -> list[str]:
        """What must be said of it."""
        if not self.known_hours:
            return []
        return [
            f"{self.known_hours} hours would be held out, but were trained on before (keep.held_out was lower, or "
            "keep.held_out_s another): they judge nothing, and are trained on"
        ]


def choose(known: Known, keep: KeepSettings, site: str, before: Spans) -> Choice:
    """What to train on, and what to judge by: every passage that touches a held-out hour, control or not. Controls of
    other hours are neither: whom they might meet was trained on. Nor is an hour held out that meets a span of
    `before`, when the site was trained already. O(N log N)."""
    first, last = (np.floor(times / keep.held_out_s).astype(np.int64) for times in (known.entered_s, known.left_s))
    hours = np.unique(np.concatenate([first, last]))
    drawn = np.array([held_out(site, int(hour), keep.held_out) for hour in hours], np.bool_)
    held = drawn & ~met(hours * keep.held_out_s, (hours + 1) * keep.held_out_s, before)
    counts = np.concatenate([[0], np.cumsum(held)])  # held hours among the first so many
    touched = counts[np.searchsorted(hours, last, "right")] > counts[np.searchsorted(hours, first, "left")]
    shut, control = (_of_passage(known.passages, marks) for marks in (touched, known.control))
    free = ~shut & ~control
    begin_s = known.captured_s.max(initial=-np.inf) - keep.window_days * DAY_S
    window = np.flatnonzero(free & (known.captured_s >= begin_s))
    window = window[_whole_passages(known.passages[window], keep.most)]
    older = np.flatnonzero(free & known.reservoir & (known.captured_s < begin_s))
    judged = np.flatnonzero(shut & (known.captured_s >= begin_s))
    trained = np.sort(np.concatenate([window, older]))
    ends = np.unique(np.stack([first[trained], last[trained] + 1]), axis=1) * keep.held_out_s
    spans = merged(zip(*ends.tolist(), strict=True))
    return Choice(trained, judged, tuple(hours[held].tolist()), int((drawn & ~held).sum()), spans)


def held_out(site: str, hour: int, share: float) -> bool:
    """Of 1 / `share` hours in a row one, drawn by lot, the same for a site for ever: so none stays long without."""
    if not share:
        return False
    part = Fraction(share).limit_denominator(100) or Fraction(1, round(1 / share))  # 0.333 is a third
    held, of = part.as_integer_ratio()
    group = hour * held // of
    first, after = (-(-number * of // held) for number in (group, group + 1))
    drawn = hashlib.sha256(f"{site} hours {group}".encode()).digest()
    return hour - first == int.from_bytes(drawn[:6], "big") % (after - first)


def reservoir(labels: Integers, cameras: Integers, captured_s: Seconds, room: int) -> Integers:
    """The rows (at most `room`, ascending) of crops (N,) that are kept: of every cluster and camera at most as many as
    make them fit, evenly over time. Labels −1 = no cluster. O(N log N)."""
    if len(labels) <= room:
        return np.arange(len(labels))
    _, group = np.unique(np.stack([labels, cameras]), axis=1, return_inverse=True)
    group = group.reshape(-1)
    order = np.lexsort((captured_s, group))
    sizes = np.bincount(group)
    most = _level(sizes, room)
    starts, shares = np.cumsum(sizes) - sizes, np.minimum(sizes, most)
    kept = [starts[one] + _spread(int(sizes[one]), int(shares[one])) for one in np.flatnonzero(shares)]
    return np.sort(order[np.concatenate(kept)]) if kept else np.zeros(0, np.int64)


def _level(sizes: Integers, room: int) -> int:
    """The largest number so that at most so many of every group fit into the room."""
    low, high = 0, int(sizes.max(initial=0))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= room else (low, middle - 1)
    return low


def _spread(count: int, wanted: int) -> Integers:
    """`wanted` different numbers below `count`, evenly."""
    return (np.arange(wanted) * count + count // 2) // wanted


def _whole_passages(passages: Integers, most: int) -> NDArray[np.bool_]:
    """Whether each crop's passage is among those that fit, evenly over all of them; all where all crops do."""
    if len(passages) <= most:
        return np.ones(len(passages), np.bool_)
    names, place, sizes = np.unique(passages, return_inverse=True, return_counts=True)
    order = np.argsort(np.arange(len(names)) * 0.6180339887498949 % 1, kind="stable")  # golden ratio: spread everywhere
    kept = np.zeros(len(names), np.bool_)
    kept[order] = np.cumsum(sizes[order]) <= most
    return kept[place]


def _of_passage(passages: Integers, marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether any crop of each crop's passage has the mark."""
    return np.isin(passages, passages[marks])
