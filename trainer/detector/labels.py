"""YOLO's layout of labelled pictures: what is where, and the boxes of one picture.

    images/a.jpg  labels/a.txt             one line per object: class cx cy w h, as shares of the picture's sides
    images/train  images/val  labels/…     the same in parts
    data.yaml                              path, train, val (folders of pictures), names of the classes

A picture without a label file has no object in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_app.contract import yaml
from edge_app.contract.yaml import YamlError
from trainer.data.listing import list_images
from trainer.errors import DataError
from trainer.metrics.detection import Boxes


@dataclass(frozen=True, slots=True)
class LabelledPictures:
    """Pictures by part; without parts all are in `train`."""

    train: tuple[Path, ...]
    val: tuple[Path, ...]
    names: tuple[str, ...] | None  # of the classes; None where nothing says them


def find(path: Path) -> LabelledPictures | None:
    """The labelled pictures of a data.yaml or of a folder that holds one, or `images` and `labels`; None for anything
    else. `DataError` when a data.yaml cannot be used."""
    if path.suffix in (".yaml", ".yml"):
        return _of_yaml(path)
    if (path / "data.yaml").is_file():
        return _of_yaml(path / "data.yaml")
    if not (path / "images").is_dir() or not (path / "labels").is_dir():
        return None
    train, val = (path / "images" / part for part in ("train", "val"))
    if train.is_dir() and val.is_dir():
        return LabelledPictures(tuple(list_images(train)), tuple(list_images(val)), None)
    return LabelledPictures(tuple(list_images(path / "images")), (), None)


def label_path(picture: Path) -> Path:
    """The label file of a picture: `images` becomes `labels`, the last time it occurs in the path."""
    parts = list(picture.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def class_numbers(found: tuple[str, ...] | None, wanted: tuple[str, ...]) -> NDArray[np.int64] | None:
    """(C,) the detector's number of each class of the data, −1 where it has none; None where they are the same."""
    if found is None:
        return None
    return np.array([wanted.index(name) if name in wanted else -1 for name in found], np.int64)


def read_labels(path: Path, size_px: tuple[int, int], numbers: NDArray[np.int64] | None, classes: int) -> Boxes:
    """The true boxes of a picture of this width and height; those of classes that the detector lacks are left out.
    `DataError` naming the line that is no box."""
    if not path.is_file():
        return Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    rows = [
        _row(line, f"{path}:{number}") for number, line in enumerate(path.read_text().splitlines(), 1) if line.split()
    ]
    table = np.array(rows, np.float64).reshape(-1, 5)
    kinds = table[:, 0].astype(np.int64)
    limit = classes if numbers is None else len(numbers)
    if (wild := kinds[(kinds < 0) | (kinds >= limit)]).size:
        raise DataError(
            f"{path}: class {wild[0]} is none of the {limit} classes; correct the labels or the class names"
        )
    kinds = kinds if numbers is None else numbers[kinds]
    half = table[:, 3:] / 2
    corners = np.concatenate([table[:, 1:3] - half, table[:, 1:3] + half], axis=1)
    boxes = (np.clip(corners, 0, 1) * [*size_px, *size_px]).astype(np.float32)
    known = kinds >= 0
    return Boxes(boxes[known], np.ones(int(known.sum()), np.float32), kinds[known])


def label_text(found: Boxes, size_px: tuple[int, int]) -> str:
    """Boxes in pixels of a picture of this width and height → the text of its label file."""
    shares = found.boxes / np.array([*size_px, *size_px])
    lines = []
    for kind, (x0, y0, x1, y1) in zip(found.classes, shares, strict=True):
        lines.append(f"{kind} {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}\n")
    return "".join(lines)


def _row(line: str, where: str) -> list[float]:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) != 5 or not np.isfinite(values).all():
        raise DataError(f"{where}: expected five numbers, class cx cy w h, got {line[:80]!r}")
    return values


def _of_yaml(path: Path) -> LabelledPictures:
    try:
        given = yaml.read(path)
    except YamlError as error:
        raise DataError(f"{path} cannot be used: {'; '.join(error.problems)}") from None
    if "train" not in given or not isinstance(given.get("names"), dict | list):
        raise DataError(f"{path}: expected the keys path, train, val and names of a YOLO data set")
    root = Path(path.parent, str(given.get("path") or "."))
    names = given["names"]
    if isinstance(names, dict):
        if not all(key.isdecimal() for key in names):
            raise DataError(f"{path}: names must be a list, or names under their numbers from 0 on")
        names = [names[key] for key in sorted(names, key=int)]
    train, val = (_pictures(root, given.get(part), path) for part in ("train", "val"))
    return LabelledPictures(train, val, tuple(str(name) for name in names))


def _pictures(root: Path, folders: Any, where: Path) -> tuple[Path, ...]:
    """Of one folder or of several."""
    listed = folders if isinstance(folders, list) else [folders] if folders else []
    if not all(isinstance(each, str) for each in listed):
        raise DataError(f"{where}: train and val must be folders of pictures, got {folders!r}")
    return tuple(picture for each in listed for picture in list_images(root / each))
