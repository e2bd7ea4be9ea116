"""Market-1501, and DukeMTMC-reID, which has the same layout.

    bounding_box_train/ query/ bounding_box_test/      0002_c1s1_000451_03.jpg · 0005_c2_f0046985.jpg
                                                       identity, camera, then sequence and frame

Identity −1 marks junk boxes of the gallery: they never enter. Identity 0 marks distractors: they stay, as wrong
entries. Times are those of Market-1501's 25 frames per second, with a slot of two hours for every sequence; the cameras
did not start together, so that only differences between two cameras mean something, and those up to a constant.
DukeMTMC's stay unknown.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from trainer.data.listing import find_images, reasons_of
from trainer.data.naming import numbers_of
from trainer.data.records import Dataset, FixedTest, Labelled, Row, crops_of, labelled_of
from trainer.errors import DataError, shown

NAME = re.compile(r"(?P<identity>-?\d+)_(?P<camera>c\d+)(?:s(?P<sequence>\d+)_(?P<frame>\d+))?")
PARTS = ("bounding_box_train", "query", "bounding_box_test")
JUNK = -1
FRAMES_PER_S, SEQUENCE_S = 25, 7200.0

Named = list[tuple[Path, re.Match[str]]]


def read(root: Path) -> Dataset:
    """The data set below `root`; `DataError` when a folder is missing or a file name does not follow the layout."""
    parts, left_out = [], []
    for name in PARTS:
        found = find_images(root / name)
        parts.append(_named(found.pictures))
        left_out += reasons_of(found.passed_over, root)
    cameras = numbers_of(match["camera"] for named in parts for _, match in named)
    train, query, gallery = (_rows(named, cameras) for named in parts)
    if junk := sum(map(len, parts)) - len(train) - len(query) - len(gallery):
        left_out.append(f"{junk} junk boxes (identity −1)")
    test = FixedTest(labelled_of(query), labelled_of(gallery))
    return Dataset(root.name, crops_of(train), test, tuple(cameras), tuple(left_out))


def labelled_train(root: Path) -> Labelled:
    """The training pictures with identities, to measure how good clusters are. Never for training."""
    named = _named(find_images(root / PARTS[0]).pictures)
    return labelled_of(_rows(named, numbers_of(match["camera"] for _, match in named)))


def _named(pictures: tuple[Path, ...]) -> Named:
    named = []
    for path in pictures:
        match = NAME.match(path.name)
        if not match:
            raise DataError(f"{shown(path)}: expected a name like 0002_c1s1_000451_03.jpg (identity, camera)")
        named.append((path, match))
    return named


def _rows(named: Named, cameras: dict[str, int]) -> list[Row]:
    """The pictures without the junk boxes."""
    rows = [Row(path, int(match["identity"]), cameras[match["camera"]], _seconds(match)) for path, match in named]
    return [row for row in rows if row.identity != JUNK]


def _seconds(match: re.Match[str]) -> float:
    if match["sequence"] is None:
        return math.nan
    return SEQUENCE_S * int(match["sequence"]) + int(match["frame"]) / FRAMES_PER_S
