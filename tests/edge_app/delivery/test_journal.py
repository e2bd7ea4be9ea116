"""The real journal with real aggregates: what goes into one transaction, and when one is due."""

import json

import numpy as np
import pytest

from edge_app.associate.facts import End, Match, Unmatched
from edge_app.associate.settings import LinkSettings, TransitSettings
from edge_app.contract.envelope import uuid7
from edge_app.delivery.aggregate import Aggregates, AggregateSettings
from edge_app.delivery.coverage import read_coverage
from edge_app.delivery.journal import Journal
from edge_app.delivery.outgoing import Letterhead
from edge_app.types import Tracklet

START_S = 1_700_000_040.0  # a multiple of 60
WALL_S = 1_790_000_000.0
LINK = LinkSettings(from_camera="a", to_camera="b", transit=TransitSettings(min_s=1, max_s=40))


class Saver:
    """Keeps every step it is given."""

    def __init__(self):
        self.steps = []

    def save(self, parts, rows):
        self.steps.append((dict(parts), list(rows)))


@pytest.fixture
def saver():
    return Saver()


@pytest.fixture
def journal(saver):
    settings = AggregateSettings(interval_s=60, settle_s=10, republish_s=1)
    return Journal(saver, Letterhead("demo", "edge-1", "1"), Aggregates(settings, "ab", [LINK]), lambda: WALL_S)


def tracklet(name, entry_s):
    return Tracklet(
        f"n/{name}", "n", name[0], "car", START_S + entry_s, START_S + entry_s + 2, 0.1, "left", "right", 0.0,
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), "v1", np.zeros(0), np.zeros((0, 4), np.float32),
    )  # fmt: skip


def match(to):
    ends = (End("a", "n/a1", START_S + 4), End("b", f"n/{to}", START_S + 20))
    numbers = (16.0, 0.9, 1.0, None, 5.0, None)
    return Match(uuid7(1, to.encode()), START_S + 25, "confirmed", "g", "a--b", *ends, "car", *numbers, "v")


def test_facts_aggregates_and_state_are_one_step(journal, saver):
    journal.note(START_S + 30, [tracklet("a1", 2), tracklet("b1", 20)], [match("b1")], "ab")
    assert journal.write(START_S + 30, {"state": b"1"}) == []
    ((parts, rows),) = saver.steps
    assert parts["state"] == b"1"
    assert {key for key in parts if "passage" in key} == {"aggregate/passage/n/a1", "aggregate/passage/n/b1"}
    assert [row.kind for row in rows] == ["match"]
    assert json.loads(rows[0].payload)["to"]["track"] == "n/b1"
    journal.write(START_S + 31, {})
    assert saver.steps[-1] == ({}, [])  # nothing is written twice


def test_it_is_due_at_once_with_news_and_else_every_second(journal):
    journal.write(START_S, {})
    journal.note(START_S + 0.5, [], [], "ab")
    assert not journal.is_due(START_S + 0.5)
    assert journal.is_due(START_S + 1.0)
    assert journal.is_due(START_S - 5.0)  # another recording began
    journal.note(START_S + 0.5, [tracklet("a1", 0)], [], "ab")
    assert journal.is_due(START_S + 0.5)
    journal.write(START_S + 0.5, {})
    end = End("a", "n/a1", START_S)
    journal.note(START_S + 0.6, [], [Unmatched("e", START_S, "g", end, "car", 0.9, 1.0)], "ab")
    assert journal.is_due(START_S + 0.6)


def test_coverage_goes_with_every_step(journal, saver):
    for second in range(3):
        journal.note(START_S + second, [], [], "ab")
        journal.write(START_S + second, {})
    covered = [read_coverage(parts[f"aggregate/coverage/{int(START_S // 60)}"]) for parts, _ in saver.steps[1:]]
    assert covered == [{"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 2.0}]


def test_aggregates_that_are_due_go_out_and_come_back(journal, saver):
    for second in range(75):
        journal.note(START_S + second, [], [], "ab")
        said = journal.write(START_S + second, {})
        if said:
            break
    assert {row.kind for row in saver.steps[-1][1]} == {"flow", "traveltime", "od"}
    assert len(said) == len(saver.steps[-1][1])
    assert second == 70


def test_the_end_says_the_last_interval(journal, saver):
    for second in range(31):
        journal.note(START_S + second, [], [], "ab")
    said = journal.finish(START_S + 31, {"state": b"last"})
    assert sorted(one.message for one in said) == ["flow", "flow", "od", "traveltime"]
    parts, rows = saver.steps[-1]
    assert parts["state"] == b"last"
    assert len(rows) == len(said)
