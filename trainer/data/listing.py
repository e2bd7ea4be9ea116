"""Find the pictures below a folder, and name everything else that lies there: nothing goes missing silently.

Links are followed; a folder that was read already is not read again through a link.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data.images import BadImage
from trainer.errors import DataError, shown

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
NAMES_SHOWN = 3  # of each reason
_NO_SUFFIX = f"not named as a picture that is read ({', '.join(sorted(SUFFIXES))})"


@dataclass(frozen=True, slots=True)
class Found:
    """What lies below a folder, sorted by path."""

    pictures: tuple[Path, ...]
    passed_over: tuple[BadImage, ...]


def list_images(folder: Path) -> list[Path]:
    """All picture files below a folder, sorted; `DataError` when the folder is missing or has none."""
    return list(find_images(folder).pictures)


def find_images(folder: Path) -> Found:
    """`list_images`, and what was passed over."""
    if not folder.is_dir():
        raise DataError(f"{shown(folder)}: no such folder")
    pictures: list[Path] = []
    passed: list[BadImage] = []
    entered: set[tuple[int, int]] = set()

    def refused(error: OSError) -> None:
        passed.append(BadImage(Path(error.filename), f"a folder that cannot be read: {error.strerror}"))

    for name, folders, files in os.walk(folder, onerror=refused, followlinks=True):
        place = Path(name)
        state = place.stat()
        if (state.st_dev, state.st_ino) in entered:
            passed.append(BadImage(place, "a link to a folder that is read already"))
            folders.clear()
            continue
        entered.add((state.st_dev, state.st_ino))
        folders.sort()
        for path in (place / file for file in files):
            if (reason := _unfit(path)) is None:
                pictures.append(path)
            else:
                passed.append(BadImage(path, reason))
    passed.sort(key=lambda one: one.path)
    if not pictures:
        others = "".join(f"\n  {line}" for line in reasons_of(passed, folder))
        raise DataError(f"{shown(folder)}: no pictures below it (looked for {', '.join(sorted(SUFFIXES))}){others}")
    return Found(tuple(sorted(pictures)), tuple(passed))


def reasons_of(passed: Sequence[BadImage], root: Path) -> list[str]:
    """One line for each reason: how many, why, and the first few by name below `root`."""
    by_reason: dict[str, list[Path]] = {}
    for one in passed:
        by_reason.setdefault(one.reason, []).append(one.path)
    return [f"{len(paths)} {reason}: {first_of(paths, root)}" for reason, paths in sorted(by_reason.items())]


def first_of(paths: Sequence[Path], root: Path) -> str:
    """The first few paths, as they stand below `root`, and how many more there are."""
    names = [shown(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths[:NAMES_SHOWN]]
    return ", ".join(names) + f", … and {len(paths) - NAMES_SHOWN} more" * (len(paths) > NAMES_SHOWN)


def _unfit(path: Path) -> str | None:
    """Why a file is passed over; None for a picture."""
    if path.suffix.lower() not in SUFFIXES:
        return _NO_SUFFIX
    if path.is_symlink() and not path.exists():
        return "a link that leads nowhere"
    return None if path.is_file() else "not a file"
