"""What a data set is to the trainer, in types that keep identities away from training.

`Crops` is all that training, clustering and extraction ever get: it has no field for an identity, and nothing here
leads from a `Crops` to one. `Labelled` adds identities and is accepted by evaluation only. Readers put their training
pictures into a `Crops`, whatever the data set's file names say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError
from trainer.metrics.retrieval import Truth


@dataclass(frozen=True, slots=True)
class Crops:
    """N pictures and what is known about each without looking at who is on it."""

    paths: tuple[Path, ...]
    cameras: NDArray[np.int64]  # (N,) int64, −1 = unknown
    times_s: NDArray[np.float64]  # (N,) float64, capture time, seconds since the epoch; nan = unknown
    tracklets: NDArray[np.int64]  # (N,) int64, crops of one track of one camera share a number; −1 = unknown

    def __post_init__(self) -> None:
        for name in ("cameras", "times_s", "tracklets"):
            if getattr(self, name).shape != (len(self.paths),):
                raise DataError(f"Crops.{name} has shape {getattr(self, name).shape}, expected ({len(self.paths)},)")

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: NDArray[Any]) -> Crops:
        """The crops of a boolean mask (N,) or of row numbers."""
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        paths = tuple(self.paths[row] for row in rows)
        return Crops(paths, self.cameras[rows], self.times_s[rows], self.tracklets[rows])


@dataclass(frozen=True, slots=True)
class Labelled:
    """Crops with identities. For measuring only."""

    crops: Crops
    identities: NDArray[np.int64]  # (N,) int64

    def __post_init__(self) -> None:
        if self.identities.shape != (len(self.crops),):
            raise DataError(f"Labelled.identities has shape {self.identities.shape}, expected ({len(self.crops)},)")

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def truth(self) -> Truth:
        return Truth(self.identities, self.crops.cameras)

    def take(self, rows: NDArray[Any]) -> Labelled:
        return Labelled(self.crops.take(rows), self.identities[rows])


@dataclass(frozen=True, slots=True)
class FixedTest:
    """Queries and gallery are given (Market protocol)."""

    query: Labelled
    gallery: Labelled


@dataclass(frozen=True, slots=True)
class RandomTest:
    """Queries and gallery are drawn: one random crop of each identity is the gallery (VehicleID protocol)."""

    crops: Labelled


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set as its reader found it. `train` may be empty, `test` may be missing, not both."""

    name: str
    train: Crops
    test: FixedTest | RandomTest | None
    camera_names: tuple[str, ...] = ()  # of camera 0, 1, …, as the data set calls them; empty where it has none
    left_out: tuple[str, ...] = ()  # what the reader did not take, and why, one line each

    def __post_init__(self) -> None:
        if not len(self.train) and self.test is None:
            raise DataError(f"{self.name}: neither training nor test pictures were found")


def spread(count: int, limit: int) -> NDArray[np.int64]:
    """At most `limit` of the rows 0 … count − 1, evenly spread, ascending."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Row:
    """One picture as a reader sees it, before it becomes a `Crops` or a `Labelled`."""

    path: Path
    identity: int = -1
    camera: int = -1
    time_s: float = float("nan")
    tracklet: int = -1


def crops_of(rows: Sequence[Row]) -> Crops:
    """The rows in order of their paths, without their identities."""
    return _crops(sorted(rows, key=lambda row: row.path))


def labelled_of(rows: Sequence[Row]) -> Labelled:
    """The rows in order of their paths, with their identities."""
    rows = sorted(rows, key=lambda row: row.path)
    return Labelled(_crops(rows), np.array([row.identity for row in rows], np.int64))


def _crops(rows: Sequence[Row]) -> Crops:
    return Crops(
        paths=tuple(row.path for row in rows),
        cameras=np.array([row.camera for row in rows], np.int64),
        times_s=np.array([row.time_s for row in rows], np.float64),
        tracklets=np.array([row.tracklet for row in rows], np.int64),
    )
