"""Looks at passages that are not over, or of which the association has not spoken: in memory, and not for ever."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from edge_app.collection.pixels import Look
from edge_app.contract.crop import Verdict
from edge_app.types import Tracklet

MOST_LOOKS = 64  # of one passage; later ones are left out


@dataclass(slots=True)
class Held:
    """One passage. `tracklet` is None while it lasts."""

    looks: list[Look] = field(default_factory=list)
    tracklet: Tracklet | None = None
    over_s: float = 0.0  # when the tracklet came, monotonic


@dataclass(frozen=True, slots=True)
class Passage:
    """One that is over, with what is known of it."""

    tracklet: Tracklet
    looks: list[Look]
    verdict: Verdict


class Hold:
    """`add` looks, `close` what is over, `decide` with a verdict. `overdue` and `crowded` end what takes too long or
    too much: what is over is let go as undecided, what is not is lost."""

    def __init__(self, hold_s: float, hold_bytes: int) -> None:
        self._hold_s, self._hold_bytes = hold_s, hold_bytes
        self._held: dict[str, Held] = {}  # by track, the oldest first
        self._bytes = 0
        self.looks = 0  # in all of them

    def add(self, track: str, look: Look) -> bool:
        """False when there is no room for one more of this passage."""
        held = self._held.setdefault(track, Held())
        if len(held.looks) >= MOST_LOOKS:
            return False
        held.looks.append(look)
        self.looks += 1
        self._bytes += len(look.jpeg)
        return True

    def close(self, tracklet: Tracklet, now_s: float) -> None:
        """The passage is over; nothing where no look of it is held."""
        held = self._held.get(tracklet.id)
        if held is not None:
            held.tracklet, held.over_s = tracklet, now_s

    def decide(self, track: str, verdict: Verdict) -> Passage | None:
        """What is held of a passage that is over; None when nothing is."""
        held = self._held.get(track)
        if held is None or held.tracklet is None:
            return None
        self._drop(track)
        return Passage(held.tracklet, held.looks, verdict)

    def noise(self, still_open: Collection[str]) -> int:
        """Tracks that ended without a passage, too short to be one, are forgotten; how many looks that were."""
        ended = [track for track, held in self._held.items() if held.tracklet is None and track not in still_open]
        return sum(len(self._drop(track).looks) for track in ended)

    def overdue(self, now_s: float) -> Iterator[Passage]:
        """Passages that are over and have waited for too long."""
        for track, held in list(self._held.items()):
            if held.tracklet is not None and now_s - held.over_s > self._hold_s:
                yield from self._undecided(track)

    def crowded(self) -> Iterator[Passage | int]:
        """When memory is short: passages that are over, the oldest first; then the number of looks lost of others."""
        return self._let_go(self._hold_bytes)

    def end(self) -> Iterator[Passage | int]:
        """Everything, in the same way."""
        return self._let_go(-1)

    def _let_go(self, until_bytes: int) -> Iterator[Passage | int]:
        for track in sorted(self._held, key=lambda track: self._held[track].tracklet is None):
            if self._bytes <= until_bytes:
                return
            if self._held[track].tracklet is None:
                yield len(self._drop(track).looks)
            else:
                yield from self._undecided(track)

    def _undecided(self, track: str) -> Iterator[Passage]:
        held = self._drop(track)
        if held.tracklet is not None:
            yield Passage(held.tracklet, held.looks, Verdict(state="undecided"))

    def _drop(self, track: str) -> Held:
        held = self._held.pop(track)
        self.looks -= len(held.looks)
        self._bytes -= sum(len(look.jpeg) for look in held.looks)
        return held
