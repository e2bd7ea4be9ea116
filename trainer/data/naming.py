"""Cameras, tracklets and identities have names; what computes with them has numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable

UNKNOWN = -1


def numbers_of(names: Iterable[str]) -> dict[str, int]:
    """0, 1, … for the different names in natural order, so that camera 10 comes after camera 2. An empty name is
    unknown and has no number: look names up with `numbers.get(name, UNKNOWN)`."""
    return {name: number for number, name in enumerate(sorted({name for name in names if name}, key=_natural))}


def _natural(name: str) -> list[tuple[bool, int, str]]:
    parts = [part for part in re.split(r"([0-9]+)", name) if part]
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
