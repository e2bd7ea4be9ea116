"""Facts survive the way over the wire."""

import json

import pytest

from edge_app.associate.facts import EffectiveLink, End, Match, Revision
from edge_app.contract.envelope import uuid7
from edge_app.contract.topics import encode, topic_of
from edge_app.delivery.outgoing import Letterhead, fact_messages
from edge_app.demo.received import facts_of, read_mail

NOW_S = 1_700_000_000.0
LETTERHEAD = Letterhead("demo", "edge-1", "7.1")


def match(name, state="confirmed", supersedes=None):
    return Match(
        event_id=uuid7(NOW_S, name.encode()),
        observed_at_s=NOW_S,
        state=state,
        global_id="edge-1-7-1",
        link="a--b",
        from_=End("a", "edge-1/a/7/1", NOW_S - 30),
        to=End("b", "edge-1/b/7/2", NOW_S - 10),
        class_name="car",
        transit_s=20.0,
        posterior=0.98,
        margin=3.5,
        runner_up=None,
        decision_delay_s=10.0,
        supersedes=supersedes,
        embedding_version="v1",
    )


@pytest.fixture
def facts():
    first = match("provisional", "provisional")
    links = (EffectiveLink("edge-1/b/7/2", None, "edge-1-7-9"),)
    revision = Revision(uuid7(NOW_S, b"r"), NOW_S + 1, "retract", (first.event_id,), "no longer probable", links)
    return [first, match("confirmed", supersedes=first.event_id), revision]


def test_facts_come_back_as_they_were(facts):
    assert facts_of(fact_messages(LETTERHEAD, facts, NOW_S)) == facts


def test_a_log_is_read_once_per_event_and_for_one_boot(facts, tmp_path):
    foreign = Letterhead("demo", "edge-1", "6.1")
    messages = fact_messages(LETTERHEAD, facts, NOW_S)
    messages += [messages[1], *fact_messages(foreign, [match("earlier run")], NOW_S)]
    log = tmp_path / "log.jsonl"
    with log.open("w") as lines:
        for number, message in enumerate(messages):
            entry = {"received_at_s": NOW_S + number, "retained": False, "topic": topic_of(message, "demo")}
            lines.write(json.dumps({**entry, "payload": json.loads(encode(message))}) + "\n")
    mail = read_mail(log, "7.1")
    assert mail.facts() == facts
    assert mail.repeats == 1
    assert mail.kinds == {"match_confirmed": 1, "match_provisional": 1, "revision": 1}
    assert [each.received_at_s for each in mail.matches("confirmed")] == [NOW_S + 1]
