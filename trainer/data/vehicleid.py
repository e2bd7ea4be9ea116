"""PKU VehicleID: two views of a road, no camera numbers.

    image/0000001.jpg   train_test_split/train_list.txt test_list_800.txt …      lines `0000001 4523`: picture, identity

Protocol: one random picture of each test identity is the gallery, all others are queries, mean over repetitions.
Codes that give every picture camera 0 and apply the Market rule remove every true match; here the camera is unknown.
"""

from __future__ import annotations

from pathlib import Path

from trainer.data.lists import read_pairs
from trainer.data.records import Dataset, RandomTest, Row, crops_of, labelled_of
from trainer.errors import DataError

TEST_SIZES = (800, 1600, 2400, 3200, 6000, 13164)


def read(root: Path, test_size: int = 800) -> Dataset:
    """The data set below `root` with the test list of `test_size` identities; `DataError` when a list is missing."""
    if test_size not in TEST_SIZES:
        raise DataError(f"VehicleID has test lists of {', '.join(map(str, TEST_SIZES))} identities, not {test_size}")
    lists = root / "train_test_split"
    test = labelled_of(_rows(lists / f"test_list_{test_size}.txt", root / "image"))
    return Dataset(root.name, crops_of(_rows(lists / "train_list.txt", root / "image")), RandomTest(test))


def _rows(file: Path, folder: Path) -> list[Row]:
    return [Row(folder / f"{name}.jpg", identity=identity) for name, identity in read_pairs(file)]
