"""Facts become messages, and every message fits."""

import math

import numpy as np
import pytest

from edge_app.associate.facts import EffectiveLink, End, Match, Revision, Unmatched
from edge_app.contract.envelope import uuid7
from edge_app.contract.topics import decode, encode, topic_of
from edge_app.delivery.outgoing import LINKS_PER_REVISION, Letterhead, fact_messages, read_embeddings, sighting_message
from edge_app.types import Tracklet

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


def tracklet(rows=8, dimension=512, **changes):
    vectors = np.random.default_rng(1).normal(size=(rows, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) if rows else 1
    fields = {
        "id": "edge-1/a/7/1", "node": "edge-1", "camera": "a", "class_name": "car", "entry_time_s": NOW_S - 9,
        "exit_time_s": NOW_S - 5, "time_sigma_s": 0.1, "entry_zone": "left", "exit_zone": "right",
        "heading_rad": math.nan, "embeddings": vectors, "qualities": np.linspace(0, 1, rows, dtype=np.float32),
        "embedding_version": "v0", "path_times_s": np.zeros(0), "path_boxes": np.zeros((0, 4), np.float32),
    }  # fmt: skip
    return Tracklet(**{**fields, **changes})


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
    assert [len(message.effective_links) for message in said] == [LINKS_PER_REVISION, LINKS_PER_REVISION, 15]
    assert said[0].event_id == fact.event_id
    assert len({message.event_id for message in said}) == 3
    again = fact_messages(LETTERHEAD, [fact], NOW_S)
    assert [message.event_id for message in again] == [message.event_id for message in said]
    for message in said:
        validate(topic_of(message, "demo"), encode(message))
    (empty,) = fact_messages(LETTERHEAD, [Revision(uuid7(NOW_S, b"e"), NOW_S, "retract", (), "", ())], NOW_S)
    assert empty.effective_links == ()


@pytest.mark.parametrize(("rows", "dimension", "sent"), [(8, 512, 8), (8, 2048, 2), (3, 4096, 1), (1, 16, 1)])
def test_a_sighting_carries_the_best_views_that_fit(validate, rows, dimension, sent):
    seen = tracklet(rows, dimension)
    message = sighting_message(LETTERHEAD, seen, True, NOW_S)
    payload = encode(message)
    assert decode(validate(topic_of(message, "demo"), payload) and topic_of(message, "demo"), payload) == message
    assert message.embedding_version == "v0"
    assert message.heading_rad is None
    assert message.embeddings.rows == sent
    received = read_embeddings(message.embeddings)
    np.testing.assert_allclose(received, seen.embeddings[rows - sent :], atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(received, axis=1), 1, atol=1e-6)


def test_a_sighting_without_embeddings():
    assert sighting_message(LETTERHEAD, tracklet(), False, NOW_S).embeddings is None
    assert sighting_message(LETTERHEAD, tracklet(rows=0), True, NOW_S).embeddings is None
    same = [sighting_message(LETTERHEAD, tracklet(), False, NOW_S + i).event_id for i in range(2)]
    assert same[0] == same[1]
