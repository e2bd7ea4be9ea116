"""VeRi-776.

    image_train/ image_query/ image_test/      0002_c002_00030600_0.jpg: identity, camera, frame

The queries are a part of image_test; the camera rule of the Market protocol removes each from its own gallery.
"""

from __future__ import annotations

import re
from pathlib import Path

from trainer.data.images import list_images
from trainer.data.records import Dataset, FixedTest, Row, crops_of, labelled_of
from trainer.errors import DataError

NAME = re.compile(r"(?P<identity>\d+)_c(?P<camera>\d+)")


def read(root: Path) -> Dataset:
    """The data set below `root`; `DataError` when a folder is missing or a file name does not follow the layout."""
    test = FixedTest(labelled_of(_rows(root / "image_query")), labelled_of(_rows(root / "image_test")))
    return Dataset(root.name, crops_of(_rows(root / "image_train")), test)


def _rows(folder: Path) -> list[Row]:
    rows = []
    for path in list_images(folder):
        match = NAME.match(path.name)
        if not match:
            raise DataError(f"{path}: expected a name like 0002_c002_00030600_0.jpg (identity, camera)")
        rows.append(Row(path, identity=int(match["identity"]), camera=int(match["camera"]) - 1))
    return rows
