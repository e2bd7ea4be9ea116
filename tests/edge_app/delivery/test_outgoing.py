"""Facts become messages, and every message fits."""

import math

import pytest

from edge_app.associate.facts import EffectiveLink, End, Match, Revision, Unmatched
from edge_app.contract.envelope import uuid7
from edge_app.contract.topics import encode, topic_of
from edge_app.delivery.outgoing import Letterhead, fact_messages

LETTERHEAD = Letterhead("demo", "edge-1", "7", embedding_version="v1", config_digest="sha256:1")
NOW_S = 1_790_000_000.0


def match(**changes):
    fields = {
        "event_id": uuid7(NOW_S, b"m"), "observed_at_s": NOW_S, "state": "confirmed", "global_id": "edge-1-7-1",
        "link": "a--b", "from_": End("a", "edge-1/a/7/1", NOW_S - 30), "to": End("b", "edge-1/b/7/2", NOW_S - 10),
        "class_name": "car", "transit_s": 20.0, "posterior": 0.98, "margin": 3.5, "runner_up": None,
        "decision_delay_s": 10.0, "supersedes": None, "embedding_version": "v0",
    }  # fmt: skip
    return Match(**{**fields, **changes})


def test_a_match_says_what_the_fact_says(validate):
    (message,) = fact_messages(LETTERHEAD, [match()], NOW_S)
    assert validate("crosslane/v1/demo/edge-1/event/match", encode(message)) == message
    assert (message.node, message.boot_id, message.embedding_version) == ("edge-1", "7", "v0")
    assert (message.from_.exit_time_s, message.to.entry_time_s) == (NOW_S - 30, NOW_S - 10)
    assert (message.global_id, message.link, message.transit_s, message.class_name) == (
        "edge-1-7-1",
        "a--b",
        20.0,
        "car",
    )
    assert message.event_id == match().event_id


@pytest.mark.parametrize("margin", [math.inf, 1e9, -math.inf])
def test_an_infinite_margin_is_limited(validate, margin):
    (message,) = fact_messages(LETTERHEAD, [match(margin=margin, posterior=1.0 + 1e-12)], NOW_S)
    validate(topic_of(message, "demo"), encode(message))
    assert abs(message.margin) == 100.0


def test_numbers_grow_and_what_matched_nothing_is_not_said():
    alone = Unmatched(uuid7(NOW_S, b"u"), NOW_S, "g", End("a", "t", NOW_S), "car", 0.9, 1.0)
    first, second = fact_messages(LETTERHEAD, [match(), alone, match()], NOW_S)
    assert second.seq == first.seq + 1


def test_a_large_revision_is_said_in_parts_that_fit(validate):
    links = tuple(EffectiveLink("t" * 80 + str(i), "f" * 80 + str(i), "g" * 60) for i in range(95))
    fact = Revision(uuid7(NOW_S, b"r"), NOW_S, "split", (uuid7(NOW_S, b"m"),), "better evidence", links)
    said = fact_messages(LETTERHEAD, [fact], NOW_S)
    assert tuple(link.to_track for message in said for link in message.effective_links) == tuple(
        link.to_track for link in links
    )
    assert [(message.page, message.pages) for message in said] == [(1, 2), (2, 2)]
    assert said[0].event_id == fact.event_id
    assert len({message.event_id for message in said}) == 2
    again = fact_messages(LETTERHEAD, [fact], NOW_S)
    assert [message.event_id for message in again] == [message.event_id for message in said]
    for message in said:
        validate(topic_of(message, "demo"), encode(message))
    (empty,) = fact_messages(LETTERHEAD, [Revision(uuid7(NOW_S, b"e"), NOW_S, "retract", (), "", ())], NOW_S)
    assert empty.effective_links == ()
