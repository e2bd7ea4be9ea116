"""The loop: frames → detect → track → crops → embed → tracklets → associate → commit.

    for now, frames in cameras.ticks(stop):                    newest frame per camera, or all of them in lockstep
        views, tracklets = perception.see(now, frames)         finished passages of single cameras
        facts = association.step(tracklets, now, seen_until)   match | revision | unmatched; may be late
        journal.write(now, parts)                              state and outbox: one transaction
        collection.note(views, tracklets, facts)               crops for the trainer, where they are asked for

Everything here happens on one thread, in capture time; decoding, drawing, crops, the disk and MQTT have threads
of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_app.associate import codec, online
from edge_app.associate.draft import Rules
from edge_app.associate.facts import Fact
from edge_app.associate.state import State, shifted
from edge_app.delivery.aggregate import Aggregate
from edge_app.meter import Meter
from edge_app.store.parts import Parts, sealed, unsealed
from edge_app.types import Frame, Tracklet, View

DRAIN_STEP_S = 0.5
DELIVERING_S = 2.0  # a camera without a frame for this long says nothing about its traffic
SET_BACK_S = 10.0  # capture time that falls by more was set back; less heals by itself, and recordings resume unevenly
PROGRESS = "pipeline/progress"  # part: `now` and `positions` of a `Pipeline`, from which a restart goes on
LATEST_S = 253402300799.0  # the year 9999
_FORMAT = "crosslane.progress/2"


class Sees(Protocol):
    """Frames in, finished tracklets out; see `Perception`."""

    def see(self, now: float, frames: list[Frame]) -> tuple[list[View], list[Tracklet]]: ...

    def end(self) -> list[Tracklet]: ...

    def seen_until(self, now: float) -> dict[str, float]: ...

    def snapshot(self) -> dict[str, bytes | None]: ...


class Writes(Protocol):
    """Takes down what was concluded; see `Journal`."""

    def note(self, now: float, tracklets: list[Tracklet], facts: list[Fact], delivering: Iterable[str]) -> None: ...

    def set_back(self, now: float) -> None: ...

    def is_due(self, now: float) -> bool: ...

    def write(self, now: float, parts: Mapping[str, bytes | None]) -> list[Aggregate]: ...

    def finish(self, now: float, parts: Mapping[str, bytes | None]) -> list[Aggregate]: ...


class Collects(Protocol):
    """Keeps crops of what was seen; see `Collector`."""

    def parts(self) -> Mapping[str, bytes]: ...

    def note(self, views: list[View], tracklets: list[Tracklet], facts: list[Fact]) -> None: ...


class Association:
    """The pure association with its state, and what of it is not written yet."""

    def __init__(self, rules: Rules, parts: Parts) -> None:
        self.rules = rules
        self.state: State = codec.load(parts)
        self._written = self.state

    def step(self, tracklets: list[Tracklet], now: float, seen_until: Mapping[str, float]) -> list[Fact]:
        self.state, facts = online.step(self.state, tracklets, now, seen_until, self.rules)
        return facts

    def shift(self, by_s: float) -> None:
        """The clock was set by so much."""
        self.state = shifted(self.state, by_s)

    def take_changes(self) -> dict[str, bytes | None]:
        """The parts that changed since the last call."""
        changes = codec.changes(self._written, self.state)
        self._written = self.state
        return changes

    @property
    def undecided(self) -> bool:
        return any(passage.decided == "pending" for passage in self.state.passages.values())


@dataclass(frozen=True)
class Step:
    """What one tick came to."""

    now: float
    frames: list[Frame]
    views: list[View]
    tracklets: list[Tracklet]
    facts: list[Fact]
    aggregates: list[Aggregate]  # those that became due with it
    seconds: dict[str, float]  # by stage


@dataclass
class Pipeline:
    """One node's perception, association and journal, in step."""

    perception: Sees
    association: Association
    journal: Writes
    meter: Meter
    carried_over: list[Tracklet] = field(default_factory=list)  # what `Perception.restore` could not continue
    positions: dict[str, float] = field(default_factory=dict)  # camera → capture time of its last frame
    now: float = 0.0  # capture time of the last step
    collection: Collects | None = None
    over: bool = field(default=False, init=False)  # no camera delivers any more

    def run(self, ticks: Iterable[tuple[float, list[Frame]]]) -> Iterator[Step]:
        """One `Step` per tick."""
        for now, frames in ticks:
            if now < self.now - SET_BACK_S:
                yield self._conclude(self.now, [], [], self.perception.end())
                self._set_back(now)
            views, tracklets = self.perception.see(now, frames)
            yield self._conclude(now, frames, views, tracklets)

    def finish(self) -> Iterator[Step]:
        """The recordings are over: close every track, let time pass until everything is decided, close the books."""
        self.over = True
        yield self._conclude(self.now, [], [], self.perception.end())
        while self.association.undecided:
            yield self._conclude(self.now + DRAIN_STEP_S, [], [], [])
        with self.meter.stage("commit"):
            aggregates = self.journal.finish(self.now, self._parts())
        yield Step(self.now, [], [], [], [], aggregates, self.meter.take())

    def save(self) -> None:
        """Stopped in the middle: the open tracks go on after the next start."""
        if not self.carried_over:  # else no step was made yet, and writing now would lose them
            self.journal.write(self.now, self._parts())

    def _set_back(self, now: float) -> None:
        """The clock returned from a wrong time, now or while we were away: everything remembered goes back with it."""
        self.association.shift(now - self.now)
        self.journal.set_back(now)
        self.positions = {camera: time_s for camera, time_s in self.positions.items() if time_s <= now}
        self.now = now

    def _conclude(self, now: float, frames: list[Frame], views: list[View], tracklets: list[Tracklet]) -> Step:
        self.now, tracklets, self.carried_over = now, self.carried_over + tracklets, []
        with self.meter.stage("associate"):
            facts = self.association.step(tracklets, now, self.perception.seen_until(now))
        self.positions.update({frame.camera: frame.time_s for frame in frames})
        with self.meter.stage("commit"):
            self.journal.note(now, tracklets, facts, self._delivering(now))
            aggregates = self.journal.write(now, self._parts()) if self.journal.is_due(now) else []
        if self.collection is not None:  # after its facts: crops are never accepted before them
            self.collection.note(views, tracklets, facts)
        return Step(now, frames, views, tracklets, facts, aggregates, self.meter.take())

    def _delivering(self, now: float) -> list[str]:
        if self.over:
            return []
        return [camera for camera, time_s in self.positions.items() if now - time_s <= DELIVERING_S]

    def _parts(self) -> dict[str, bytes | None]:
        """Everything a restart needs: open tracks, what changed in the association, and where each camera stands."""
        progress = json.dumps({"now": self.now, "positions": self.positions}).encode()
        changes = {**self.association.take_changes(), **(self.collection.parts() if self.collection else {})}
        return {**self.perception.snapshot(), **changes, PROGRESS: sealed(_FORMAT, progress)}


def progress_of(parts: Parts) -> dict[str, Any]:
    """`now` and `positions` as they were written; nothing where they cannot be read."""
    return parts.read(PROGRESS, _progress) or {}


def _progress(stored: bytes) -> dict[str, Any]:
    progress = json.loads(unsealed(stored, _FORMAT))
    times = [progress["now"], *progress["positions"].values()]
    if not all(isinstance(time_s, int | float) and 0 <= time_s < LATEST_S for time_s in times):
        raise ValueError(f"times of {times}")
    return {"now": float(progress["now"]), "positions": {name: float(at) for name, at in progress["positions"].items()}}
