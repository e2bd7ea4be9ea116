"""VERI-Wild: 174 cameras, one month.

    images/00001/000001.jpg
    train_test_split/vehicle_info.txt      a heading, then lines `00001/000001;121;2018-03-11 07:50:48;model;type;color`
    train_test_split/train_list.txt test_3000_query.txt test_3000.txt …      lines `00001/000001.jpg`: identity, picture

The file has no time zone; times are taken as UTC, so differences are right and the hour of the day may be shifted.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from trainer.data.lists import read_lines
from trainer.data.naming import UNKNOWN, numbers_of
from trainer.data.records import Dataset, FixedTest, Row, crops_of, labelled_of
from trainer.errors import DataError

TEST_SIZES = (3000, 5000, 10000)


def read(root: Path, test_size: int = 3000) -> Dataset:
    """The data set below `root` with the test lists of `test_size` identities; `DataError` when a list is missing."""
    if test_size not in TEST_SIZES:
        raise DataError(f"VERI-Wild has test lists of {', '.join(map(str, TEST_SIZES))} identities, not {test_size}")
    lists, images = root / "train_test_split", root / "images"
    facts = _facts(lists / "vehicle_info.txt")
    cameras = numbers_of(camera for camera, _ in facts.values())
    files = ("train_list.txt", f"test_{test_size}_query.txt", f"test_{test_size}.txt")
    train, query, gallery = (_rows(lists / file, images, facts, cameras) for file in files)
    test = FixedTest(labelled_of(query), labelled_of(gallery))
    return Dataset(root.name, crops_of(train), test, tuple(cameras))


def _facts(file: Path) -> dict[str, tuple[str, float]]:
    """Camera and time of every picture, by its name without suffix."""
    facts = {}
    for number, line in enumerate(read_lines(file)[1:], start=2):
        try:
            name, camera, time, *_ = line.split(";")
            captured = datetime.strptime(time.strip(), "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
            facts[name.strip()] = (camera.strip(), captured.timestamp())
        except ValueError as error:
            raise DataError(f"{file}, line {number}: expected `picture;camera;time;…`, got {line!r}") from error
    return facts


def _rows(file: Path, folder: Path, facts: dict[str, tuple[str, float]], cameras: dict[str, int]) -> list[Row]:
    rows = []
    for line in read_lines(file):
        name = line.split()[0].removesuffix(".jpg")
        identity = name.split("/")[0]
        if name not in facts or not identity.isdigit():
            raise DataError(f"{file}: {line}: expected `identity/picture.jpg` with an entry in vehicle_info.txt")
        camera, time_s = facts[name]
        rows.append(Row(folder / f"{name}.jpg", int(identity), cameras.get(camera, UNKNOWN), time_s))
    return rows
