"""What a subscriber received, read back from the log of `edge_app.demo.watch`, as messages and as facts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from edge_app.associate import facts
from edge_app.contract import messages
from edge_app.contract.topics import Message, decode


@dataclass(frozen=True, slots=True)
class Received:
    """One new message and when it came, seconds since the epoch by the subscriber's clock."""

    received_at_s: float
    message: Message


@dataclass(frozen=True)
class Mail:
    """Everything one boot of one node said, in order of arrival, repeats dropped."""

    received: list[Received]
    repeats: int

    @property
    def kinds(self) -> dict[str, int]:
        """How many messages of each kind; matches by their state."""
        names = (
            f"match_{each.message.state}" if isinstance(each.message, messages.Match) else each.message.message
            for each in self.received
        )
        return dict(sorted(Counter(names).items()))

    def matches(self, state: str) -> list[Received]:
        return [r for r in self.received if isinstance(r.message, messages.Match) and r.message.state == state]

    def facts(self) -> list[facts.Fact]:
        """The matches and revisions, as the association said them."""
        return facts_of(each.message for each in self.received)


def read_mail(log: Path, boot_id: str) -> Mail:
    """The messages of one boot, from a log of `edge_app.demo.watch`; others may have spoken on the same broker."""
    received: dict[str, Received] = {}
    repeats = 0
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            message = decode(entry["topic"], json.dumps(entry["payload"]).encode())
            if message.boot_id != boot_id:
                continue
            repeats += message.event_id in received
            received.setdefault(message.event_id, Received(entry["received_at_s"], message))
    return Mail(list(received.values()), repeats)


def facts_of(said: Iterable[Message]) -> list[facts.Fact]:
    """The matches and revisions among messages, as facts, in order."""
    return [_fact(each) for each in said if isinstance(each, messages.Match | messages.Revision)]


def _fact(message: messages.Match | messages.Revision) -> facts.Fact:
    if isinstance(message, messages.Revision):
        links = tuple(facts.EffectiveLink(x.to_track, x.from_track, x.global_id) for x in message.effective_links)
        return facts.Revision(
            message.event_id, message.observed_at_s, message.kind, message.revises, message.reason, links
        )
    shared = messages.Match.model_fields.keys() & {one.name for one in fields(facts.Match)}
    same = {name: getattr(message, name) for name in shared}
    from_, to = message.from_, message.to
    same["from_"] = facts.End(from_.camera, from_.track, from_.exit_time_s, from_.entry_time_s, _place(from_.place))
    same["to"] = facts.End(to.camera, to.track, to.entry_time_s, to.exit_time_s, _place(to.place))
    return facts.Match(**{**same, "embedding_version": message.embedding_version or ""})


def _place(place: messages.Place | None) -> facts.Place | None:
    return None if place is None else facts.Place(**dict(place))
