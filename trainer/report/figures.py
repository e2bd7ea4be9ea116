"""Figures of a page that are drawn by its style alone: sharp at any size, dark where the page is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainer.report.page import text

Side = Literal["least", "most", ""]  # a bound is the least that is good, the most, or nobody knows
MARGIN = 0.12  # of a scale, beyond what lies on it

STYLE = """
.scroll { overflow-x: auto } .map { display: grid; gap: 2px; min-width: 640px; font-size: 12px; color: var(--soft) }
.map i { height: 26px; border-radius: 3px; background: var(--faint); position: relative }
.map i.held::after { content: ""; position: absolute; right: 4px; top: 4px; width: 6px; height: 6px; border-radius: 50%;
  background: var(--warn) }
.map b { font-weight: 500; color: var(--ink); padding-right: 10px; align-self: center; white-space: nowrap }
.days { display: flex; align-items: end; gap: 3px; height: 72px; margin: 18px 0 2px }
.days i { flex: 1; max-width: 42px; min-width: 3px; background: var(--accent); border-radius: 3px 3px 0 0; opacity: .8 }
.scale { position: relative; height: 12px; margin: 14px 0 4px; border-radius: 6px; background: var(--faint) }
.scale i { position: absolute; top: 0; bottom: 0 }
.scale .fine { background: var(--good-ground); border-radius: 6px }
.scale .range { top: 4px; bottom: 4px; background: var(--ink); border-radius: 2px; opacity: .45 }
.scale .bound { width: 2px; margin-left: -1px; top: -5px; bottom: -5px; background: var(--ink) }
.scale .value { width: 14px; height: 14px; margin: -1px 0 0 -7px; border-radius: 50%; background: var(--good);
  border: 2px solid var(--ground); box-sizing: border-box }
.refused .scale .value { background: var(--bad) }
.ends { position: relative; height: 18px; font-size: 12px; color: var(--soft) }
.ends span { position: absolute; transform: translateX(-50%); white-space: nowrap }
.ends span.left { transform: none } .ends span.right { transform: translateX(-100%) }
"""


def heat_map(names: Sequence[str], counts: NDArray[np.int64], marked: NDArray[np.int64]) -> str:
    """Counts (C, 24) of C cameras by the hour of the day; a dot where `marked` (C, 24) is not 0."""
    most = max(1, int(counts.max(initial=0)))
    cells = ["<span></span>", *(f"<span>{hour:02d}</span>" for hour in range(24))]
    for row, name in enumerate(names):
        cells.append(f"<b>{text(name)}</b>")
        for hour in range(24):
            count, held = int(counts[row, hour]), int(marked[row, hour])
            shade = (
                f' style="background: rgba(46, 116, 230, {0.15 + 0.85 * (count / most) ** 0.5:.2f})"' if count else ""
            )
            said = f"{name}, {hour:02d}:00 to {hour:02d}:59 UTC: {count:,} to learn from, {held:,} to judge by"
            cells.append(f'<i{" class=held" if held else ""}{shade} title="{text(said)}"></i>')
    columns = "grid-template-columns: auto repeat(24, minmax(14px, 1fr))"
    return f'<div class="scroll"><div class="map" style="{columns}">{"".join(cells)}</div></div>'


def columns(counts: Mapping[str, int]) -> str:
    """A column for each name, and the first and last name below."""
    most = max([1, *counts.values()])
    bars = (f'<i style="height: {100 * n / most:.1f}%" title="{text(name)}: {n:,}"></i>' for name, n in counts.items())
    names = list(counts)
    ends = f"{names[0]} to {names[-1]}" if len(names) > 1 else "".join(names)
    return f'<div class="days">{"".join(bars)}</div><p class="small">crops a day, {text(ends)}</p>'


def scale(value: float, interval: Sequence[float] | None, bound: float | None, side: Side) -> str:
    """A value, its interval and its bound on one line, the good side of the bound in another colour."""
    there = [one for one in (value, *(interval or ()), bound) if one is not None and math.isfinite(one)]
    low, high = min(there), max(there)
    room = (high - low or max(abs(high), 1.0) * 0.1) * MARGIN
    low, high = low - room, high + room

    def place(one: float) -> float:
        return min(100.0, max(0.0, 100 * (one - low) / (high - low)))

    marks = []
    if bound is not None and side:
        ends = f"left: {place(bound):.2f}%; right: 0" if side == "least" else f"left: 0; width: {place(bound):.2f}%"
        marks.append(f'<i class="fine" style="{ends}"></i>')
    if interval is not None:
        first, last = place(interval[0]), place(interval[1])
        marks.append(f'<i class="range" style="left: {first:.2f}%; width: {last - first:.2f}%"></i>')
    if bound is not None:
        marks.append(f'<i class="bound" style="left: {place(bound):.2f}%"></i>')
    marks.append(f'<i class="value" style="left: {place(value):.2f}%"></i>')
    words = "" if bound is None else _named(bound, place(bound), side)
    return f'<div class="scale">{"".join(marks)}</div><div class="ends">{words}</div>'


def _named(bound: float, at: float, side: Side) -> str:
    """What the bound says, below it: `at` is its place in percent."""
    edge = "left" if at < 15 else "right" if at > 85 else ""
    words = {"least": "at least ", "most": "at most ", "": "bound "}[side]
    return f'<span class="{edge}" style="left: {at:.2f}%">{words}{bound:.4g}</span>'
