"""What was concluded, on its way to disk and broker: facts become messages, written with the state behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from edge_app.associate.facts import Fact
from edge_app.delivery.aggregate import Aggregate, Aggregates
from edge_app.delivery.outgoing import Letterhead, fact_messages
from edge_app.store.rows import Row
from edge_app.types import Tracklet

WRITE_EVERY_S = 1.0  # capture time; a crash loses at most so much of the open tracks of a live camera


class Saves(Protocol):
    """Takes one step as a whole, to write it soon; see `Saver`."""

    def save(self, parts: Mapping[str, bytes | None], rows: Sequence[Row]) -> None: ...


class Journal:
    """`note` every tick; `write` when `is_due`: at once when there is something to say, else once per second."""

    def __init__(
        self, saver: Saves, letterhead: Letterhead, aggregates: Aggregates, clock: Callable[[], float]
    ) -> None:
        self._saver, self._letterhead, self._aggregates, self._clock = saver, letterhead, aggregates, clock
        self._facts: list[Fact] = []
        self._news = False
        self._written_at_s = 0.0

    def note(self, now: float, tracklets: list[Tracklet], facts: list[Fact], delivering: Iterable[str]) -> None:
        """One tick's passages and facts, and the cameras that deliver."""
        self._aggregates.update(tracklets, facts, delivering, now)
        self._facts += facts
        self._news = self._news or bool(tracklets or facts)

    def set_back(self, now: float) -> None:
        """Capture time returned to an earlier one."""
        self._aggregates.set_back(now)
        self._news = True

    def is_due(self, now: float) -> bool:
        return self._news or not 0 <= now - self._written_at_s < WRITE_EVERY_S

    def write(self, now: float, parts: Mapping[str, bytes | None]) -> list[Aggregate]:
        """One transaction; returns the aggregates in it. When the disk has it is the saver's business."""
        wall_s = self._clock()
        return self._save(now, parts, self._aggregates.due(self._letterhead, now, wall_s), wall_s)

    def finish(self, now: float, parts: Mapping[str, bytes | None]) -> list[Aggregate]:
        """The recordings are over: their last intervals are said too."""
        wall_s = self._clock()
        return self._save(now, parts, self._aggregates.finish(self._letterhead, wall_s), wall_s)

    def _save(
        self, now: float, parts: Mapping[str, bytes | None], aggregates: list[Aggregate], wall_s: float
    ) -> list[Aggregate]:
        messages = [*fact_messages(self._letterhead, self._facts, wall_s), *aggregates]
        rows = self._letterhead.rows(messages) + self._letterhead.account(wall_s)
        self._saver.save({**parts, **self._aggregates.take_changes()}, rows)
        self._facts, self._news, self._written_at_s = [], False, now
        return aggregates
