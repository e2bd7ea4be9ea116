"""Files for the node's own user: 0600 in folders of 0700, whatever the umask. Networks tell what a site looks like."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from edge_app.contract.whole import whole

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def make_folder(path: Path) -> None:
    """Make it and what is missing above it. A folder that is there already keeps its rights: others may use it too."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        each.chmod(FOLDER_MODE)
    if not path.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(path))


def open_file(path: Path) -> BinaryIO:
    """Open for writing from the beginning."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    os.fchmod(handle, FILE_MODE)  # one that was there before, or a strange umask
    return os.fdopen(handle, "wb")


def write_file(path: Path, content: bytes) -> None:
    """Whole or not at all, and on the disk when this returns. Raises `OSError`."""
    with whole(path, FILE_MODE) as file:
        file.write(content)


def tighten(folder: Path) -> None:
    """The rights of a folder of ours and of the files in it, as an earlier release may have left them."""
    for path in (folder, *folder.iterdir()):
        wanted = FOLDER_MODE if path.is_dir() else FILE_MODE
        if path.stat().st_mode & 0o777 != wanted:
            path.chmod(wanted)
