"""Which reader reads what: by name, or by what lies in the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainer.data import folder, market1501, msmt17, vehicleid, veri776, veriwild
from trainer.data.records import Dataset
from trainer.errors import ConfigurationError, DataError, shown

READERS: dict[str, Callable[[Path], Dataset]] = {
    "market1501": market1501.read,
    "dukemtmc": market1501.read,
    "msmt17": msmt17.read,
    "veri776": veri776.read,
    "vehicleid": vehicleid.read,
    "veriwild": veriwild.read,
    "folder": folder.read_folder,
    "table": folder.read_table,
}
# The first layout whose file or folder is there is meant.
MARKS = (
    ("bounding_box_train", "market1501"),
    ("image_train", "veri776"),
    ("list_train.txt", "msmt17"),
    ("train_test_split/vehicle_info.txt", "veriwild"),
    ("train_test_split/train_list.txt", "vehicleid"),
)


def read(root: Path, layout: str | None = None, pattern: str | None = None) -> Dataset:
    """The data set at `root`, by default of the layout that its files show. A `pattern` reads the names of a plain
    folder, see `trainer.data.folder`; `ConfigurationError` with any other layout."""
    if layout is not None and layout not in READERS:
        raise ConfigurationError([f"layout {layout!r}, expected one of {', '.join(READERS)}"])
    if not root.exists():
        raise DataError(f"{shown(root)}: no such file or folder")
    layout = layout or recognise(root)
    if pattern is None:
        return READERS[layout](root)
    if layout != "folder":
        problem = f"a pattern reads the names of a plain folder, but {shown(root)} has the layout {layout}"
        raise ConfigurationError([f"{problem}: leave the pattern out"])
    return folder.read_folder(root, pattern)


def recognise(root: Path) -> str:
    """The layout of a folder or file."""
    if root.is_file():
        return "table"
    return next((layout for mark, layout in MARKS if (root / mark).exists()), "folder")
