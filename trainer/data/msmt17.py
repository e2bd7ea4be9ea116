"""MSMT17, first release (train/, test/) and second, with masked faces (mask_train_v2/, mask_test_v2/).

    list_train.txt list_val.txt list_query.txt list_gallery.txt      lines `0000/0000_000_01_0303morning_0015_0.jpg 0`
    the third field of a name is the camera, the fourth date and time of day

Training uses list_train and list_val together (32,621 pictures), as the published unsupervised results do. The hour
of the day is not a time in seconds, so the times stay unknown.
"""

from __future__ import annotations

from pathlib import Path

from trainer.data.lists import read_pairs
from trainer.data.naming import numbers_of
from trainer.data.records import Dataset, FixedTest, Row, crops_of, labelled_of
from trainer.errors import DataError

RELEASES = (("mask_train_v2", "mask_test_v2"), ("train", "test"))


def read(root: Path) -> Dataset:
    """The data set below `root`; `DataError` when a folder or list is missing or a name does not follow the layout."""
    for train, test in RELEASES:
        if (root / train).is_dir() and (root / test).is_dir():
            break
    else:
        raise DataError(f"{root}: expected the folders {' or '.join(' and '.join(pair) for pair in RELEASES)}")
    lists = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
    pairs = [[(root / file, *pair) for pair in read_pairs(root / file)] for file in lists]
    cameras = numbers_of(_camera(file, name) for part in pairs for file, name, _ in part)
    training, validation, query, gallery = (
        [Row(root / folder / name, identity, cameras[_camera(file, name)]) for file, name, identity in part]
        for part, folder in zip(pairs, (train, train, test, test), strict=True)
    )
    fixed = FixedTest(labelled_of(query), labelled_of(gallery))
    return Dataset(root.name, crops_of(training + validation), fixed, tuple(cameras))


def _camera(file: Path, name: str) -> str:
    fields = Path(name).name.split("_")
    if len(fields) < 3 or not fields[2].isdecimal():
        raise DataError(f"{file}: {name}: expected a name like 0000/0000_000_01_0303morning_0015_0.jpg")
    return fields[2]
