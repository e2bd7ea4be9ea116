"""What somebody asks to be forgotten: one question and one receipt for `edge-app forget` and `trainer forget`.

selection_of(identity, camera, since, until) -> Selection      as it stands on a command line
Selection.met(camera, first_s, last_s) -> bool                 was this seen there and then?
same_vehicle(passages, links) -> frozenset[str]                passages, and those that continue them
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from edge_app.contract.crop import CropRecord
from edge_app.contract.envelope import rfc3339
from edge_app.contract.errors import SelectionError


@dataclass(frozen=True)
class Selection:
    """What is to be forgotten: an identity, by its global id or the id of one of its passages; or what a camera, or all
    of them, saw in a time."""

    identity: str | None = None
    camera: str | None = None
    since_s: float = -math.inf  # capture times
    until_s: float = math.inf

    def met(self, camera: str, first_s: float, last_s: float) -> bool:
        """Was this seen there and then? Of an identity that is another question."""
        return (
            self.identity is None
            and self.camera in (None, camera)
            and first_s <= self.until_s
            and last_s >= self.since_s
        )

    def told(self) -> dict[str, Any]:
        """As a receipt says it."""
        times = {"since": self.since_s, "until": self.until_s}
        told: dict[str, Any] = {"identity": self.identity, "camera": self.camera}
        return told | {name: rfc3339(at_s) if math.isfinite(at_s) else None for name, at_s in times.items()}


def selection_of(identity: str | None, camera: str | None, since: str | None, until: str | None) -> Selection:
    """As it is asked for on a command line. Raises `SelectionError`, with every mistake."""
    problems, times = [], {"since": -math.inf, "until": math.inf}
    for name, text in (("since", since), ("until", until)):
        try:
            if text is not None:
                times[name] = TypeAdapter(AwareDatetime).validate_python(text).timestamp()
        except ValidationError:
            problems.append(f"--{name} {text}: expected a time with its zone, as 2026-01-31T12:00:00Z")
    if identity is None and camera is None and since is None and until is None:
        problems.append("expected --identity, or --camera, --since and --until or some of them")
    if identity is not None and (camera, since, until) != (None, None, None):
        problems.append("--identity stands alone: an identity is forgotten on all cameras and for all times")
    if times["since"] > times["until"]:
        problems.append(f"--since {since} is later than --until {until}")
    if problems:
        raise SelectionError(problems)
    return Selection(identity, camera, times["since"], times["until"])


def continued(record: CropRecord) -> str | None:
    """The passage that the crop's passage continues, as far as the association said when it was kept."""
    verdict = record.verdict
    return verdict.passage if verdict is not None and verdict.state == "matched" else None


def same_vehicle(passages: Iterable[str], links: Iterable[tuple[str, str]]) -> frozenset[str]:
    """These passages, and those that continue one of them, or that one of them continues, and so on. `links`: a passage
    and the one that it continues."""
    beside: dict[str, set[str]] = {}
    for one, other in links:
        beside.setdefault(one, set()).add(other)
        beside.setdefault(other, set()).add(one)
    found = set(passages)
    new = list(found)
    while new:
        more = beside.get(new.pop(), set()) - found
        found |= more
        new += more
    return frozenset(found)
