"""Flows, travel times and trips per interval, from finished passages and what the association says about them.

Every passage of the last hour is kept, with the passage it continues; each message is a function of that table. So a
revision is only a change of the table, and an interval whose numbers changed is said again with its revision + 1. A
passage belongs to the interval in which it left its camera, a transit to that of the exit it began with, a trip to that
of its first exit. Time is capture time.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeAlias

from pydantic import Field

from edge_app.associate.facts import Came, Fact, Match, Revision, Unmatched
from edge_app.associate.settings import LinkSettings
from edge_app.contract.aggregates import Flow, OriginDestination, TravelTime
from edge_app.contract.envelope import uuid7
from edge_app.delivery.counting import Counted, Link, Table, flow, origin_destination, travel_time
from edge_app.delivery.coverage import COVERAGE, Coverage, read_counted, read_coverage, read_said, stored
from edge_app.delivery.expected import beside, expected_on, expected_trips
from edge_app.delivery.outgoing import Letterhead
from edge_app.settings import Settings
from edge_app.store.parts import Parts
from edge_app.types import Tracklet

PREFIX = "aggregate/"


class AggregateSettings(Settings):
    interval_s: float = Field(default=300.0, ge=10)
    """Length of an interval; intervals begin at multiples of it since the epoch."""
    settle_s: float = Field(default=60.0, ge=0)
    """An interval is first published so long after its end, when most of its decisions have fallen."""
    republish_s: float = Field(default=30.0, gt=0)
    """Corrections are gathered for so long."""
    keep_s: float = Field(default=3600.0, gt=0)
    """An interval that ended so long ago is final."""
    minimum_coverage: float = Field(default=0.9, ge=0, le=1)
    """A camera that delivered for less than this share of an interval says nothing about it: missing is not zero."""


Aggregate: TypeAlias = Flow | TravelTime | OriginDestination


class Aggregates:
    """`update` with every tick, then `due`; `take_changes` goes into the same transaction as the messages."""

    def __init__(
        self,
        settings: AggregateSettings,
        cameras: Sequence[str],
        links: Sequence[LinkSettings],
        parts: Parts | None = None,
        goes_on_at_s: float | None = None,
    ) -> None:
        """`goes_on_at_s`: capture time of the last tick, where time did not pass while nobody ran: in recordings."""
        self._settings, self._cameras = settings, tuple(cameras)
        self._links = tuple(Link(link.id, link.from_camera, link.to_camera, link.transit.max_s) for link in links)
        self._patience_s = {  # how long after leaving a camera a trip may still be found to go on
            camera: max((link.transit_max_s for link in self._links if link.from_camera == camera), default=0.0)
            + settings.settle_s
            for camera in self._cameras
        }
        self._table = Table()
        self._of_interval: dict[int, set[str]] = defaultdict(set)  # ids of what left in it
        self._coverage = Coverage(self._cameras, settings.interval_s, int(settings.keep_s // settings.interval_s))
        self._said: dict[str, tuple[int, str]] = {}  # `{interval}/{what}` → revision, digest of the numbers
        self._dirty: set[int] = set()
        self._changes: dict[str, bytes | None] = {}
        self._looked_s = -1e18
        self._over = False  # nothing more will come: every trip has ended, and what was not seen is nobody's fault
        self._load(parts or Parts())
        self._coverage.go_on(goes_on_at_s)

    def update(
        self, tracklets: Iterable[Tracklet], facts: Iterable[Fact], delivering: Iterable[str], now_s: float
    ) -> None:
        """New passages, new facts, and the cameras that delivered since the last call. Provisional facts count not."""
        self._dirty |= self._coverage.add(delivering, now_s)
        for one in tracklets:
            self._put(
                Counted(
                    one.id,
                    one.camera,
                    one.class_name,
                    one.entry_time_s,
                    one.exit_time_s,
                    one.entry_zone,
                    one.exit_zone,
                )
            )
        for fact in facts:
            if isinstance(fact, Match) and fact.state == "confirmed":
                self._connect(fact.to.track, fact.from_.track)
                self._weigh(fact.to.track, fact.came)
            elif isinstance(fact, Unmatched):
                self._connect(fact.to.track, None)
                self._weigh(fact.to.track, fact.came)
            elif isinstance(fact, Revision):
                for link in fact.effective_links:
                    self._connect(link.to_track, None)
                for link in fact.effective_links:
                    self._connect(link.to_track, link.from_track)

    def due(self, letterhead: Letterhead, now_s: float, wall_s: float) -> list[Aggregate]:
        """The intervals that are complete or were corrected, at most every `republish_s`."""
        if now_s < self._looked_s + self._settings.republish_s:
            return []
        self._looked_s = now_s
        self._forget(now_s)
        said: list[Aggregate] = []
        longest_s = max(self._patience_s.values(), default=0.0)
        for interval in sorted(self._known_intervals()):
            end_s = (interval + 1) * self._settings.interval_s
            if now_s < end_s + self._settings.settle_s:
                continue
            # trips end by waiting, not by an event: look again until the last of the interval can have ended
            recent = now_s < end_s + len(self._cameras) * longest_s
            if interval in self._dirty or recent:
                self._dirty.discard(interval)
                said += self._say(interval, letterhead, now_s, wall_s)
        return said

    def finish(self, letterhead: Letterhead, wall_s: float) -> list[Aggregate]:
        """The recordings are over: every interval with the coverage it got, the first and the last included."""
        self._over = True
        now_s = self._coverage.now_s or 0.0
        return [one for k in sorted(self._known_intervals()) for one in self._say(k, letterhead, now_s, wall_s)]

    def set_back(self, now_s: float) -> None:
        """The clock returned to an earlier time: what was counted beyond it is forgotten.

        What was said of those intervals stands until their time comes; it is then said anew with a higher revision.
        """
        for one in [one for one in self._table.passages.values() if one.exit_s > now_s]:
            self._drop(one.id)
        for interval in [one for one in self._known_intervals() if one > self._interval_of(now_s)]:
            self._of_interval.pop(interval, None)
            self._uncover(interval)
        self._coverage.go_on(None)
        self._looked_s = -1e18

    def take_changes(self) -> dict[str, bytes | None]:
        """The parts of the store that changed since the last call; None deletes."""
        changes, self._changes = self._changes, {}
        return {**changes, **self._coverage.take_changes()}

    def _known_intervals(self) -> set[int]:
        return self._coverage.intervals | set(self._of_interval)

    def _interval_of(self, time_s: float) -> int:
        return int(time_s // self._settings.interval_s)

    def _put(self, passage: Counted) -> None:
        self._table.put(passage)
        self._of_interval[self._interval_of(passage.exit_s)].add(passage.id)
        self._dirty |= {self._interval_of(passage.exit_s), self._interval_of(passage.entry_s)}
        self._changes[f"{PREFIX}passage/{passage.id}"] = stored("counted", asdict(passage))

    def _connect(self, to_track: str, from_track: str | None) -> None:
        """`to_track` continues `from_track`, or begins a trip (None). What was forgotten stays as it was said."""
        passage = self._table.passages.get(to_track)
        if passage is None or (passage.decided and passage.from_track == from_track):
            return
        self._touch(passage)
        if passage.from_track is not None and self._table.next.get(passage.from_track) == to_track:
            del self._table.next[passage.from_track]
        if from_track is not None:
            self._table.next[from_track] = to_track
        self._put(replace(passage, decided=True, from_track=from_track))
        self._touch(self._table.passages[to_track])

    def _weigh(self, to_track: str, came: Came) -> None:
        """Whom `to_track` may continue: what is said of it counts in the intervals of all of them."""
        passage = self._table.passages.get(to_track)
        if passage is None or passage.came == came:
            return
        self._put(replace(passage, came=came))
        earlier = [self._table.passages[name] for name, _ in came if name in self._table.passages]
        self._dirty |= {self._interval_of(one.exit_s) for one in earlier}

    def _touch(self, passage: Counted) -> None:
        """Every interval in which this passage counts for something: along its trip back to the beginning."""
        self._dirty.add(self._interval_of(passage.exit_s))
        before = self._table.before(passage)
        while before is not None and before.exit_s < passage.exit_s:
            self._dirty.add(self._interval_of(before.exit_s))
            passage, before = before, self._table.before(before)

    def _entries(self, camera: str, interval: int) -> int:
        near = self._of_interval.get(interval, set()) | self._of_interval.get(interval + 1, set())
        passages = (self._table.passages[one] for one in near)
        return sum(one.camera == camera and self._interval_of(one.entry_s) == interval for one in passages)

    def _numbers(self, interval: int, now_s: float) -> Iterator[tuple[str, type[Aggregate], dict[str, Any]]]:
        """What there is to say about one interval: what it is about, its message, its fields."""
        coverage = {camera: self._coverage.share(camera, interval) for camera in self._cameras}
        missing = sorted(name for name, share in coverage.items() if share < self._settings.minimum_coverage)
        complete = [name for name, share in coverage.items() if (share if self._over else name not in missing)]
        left = [self._table.passages[one] for one in sorted(self._of_interval.get(interval, ()))]
        for camera in complete:
            yield f"flow/{camera}", Flow, flow(camera, coverage[camera], left)
        rates = []
        for link in self._links:
            if link.from_camera in complete and link.to_camera in complete:
                fields = travel_time(link, left, self._entries(link.to_camera, interval), self._table)
                fields |= expected_on(link, left, self._table)
                rates.append({name: fields[name] for name in ("link", "eligible_exits", "n", "match_rate")})
                yield f"traveltime/{link.id}", TravelTime, fields
        # an interval with a hole in every camera, or in which nobody ran, is still said, with all of them named
        until_s = math.inf if self._over else now_s
        trips = origin_destination(left, self._table, self._patience_s, until_s)
        pairs = beside(trips, expected_trips(left, self._table, self._patience_s, until_s))
        yield "od", OriginDestination, {"pairs": pairs, "match_rates": rates, "missing_cameras": missing}

    def _say(self, interval: int, letterhead: Letterhead, now_s: float, wall_s: float) -> list[Aggregate]:
        """The messages of one interval whose numbers are new."""
        said: list[Aggregate] = []
        length_s = self._settings.interval_s
        start_s = interval * length_s
        for what, model, fields in self._numbers(interval, now_s):
            key = f"{interval}/{what}"
            digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
            before, digest_before = self._said.get(key, (0, ""))
            if digest == digest_before:
                continue
            revision = before + 1
            self._said[key] = (revision, digest)
            self._changes[f"{PREFIX}said/{key}"] = stored("said", self._said[key])
            # decided again after a crash it is the same event: the id is made of what it is about
            event = f"{letterhead.node} {what} {start_s} {length_s} {revision} {digest}"
            envelope = letterhead.envelope(uuid7(start_s + length_s, event.encode()), now_s, wall_s)
            times: dict[str, Any] = {"interval_start_s": start_s, "interval_s": length_s, "revision": revision}
            with letterhead.guard(model.message):
                said.append(model(**envelope, **times, **fields))
        return said

    def _forget(self, now_s: float) -> None:
        for interval in self._known_intervals():
            if (interval + 1) * self._settings.interval_s + self._settings.keep_s > now_s:
                continue
            for one in [*self._of_interval[interval]]:
                self._drop(one)
            self._of_interval.pop(interval, None)
            for key in [key for key in self._said if key.startswith(f"{interval}/")]:
                del self._said[key]
                self._changes[f"{PREFIX}said/{key}"] = None
            self._uncover(interval)

    def _drop(self, passage_id: str) -> None:
        passage = self._table.take(passage_id)
        self._table.next.pop(passage_id, None)
        if passage.from_track is not None:
            self._table.next.pop(passage.from_track, None)
        self._of_interval[self._interval_of(passage.exit_s)].discard(passage_id)
        self._changes[f"{PREFIX}passage/{passage_id}"] = None

    def _uncover(self, interval: int) -> None:
        self._coverage.forget(interval)
        self._dirty.discard(interval)

    def _load(self, parts: Parts) -> None:
        for key in parts.under(PREFIX):
            if key.startswith(PREFIX + "passage/"):
                passage = parts.read(key, read_counted)
                if passage is None or key != f"{PREFIX}passage/{passage.id}":
                    continue
                self._table.put(passage)
                self._of_interval[self._interval_of(passage.exit_s)].add(passage.id)
                self._dirty.add(self._interval_of(passage.exit_s))
                if passage.from_track is not None:
                    self._table.next[passage.from_track] = passage.id
            elif key.startswith(PREFIX + "said/"):
                said = parts.read(key, read_said)
                if said is not None:
                    self._said[key.removeprefix(PREFIX + "said/")] = said
            elif key.startswith(COVERAGE + "/") and key.removeprefix(COVERAGE + "/").lstrip("-").isdigit():
                interval = int(key.removeprefix(COVERAGE + "/"))
                self._coverage.load(interval, parts.read(key, read_coverage) or {})
                self._dirty.add(interval)  # whether it was said is looked at again
            else:
                parts.refuse(key, "this release knows no such part of the aggregates")
