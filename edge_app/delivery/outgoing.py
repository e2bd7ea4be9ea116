"""From facts to messages to rows of the outbox. Pure, apart from counting the messages of this boot."""

from __future__ import annotations

import itertools
import logging
import os
import platform
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from typing import Any

from pydantic import ValidationError

from edge_app.associate.facts import End, Fact, Match, Revision
from edge_app.associate.settings import LinkSettings
from edge_app.contract import messages
from edge_app.contract.envelope import ClockState, Paged, uuid7
from edge_app.contract.errors import MessageError
from edge_app.contract.paging import paginate
from edge_app.contract.topics import Message, encode, kind_of, topic_of
from edge_app.store.rows import Row, Shed

log = logging.getLogger(__name__)

MARGIN_LIMIT_NATS = 100.0  # JSON has no infinity


class Refusals:
    """What could not be said, because it breaks the contract or is too large: counted, and told as a gap.

    One bad fact, name or number must not stop the others; see `Letterhead.guard`. Any thread may add.
    """

    def __init__(self) -> None:
        self.total = 0
        self._new: Counter[str] = Counter()
        self._reason = ""
        self._lock = threading.Lock()

    def add(self, kind: str, why: str) -> None:
        with self._lock:
            self.total += 1
            self._new[kind] += 1
            before, self._reason = self._reason, f"not a message of the contract: {kind}: {why}"
        if self._reason != before:
            log.error("a %s message cannot be said and is left out: %s", kind, why)

    def take(self) -> tuple[dict[str, int], str]:
        """Counts by kind since the last call, and the last reason."""
        with self._lock:
            new, self._new = self._new, Counter()
        return dict(new), self._reason


@dataclass(frozen=True)
class Letterhead:
    """What every message of this boot of this node carries. Make a new one with `replace` when the model changes."""

    site: str
    node: str
    boot_id: str
    embedding_version: str | None = None
    bundle_digest: str | None = None
    config_digest: str | None = None
    clock_state: Callable[[], ClockState] = lambda: "ok"  # asked anew for every message
    numbers: itertools.count[int] = field(default_factory=itertools.count, repr=False)  # next() is atomic in CPython
    refusals: Refusals = field(default_factory=Refusals, repr=False, compare=False)

    def envelope(self, event_id: str, observed_at_s: float, now_s: float) -> dict[str, Any]:
        """The fields of `contract.envelope.Envelope`; the message's sequence number is taken here."""
        return {
            "event_id": event_id,
            "node": self.node,
            "boot_id": self.boot_id,
            "seq": next(self.numbers),
            "observed_at_s": observed_at_s,
            "published_at_s": now_s,
            "clock_state": self.clock_state(),
            "embedding_version": self.embedding_version,
            "bundle_digest": self.bundle_digest,
            "config_digest": self.config_digest,
        }

    def once(self, now_s: float) -> dict[str, Any]:
        """The envelope of a message that is said once, about now: a state, a heartbeat."""
        return self.envelope(uuid7(now_s, os.urandom(16)), now_s, now_s)

    @contextmanager
    def guard(self, kind: str) -> Iterator[None]:
        """Around the making of one message: a mistake in it is counted, and costs that message alone."""
        try:
            yield
        except ValidationError as error:
            self.refusals.add(kind, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
        except MessageError as error:
            self.refusals.add(kind, str(error))

    def pages(self, message: Message) -> list[Message]:
        """The message, or several that fit where it has grown with the site."""
        return [*paginate(message, self.numbers)] if isinstance(message, Paged) else [message]

    def row(self, message: Message) -> Row:
        """Raises MessageError when the message is too large."""
        return Row(message.event_id, kind_of(message), topic_of(message, self.site), encode(message))

    def rows(self, said: Iterable[Message]) -> list[Row]:
        """One row per page of each message; what is too large even so is left out and counted."""
        rows: list[Row] = []
        for message in said:
            with self.guard(kind_of(message)):
                rows += [self.row(page) for page in self.pages(message)]
        return rows

    def account(self, now_s: float) -> list[Row]:
        """The gap that tells of what was left out since the last call; nothing where nothing was."""
        counts, reason = self.refusals.take()
        return [gap_row(self, Shed(counts, now_s, now_s, reason), now_s)] if counts else []


def match_message(letterhead: Letterhead, fact: Match, now_s: float) -> messages.Match:
    """What has one name in the fact and in the contract is taken over."""
    envelope = letterhead.envelope(fact.event_id, fact.observed_at_s, now_s)
    shared = messages.Match.model_fields.keys() & {one.name for one in fields(fact)}
    said = {name: getattr(fact, name) for name in shared}
    said["from_"] = messages.MatchFrom(
        exit_time_s=fact.from_.time_s, entry_time_s=fact.from_.other_time_s, **_end(fact.from_)
    )
    said["to"] = messages.MatchTo(entry_time_s=fact.to.time_s, exit_time_s=fact.to.other_time_s, **_end(fact.to))
    said["posterior"] = min(max(fact.posterior, 0.0), 1.0)
    said["margin"] = min(max(fact.margin, -MARGIN_LIMIT_NATS), MARGIN_LIMIT_NATS)
    return messages.Match(**{**envelope, **said})


def _end(end: End) -> dict[str, Any]:
    return {"camera": end.camera, "track": end.track, "place": asdict(end.place) if end.place else None}


def revision_message(letterhead: Letterhead, fact: Revision, now_s: float) -> messages.Revision:
    envelope = letterhead.envelope(fact.event_id, fact.observed_at_s, now_s)
    return messages.Revision(**{**asdict(fact), **envelope})


def fact_messages(letterhead: Letterhead, facts: Iterable[Fact], now_s: float) -> list[Message]:
    """Matches and revisions in order. What matched nothing is not said by itself; it counts in the aggregates."""
    said: list[Message] = []
    for fact in facts:
        with letterhead.guard(type(fact).__name__.lower()):
            if isinstance(fact, Match):
                said.append(match_message(letterhead, fact, now_s))
            elif isinstance(fact, Revision):
                said += letterhead.pages(revision_message(letterhead, fact, now_s))
    return said


def birth_message(
    letterhead: Letterhead,
    cameras: Mapping[str, Sequence[str]],
    links: Sequence[LinkSettings],
    detector: tuple[str | None, Sequence[str]],
    now_s: float,
) -> messages.Birth:
    """`cameras`: id → names of its zones. `detector`: its name and its class names. The model is the letterhead's."""
    return messages.Birth(
        **letterhead.once(now_s),
        software=f"crosslane {version('crosslane')}",
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        detector=detector[0],
        class_names=tuple(detector[1]),
        cameras=tuple(messages.BirthCamera(camera=name, zones=tuple(zones)) for name, zones in cameras.items()),
        links=tuple(
            messages.BirthLink(
                link=link.id,
                from_camera=link.from_camera,
                to_camera=link.to_camera,
                transit_min_s=link.transit.min_s,
                transit_max_s=link.transit.max_s,
            )
            for link in links
        ),
    )


def gap_row(letterhead: Letterhead, shed: Shed, now_s: float) -> Row:
    """The published account of it."""
    return letterhead.row(
        messages.Gap(
            **letterhead.once(now_s),
            reason=shed.reason,
            counts=shed.counts,
            first_queued_at_s=max(shed.first_queued_at_s, 0.0),
            last_queued_at_s=max(shed.last_queued_at_s, 0.0),
        )
    )
