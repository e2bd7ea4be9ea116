"""The list files that some data sets are split by: one picture per line, with or without a number behind it."""

from __future__ import annotations

from pathlib import Path

from trainer.errors import DataError


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank; `DataError` when it is missing, unreadable or empty."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"{path}: the list is empty")
    return lines


def read_pairs(path: Path) -> list[tuple[str, int]]:
    """Lines `name number`; `DataError` naming the first line that is not."""
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        name, _, value = line.rpartition(" ")
        if not name or not value.lstrip("-").isdigit():
            raise DataError(f"{path}, line {number}: expected a name and a number, got {line!r}")
        pairs.append((name.strip(), int(value)))
    return pairs
