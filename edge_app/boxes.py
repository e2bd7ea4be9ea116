"""Boxes in a file: of another detector, of public tracks, or the truth: JSON lines, or rows as of MOTChallenge.

    {"camera": "gate", "frame": 0, "box": [x1, y1, x2, y2], "score": 0.9, "class": "car", "id": 7}      frames from 0
    frame,id,left,top,width,height,score,class                                                          frames from 1

Boxes are in pixels of the picture as it is seen. Of a JSON line `score` (1), `class` (`object`) and `id` (none) may be
left out; so may the last columns of a row, and -1 there says nothing. Rows name no camera: for several, write
`{camera}` into the file's name. Rows that begin with a frame 0 count from 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.yaml import plain
from edge_app.errors import ConfigurationError
from edge_app.types import PERSON, Floats, Integers

CAMERA = "{camera}"
NAMELESS = "object"  # the class of a box that has none
NO_ID = -1
MOST_PROBLEMS = 10
LONGEST_NAME = 64
LARGEST = 1e9  # of any number
# "MOT16: A Benchmark for Multi-Object Tracking", Milan et al. 2016, table 4. From 8 on nothing that is looked for.
MOT_CLASSES = {1: PERSON, 2: PERSON, 3: "car", 4: "bicycle", 5: "motorcycle", 6: "non-motorised", 7: PERSON}


class _Row(NamedTuple):
    frame: int  # from 0
    box: tuple[float, ...]  # x1, y1, x2, y2
    score: float
    class_name: str
    id: int


@dataclass(frozen=True, slots=True)
class Boxes:
    """The N boxes of one camera, by frame."""

    frames: Integers  # (N,) int64, ascending, from 0
    boxes: Floats  # (N, 4) float32, xyxy pixels
    scores: Floats  # (N,) float32 in [0, 1]
    class_names: tuple[str, ...]  # C names, sorted
    classes: Integers  # (N,) int64, index into `class_names`
    ids: Integers  # (N,) int64, NO_ID where none is given

    def __len__(self) -> int:
        return len(self.frames)

    def of(self, frame: int) -> slice:
        """The rows of a frame; O(log N)."""
        first, last = np.searchsorted(self.frames, [frame, frame + 1])
        return slice(int(first), int(last))


def common_area(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """(…, 4), (…, 4), broadcast against each other → (…) the area that lies in both boxes."""
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    return np.asarray(np.prod(np.maximum(sides, 0), axis=-1))


def intersection_over_union(first: Floats, second: Floats) -> Floats:
    """(N, 4), (M, 4) → (N, M) float32."""
    common = common_area(first[:, None], second[None])
    areas = (first[:, 2:] - first[:, :2]).prod(1)[:, None] + (second[:, 2:] - second[:, :2]).prod(1)[None]
    overlaps: Floats = (common / np.maximum(areas - common, 1e-9)).astype(np.float32)
    return overlaps


def read_boxes(path: Path, cameras: Sequence[str], names: Sequence[str] = ()) -> dict[str, Boxes]:
    """Camera → its boxes, of `cameras` only; one without any has none. `names` of the classes that rows give as
    numbers, from 1; MOTChallenge's where there are none. O(N log N) time for N boxes, some 60 bytes each.

    Raises `ConfigurationError` with everything that cannot be read, each with its line.
    """
    problems: list[str] = []
    rows: dict[str, list[_Row]] = {}
    if CAMERA in str(path):
        for camera in cameras:
            rows |= _read(Path(str(path).replace(CAMERA, camera)), [camera], names, problems)
    else:
        rows = _read(path, cameras, names, problems)
    if not problems and not any(rows.values()):
        problems.append(f"{path}: no boxes of {', '.join(cameras[:5])}: are the cameras called so there?")
    if problems:
        raise ConfigurationError(problems, "boxes from a file")
    return {camera: _together(rows[camera]) for camera in cameras}


class _LineError(ValueError):
    """What is wrong with a line: expected, and what came."""


def _read(path: Path, cameras: Sequence[str], names: Sequence[str], problems: list[str]) -> dict[str, list[_Row]]:
    """Camera → its rows in the order of the file; what cannot be read goes to `problems`."""
    found: dict[str, list[_Row]] = {camera: [] for camera in cameras}
    bad = count = 0
    is_json: bool | None = None
    try:
        with path.open(encoding="utf-8-sig") as file:
            for count, line in enumerate(file, 1):
                if not line.strip():
                    continue
                if is_json is None:
                    is_json = line.lstrip().startswith("{")
                    if not is_json and len(cameras) != 1:
                        problems.append(
                            f"{path}: rows name no camera, and there are {len(cameras)}: write {CAMERA} where the "
                            f"files' names have the camera's, as in boxes/{CAMERA}.txt"
                        )
                        return found
                try:
                    camera, row = _of_json(line) if is_json else (cameras[0], _of_row(line, names))
                except _LineError as error:
                    bad += 1
                    if bad <= MOST_PROBLEMS:
                        problems.append(f"{path}, line {count}: {error}")
                    continue
                if camera in found and row is not None:
                    found[camera].append(row)
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror or error}")
    except UnicodeDecodeError:
        problems.append(f"{path}: expected text, JSON lines or rows of numbers; it is none")
    if bad > MOST_PROBLEMS:
        problems.append(f"{path}: {bad:,} of {count:,} lines are wrong")
    if is_json is False:
        rows = found[cameras[0]]
        first = min(min((row.frame for row in rows), default=1), 1)
        found[cameras[0]] = [row._replace(frame=row.frame - first) for row in rows]
    return found


def _of_json(line: str) -> tuple[str, _Row]:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        raise _LineError(f"no JSON: {plain(line.strip())}") from None
    if not isinstance(raw, dict):
        raise _LineError(f"expected an object, {{…}}: {plain(line.strip())}")
    if unknown := sorted(set(raw) - {"camera", "frame", "box", "score", "class", "id"}):
        raise _LineError(f"unknown key {plain(unknown[0])}; known are camera, frame, box, score, class, id")
    camera, box, name = raw.get("camera"), raw.get("box"), raw.get("class", NAMELESS)
    if not isinstance(camera, str):
        raise _LineError(f"expected the name of a camera, got {plain(camera)}")
    if not (isinstance(box, list) and len(box) == 4):
        raise _LineError(f"expected a box [x1, y1, x2, y2], got {plain(box)}")
    if not (isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable()):
        raise _LineError(f"expected the name of a class, 1 to {LONGEST_NAME} characters, got {plain(name)}")
    corners = tuple(_number(value, "a corner of the box") for value in box)
    identity = NO_ID if raw.get("id") is None else _whole(raw["id"], "an id")
    row = _Row(_whole(raw.get("frame"), "a frame"), corners, _number(raw.get("score", 1.0), "a score"), name, identity)
    return camera, _checked(row)


def _of_row(line: str, names: Sequence[str]) -> _Row | None:
    """None for what MOTChallenge lists to be left out: a score of 0, an occluder or a reflection."""
    cells = line.replace(",", " ").split()
    if not 6 <= len(cells) <= 10:
        raise _LineError(f"expected 6 to 10 numbers, frame,id,left,top,width,height,score,class, got {len(cells)}")
    left, top, width, height = (_number(cell, "a number of pixels") for cell in cells[2:6])
    score = _number(cells[6], "a score") if len(cells) > 6 else -1.0
    kind = _whole(cells[7], "a class") if 8 <= len(cells) <= 9 else -1  # of ten columns the last are a place
    row = _Row(
        _whole(cells[0], "a frame"),
        (left, top, left + width, top + height),
        1.0 if score == -1 else score,
        _class_of(kind, names),
        _whole(cells[1], "an id"),
    )
    left_out = score == 0 or (not names and kind > max(MOT_CLASSES))
    return None if left_out else _checked(row)


def _class_of(kind: int, names: Sequence[str]) -> str:
    if kind < 0:
        return NAMELESS
    if not names:
        return MOT_CLASSES.get(kind, NAMELESS)
    if not 1 <= kind <= len(names):
        raise _LineError(f"expected a class from 1 to {len(names)}, the names that are given, got {kind}")
    return names[kind - 1]


def _checked(row: _Row) -> _Row:
    left, top, right, bottom = row.box
    if not (left < right and top < bottom):
        raise _LineError(f"the box has no size: {left:g}, {top:g} to {right:g}, {bottom:g}")
    if not 0 <= row.score <= 1:
        raise _LineError(f"expected a score from 0 to 1, got {row.score:g}")
    if row.frame < 0:
        raise _LineError(f"expected a frame from 0, got {row.frame}")
    return row


def _number(value: Any, what: str) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= LARGEST:
        raise _LineError(f"expected {what}, got {plain(value)}")
    return number


def _whole(value: Any, what: str) -> int:
    number = _number(value, what)
    if number != int(number):
        raise _LineError(f"expected {what}, a whole number, got {plain(value)}")
    return int(number)


def _together(rows: list[_Row]) -> Boxes:
    rows = sorted(rows, key=lambda row: row.frame)  # stable: within a frame as in the file
    names = sorted({row.class_name for row in rows})
    number = {name: index for index, name in enumerate(names)}
    return Boxes(
        np.array([row.frame for row in rows], np.int64),
        np.array([row.box for row in rows], np.float32).reshape(-1, 4),
        np.array([row.score for row in rows], np.float32),
        tuple(names),
        np.array([number[row.class_name] for row in rows], np.int64),
        np.array([row.id for row in rows], np.int64),
    )
