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

from trainer.data.images import list_images
from trainer.data.records import Dataset, FixedTest, Labelled, Row, crops_of, labelled_of
from trainer.errors import DataError

NAME = re.compile(r"(?P<identity>-?\d+)_c(?P<camera>\d+)(?:s(?P<sequence>\d+)_(?P<frame>\d+))?")
JUNK = -1
FRAMES_PER_S, SEQUENCE_S = 25, 7200.0


def read(root: Path) -> Dataset:
    """The data set below `root`; `DataError` when a folder is missing or a file name does not follow the layout."""
    train, _ = _rows(root / "bounding_box_train")
    query, _ = _rows(root / "query")
    gallery, junk = _rows(root / "bounding_box_test")
    left_out = (f"{junk} junk boxes of the gallery (identity −1)",) if junk else ()
    return Dataset(root.name, crops_of(train), FixedTest(labelled_of(query), labelled_of(gallery)), left_out=left_out)


def labelled_train(root: Path) -> Labelled:
    """The training pictures with identities, to measure how good clusters are. Never for training."""
    return labelled_of(_rows(root / "bounding_box_train")[0])


def _rows(folder: Path) -> tuple[list[Row], int]:
    """The pictures of one folder, and how many junk boxes were left out."""
    rows = []
    for path in list_images(folder):
        match = NAME.match(path.name)
        if not match:
            raise DataError(f"{path}: expected a name like 0002_c1s1_000451_03.jpg (identity, camera)")
        rows.append(Row(path, int(match["identity"]), int(match["camera"]) - 1, _seconds(match)))
    kept = [row for row in rows if row.identity != JUNK]
    return kept, len(rows) - len(kept)


def _seconds(match: re.Match[str]) -> float:
    if match["sequence"] is None:
        return math.nan
    return SEQUENCE_S * int(match["sequence"]) + int(match["frame"]) / FRAMES_PER_S
