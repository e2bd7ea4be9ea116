"""What the gate judges on: passages of held-out hours that no training ever saw, as two models see them. Pure.

Whole hours: of passages drawn one by one hardly any has its continuation, or anybody to compare, among the controls. Of
140 hours with 60 vehicles each, one passage in ten (1,914) leaves 5 exits that can be compared, one hour in ten (1,833
passages) 349: `python tests/benchmarks/gate.py --drawn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.similarity import Track, debiased
from trainer.errors import DataError

Floats = NDArray[np.float32]
Model = Literal["old", "new"]
UNIT = 1e-3  # a row's length may be off by so much


@dataclass(frozen=True, slots=True)
class Way:
    """A link of the site: whoever leaves `from_camera` may enter `to_camera` so many seconds later."""

    from_camera: str
    to_camera: str
    min_s: float
    max_s: float

    def __post_init__(self) -> None:
        if not 0 < self.min_s < self.max_s:
            raise DataError(
                f"the link {self.from_camera} → {self.to_camera} takes {self.min_s:g} to {self.max_s:g} s; "
                "expected 0 < min_s < max_s: mend the site's links"
            )


@dataclass(frozen=True, slots=True)
class Control:
    """One passage with n crops. Both models saw the same crops; their dimensions may differ."""

    id: str
    camera: str
    class_name: str
    entered_at_s: float
    left_at_s: float
    times_s: NDArray[np.float64]  # (n,) capture times of the crops, in any order
    old: Floats  # (n, D) float32, unit rows by the model in force
    new: Floats  # (n, D') float32, unit rows by the model that is judged

    def __post_init__(self) -> None:
        if self.entered_at_s > self.left_at_s:
            raise DataError(f"control {self.id} leaves before it enters")
        for name, rows in (("old", self.old), ("new", self.new)):
            if rows.ndim != 2 or len(rows) != len(self.times_s):
                raise DataError(f"control {self.id}: {name} has shape {rows.shape}, expected ({len(self.times_s)}, D)")
            with np.errstate(over="ignore", invalid="ignore"):
                lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
            if not (np.abs(lengths - 1) < UNIT).all():
                raise DataError(
                    f"control {self.id}: {name} has rows that are not of unit length; leave out crops that the "
                    "network can make nothing of"
                )


def tracks_of(controls: Sequence[Control], model: Model) -> list[Track]:
    """The passages as one model sees them, as an average camera would have: rows in order of time. In the same order
    as `controls`. Raises `DataError` where the rows are of two models."""
    if len(widths := {getattr(one, model).shape[1] for one in controls if len(one.times_s)}) > 1:
        raise DataError(f"the {model} rows have {sorted(widths)} dimensions; expected those of one model")
    found = []
    for control in controls:
        rows: Floats = getattr(control, model)[np.argsort(control.times_s, kind="stable")]
        found.append(Track(control.camera, control.entered_at_s, control.left_at_s, rows.astype(np.float32)))
    return debiased(found)


def passage_means(controls: Sequence[Control], model: Model) -> NDArray[np.float64]:
    """(N, D) float64: the mean row of every control that has crops, of any length up to one. One passage, one vote."""
    return np.array([getattr(control, model).mean(0) for control in controls if len(control.times_s)], np.float64)


def unit_of(time_s: float, unit_s: float) -> int:
    """The held-out hour, or what stands for it, that a time belongs to."""
    return int(time_s // unit_s)


def periods(controls: Sequence[Control], unit_s: float) -> list[tuple[float, float]]:
    """Runs of units without a gap in which somebody entered, from begin to end."""
    units = sorted({unit_of(control.entered_at_s, unit_s) for control in controls})
    breaks = [0, *(i for i in range(1, len(units)) if units[i] != units[i - 1] + 1), len(units)]
    return [(units[first] * unit_s, (units[last - 1] + 1) * unit_s) for first, last in pairwise(breaks) if first < last]
