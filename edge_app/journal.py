"""What was concluded, on its way to disk and broker: facts become messages, written with the state behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_app.associate.facts import Fact
from edge_app.outgoing import Letterhead, fact_messages
from edge_app.saver import Saver
from edge_app.types import Tracklet

WRITE_EVERY_S = 1.0  # capture time; a crash loses at most so much of the open tracks of a live camera


class Journal:
    """Writes at once when there is something to say or a passage finished, else once per second."""

    def __init__(self, saver: Saver, letterhead: Letterhead, clock: Callable[[], float]) -> None:
        self._saver, self._letterhead, self._clock = saver, letterhead, clock
        self._written_at_s = 0.0

    @property
    def problem(self) -> str | None:
        """Why nothing can be written just now, in words."""
        return self._saver.problem

    def is_due(self, now: float, tracklets: list[Tracklet], facts: list[Fact]) -> bool:
        return bool(tracklets or facts) or not 0 <= now - self._written_at_s < WRITE_EVERY_S

    def write(
        self, now: float, tracklets: list[Tracklet], facts: list[Fact], parts: Mapping[str, bytes | None]
    ) -> None:
        """One transaction. While the disk takes nothing, it is kept in memory and written later; see `Saver`."""
        wall_s = self._clock()
        rows = [self._letterhead.row(message) for message in fact_messages(self._letterhead, facts, wall_s)]
        self._saver.save(parts, rows, wall_s)
        self._written_at_s = now
