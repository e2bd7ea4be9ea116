"""One row of the faults table: what version 0.1 did, and a way to see what happens now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """`run` does it anew through the real commands or classes, in the empty folder given, in seconds.

    Returns:
        What happens now, in one sentence with its numbers, and whether the fault is mended.
    """

    fault: str  # section and number, as "A1"
    title: str
    before: str  # what version 0.1.0 did, with its numbers
    run: Callable[[Path], tuple[str, bool]]
