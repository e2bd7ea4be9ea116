"""VeRi-776.

    image_train/ image_query/ image_test/      0002_c002_00030600_0.jpg: identity, camera, frame

The queries are a part of image_test; the camera rule of the Market protocol removes each from its own gallery.
"""

from __future__ import annotations

import re
from pathlib import Path

from trainer.data.listing import find_images, reasons_of
from trainer.data.naming import numbers_of
from trainer.data.records import Dataset, FixedTest, Row, crops_of, labelled_of
from trainer.errors import DataError, shown

NAME = re.compile(r"(?P<identity>\d+)_(?P<camera>c\d+)")
PARTS = ("image_train", "image_query", "image_test")


def read(root: Path) -> Dataset:
    """The data set below `root`; `DataError` when a folder is missing or a file name does not follow the layout."""
    named, left_out = [], []
    for name in PARTS:
        found = find_images(root / name)
        named.append([(path, _match(path)) for path in found.pictures])
        left_out += reasons_of(found.passed_over, root)
    cameras = numbers_of(match["camera"] for part in named for _, match in part)
    train, query, gallery = (
        [Row(path, int(match["identity"]), cameras[match["camera"]]) for path, match in part] for part in named
    )
    test = FixedTest(labelled_of(query), labelled_of(gallery))
    return Dataset(root.name, crops_of(train), test, tuple(cameras), tuple(left_out))


def _match(path: Path) -> re.Match[str]:
    match = NAME.match(path.name)
    if not match:
        raise DataError(f"{shown(path)}: expected a name like 0002_c002_00030600_0.jpg (identity, camera)")
    return match
