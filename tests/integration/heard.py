"""What a witness at the broker heard of a node, compared with what it heard of an unbroken one."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from edge_app.contract.aggregates import Flow, OriginDestination, TravelTime
from edge_app.contract.envelope import Envelope
from edge_app.contract.messages import Match, Revision

if TYPE_CHECKING:
    from kills import Node

ENVELOPE = {*Envelope.model_fields, *Envelope.model_computed_fields, "message"}


def mail_of(subscriber, site: str) -> dict[str, Match | Revision]:
    """The facts of one site by event id. A repeat says the same as the first copy, except when it was sent."""
    mail: dict[str, Match | Revision] = {}
    for (topic, _, _), message in zip(subscriber.seen, subscriber.messages, strict=True):
        if topic.split("/")[2] == site and isinstance(message, Match | Revision):
            copy = message.model_copy(update={"published_at_s": 0.0, "historical": False})
            assert mail.setdefault(message.event_id, copy) == copy
    return mail


def passage(track: str | None) -> str | None:
    """A track without its node and boot: tracks of a camera are numbered through, whatever process saw them."""
    return track and "/".join(track.split("/")[1::2])


def content(fact: Match | Revision, mail: dict[str, Match | Revision]) -> tuple:
    """What a fact says, without the ids that name a boot."""
    if isinstance(fact, Revision):
        revised = tuple(content(mail[event], mail) if event in mail else "unmatched" for event in fact.revises)
        links = tuple((passage(link.to_track), passage(link.from_track)) for link in fact.effective_links)
        return (fact.kind, fact.observed_at_s, revised, links)
    ends = (fact.from_.camera, fact.from_.exit_time_s, fact.to.camera, fact.to.entry_time_s)
    tracks = (passage(fact.from_.track), passage(fact.to.track), passage(fact.runner_up))
    numbers = (round(fact.posterior, 9), round(fact.margin, 9), fact.observed_at_s)
    return (fact.state, fact.link, *ends, *tracks, fact.class_name, *numbers, fact.supersedes is not None)


def confirmed(mail: dict[str, Match | Revision]) -> dict[tuple, Match]:
    facts = [fact for fact in mail.values() if isinstance(fact, Match) and fact.state == "confirmed"]
    by_content = {content(fact, mail): fact for fact in facts}
    assert len(by_content) == len(facts), "one fact under two event ids"
    return by_content


def standing(mail: dict[str, Match | Revision]) -> dict[tuple, Match]:
    """The confirmed matches that no revision took back."""
    revised = {event for fact in mail.values() if isinstance(fact, Revision) for event in fact.revises}
    return {what: fact for what, fact in confirmed(mail).items() if fact.event_id not in revised}


def assert_same(killed: dict[str, Match | Revision], unbroken: dict[str, Match | Revision]) -> None:
    assert confirmed(killed).keys() == confirmed(unbroken).keys()
    assert standing(killed).keys() == standing(unbroken).keys()
    assert {content(fact, killed) for fact in killed.values()} == {
        content(fact, unbroken) for fact in unbroken.values()
    }
    pairs = {(fact.global_id, standing(unbroken)[what].global_id) for what, fact in standing(killed).items()}
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs}), "identities differ"


def receive_all(subscriber, node: Node) -> dict[str, Match | Revision]:
    """Wait until the subscriber has every fact that the node ever committed; then it has no other."""
    with contextlib.closing(sqlite3.connect(node.store)) as database:
        rows = database.execute("SELECT event_id, payload FROM outbox WHERE kind LIKE 'match%' OR kind = 'revision'")
        committed = dict(rows.fetchall())
    assert not any(committed.values()), "a fact was left behind in the outbox"
    subscriber.wait(lambda _: mail_of(subscriber, node.name).keys() >= committed.keys())
    assert mail_of(subscriber, node.name).keys() == committed.keys()
    return mail_of(subscriber, node.name)


def final_aggregates(subscriber, site: str) -> dict[tuple, dict[str, Any]]:
    """What was said last of each interval, by topic and interval, without the envelope and how often it was said."""
    last: dict[tuple, tuple[int, dict[str, Any]]] = {}
    for (topic, _, _), message in zip(subscriber.seen, subscriber.messages, strict=True):
        if topic.split("/")[2] == site and isinstance(message, Flow | TravelTime | OriginDestination):
            key = (topic.split("/agg/")[1], message.interval_start_s)
            if message.revision >= last.get(key, (0, {}))[0]:
                last[key] = (message.revision, message.model_dump(exclude=ENVELOPE | {"revision"}))
    return {key: fields for key, (_, fields) in last.items()}


def assert_same_aggregates(killed: dict[tuple, dict[str, Any]], unbroken: dict[tuple, dict[str, Any]]) -> None:
    unlike = [
        f"{key}.{name}: {killed.get(key, {}).get(name)!r}, unbroken {unbroken.get(key, {}).get(name)!r}"
        for key in sorted(killed.keys() | unbroken.keys())
        for name in sorted(killed.get(key, {}).keys() | unbroken.get(key, {}).keys())
        if killed.get(key, {}).get(name) != unbroken.get(key, {}).get(name)
    ]
    assert not unlike, "\n".join([f"{len(unlike)} fields of aggregates differ", *unlike[:20]])
