"""The files between the commands: features.npz and labels.npz.

features.npz: `features (N, D) float32`, and, each optional, `cameras (N,) int64`, `times_s (N,) float64`, `tracklets
(N,) int64`, `identities (N,) int64`, `paths (N,) str`. labels.npz: `labels (N,) int64`, −1 = outlier, and, optional,
`paths (N,) str`.

Files are written beside their place and moved there, so a full disk leaves no half file.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError, WorldError

WHOLE = ("cameras", "tracklets", "identities")  # columns of whole numbers


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Features of N crops and what is known about them. Identities are for measuring; clustering never gets them."""

    features: NDArray[np.float32]  # (N, D) float32
    cameras: NDArray[np.int64] | None = None  # (N,) int64, −1 = unknown
    times_s: NDArray[np.float64] | None = None  # (N,) float64, capture time, seconds since the epoch; nan = unknown
    tracklets: NDArray[np.int64] | None = None  # (N,) int64, −1 = unknown
    identities: NDArray[np.int64] | None = None  # (N,) int64
    paths: NDArray[np.str_] | None = None  # (N,)

    def __post_init__(self) -> None:
        if self.features.ndim != 2:
            raise DataError(f"features have shape {self.features.shape}, expected (N, D)")
        for name in ("cameras", "times_s", "tracklets", "identities", "paths"):
            column = getattr(self, name)
            if column is not None and column.shape != (len(self.features),):
                raise DataError(
                    f"{name} have shape {column.shape}, expected ({len(self.features)},), one per feature row"
                )


def load_features(file: Path) -> FeatureTable:
    """Read features.npz; `DataError` when it is missing, damaged, or not such a file."""
    columns = _load(file)
    if "features" not in columns:
        raise DataError(f"{file}: expected an array `features` (N, D) float32, got {sorted(columns) or 'no arrays'}")
    if columns["features"].dtype.kind != "f":
        raise DataError(f"{file}: features are {columns['features'].dtype}, expected float32")
    for name in WHOLE:
        if name in columns and columns[name].dtype.kind not in "iu":
            raise DataError(f"{file}: {name} are {columns[name].dtype}, expected whole numbers")
    if "times_s" in columns and columns["times_s"].dtype.kind not in "iuf":
        raise DataError(f"{file}: times_s are {columns['times_s'].dtype}, expected seconds since the epoch")
    kinds: dict[str, Any] = {"features": np.float32, "times_s": np.float64, **dict.fromkeys(WHOLE, np.int64)}
    known = {name: columns[name].astype(kind, copy=False) for name, kind in kinds.items() if name in columns}
    return FeatureTable(**known, paths=columns.get("paths"))


def save_features(file: Path, table: FeatureTable) -> None:
    """Write features.npz; `WorldError` when the disk refuses."""
    columns = {each.name: getattr(table, each.name) for each in fields(table)}
    _save(file, {name: column for name, column in columns.items() if column is not None})


def load_labels(file: Path) -> NDArray[np.int64]:
    """Read labels.npz; `DataError` when it is missing, damaged, or not such a file."""
    columns = _load(file)
    if "labels" not in columns or columns["labels"].ndim != 1 or columns["labels"].dtype.kind != "i":
        raise DataError(f"{file}: expected an array `labels` (N,) int64, got {sorted(columns) or 'no arrays'}")
    return columns["labels"].astype(np.int64)


def load_labels_of_paths(file: Path) -> tuple[NDArray[np.int64], list[str]]:
    """Labels (N,) and the paths of their crops; `DataError` also where these are not in the file."""
    labels, paths = load_labels(file), _load(file).get("paths")
    if paths is None or paths.shape != labels.shape:
        raise DataError(f"{file}: expected `paths`, one per label")
    return labels, [str(path) for path in paths]


def save_labels(file: Path, labels: NDArray[np.int64], paths: NDArray[np.str_] | None = None) -> None:
    """Write labels.npz; `WorldError` when the disk refuses."""
    _save(file, {"labels": labels} if paths is None else {"labels": labels, "paths": paths})


def _load(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with file.open("rb") as stream, np.lib.npyio.NpzFile(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such file") from error
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{file}: not an .npz file of plain arrays, or damaged: {error}") from error


def _save(file: Path, columns: dict[str, NDArray[Any]]) -> None:
    beside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **columns)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    except OSError as error:
        raise WorldError(f"{file}: cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
