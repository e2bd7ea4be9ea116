"""Times that a model of the site was ever trained on: no held-out hour that meets one judges again.

    own/trained.json    spans of seconds since the epoch, of this workstation and of what others have told

Which hours are held out follows from the site's file. Whoever lowers `keep.held_out`, or changes `keep.held_out_s`, has
hours trained on that were held out before; when it is raised again, they would judge a model that knows them. So what
a round trains on is written down before it does. A span is dropped when all crops of its time are past their days.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.adapt import rounds
from trainer.errors import DataError

FILE, FORMAT = "trained.json", "crosslane-trained/1"
Spans = tuple[tuple[float, float], ...]  # begin and end, seconds since the epoch


def merged(spans: Iterable[tuple[float, float]]) -> Spans:
    """In their order, none touching the next. O(N log N)."""
    found: list[tuple[float, float]] = []
    for begin_s, end_s in sorted((begin_s, end_s) for begin_s, end_s in spans):
        if found and begin_s <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end_s)
        else:
            found.append((begin_s, end_s))
    return tuple(found)


def met(begin_s: NDArray[np.float64], end_s: NDArray[np.float64], spans: Spans) -> NDArray[np.bool_]:
    """(N,) whether any of these merged spans has more than an end in common with each of (N,) times."""
    begins, ends = np.array(spans, np.float64).reshape(-1, 2).T
    place = np.searchsorted(ends, begin_s, "right")
    return np.append(begins, np.inf)[place] < end_s


def read(own: Path) -> Spans:
    """None before the first training. Raises `DataError` for what is none: nothing may be judged without it."""
    path = own / FILE
    if not path.exists():
        return ()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = merged((float(begin_s), float(end_s)) for begin_s, end_s in content["spans"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error}; put it back, or set the folder aside to begin anew") from None
    if content.get("format") != FORMAT:
        raise DataError(f"{path}: expected {FORMAT}, found {content.get('format')}; update this program")
    return found


def add(own: Path, new: Iterable[tuple[float, float]], before_s: float = -math.inf) -> None:
    """Some more, and none that end before that. May be done again. Raises as `read`, and `WorldError`."""
    before = read(own)
    after = tuple(span for span in merged((*before, *new)) if span[1] >= before_s)
    if after != before:
        rounds.write_json(own / FILE, {"format": FORMAT, "spans": after})
