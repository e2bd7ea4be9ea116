"""The real journal and store: no fact, name or number stops the others, and nothing is lost in silence."""

import json
import math

import pytest
from hands import Hands

from edge_app.associate.facts import EffectiveLink, End, Match, Place, Revision
from edge_app.associate.settings import LinkSettings, TransitSettings
from edge_app.contract import topics
from edge_app.contract.aggregates import Flow, OriginDestination
from edge_app.contract.envelope import uuid7
from edge_app.contract.messages import Gap
from edge_app.contract.messages import Match as MatchMessage
from edge_app.delivery.aggregate import Aggregates, AggregateSettings
from edge_app.delivery.journal import Journal
from edge_app.delivery.outgoing import Letterhead
from edge_app.store.store import Store

NOW_S = 1_790_000_100.0  # a multiple of 60
SETTINGS = AggregateSettings(interval_s=60, settle_s=0, republish_s=1, keep_s=600)


def links_between(cameras, most):
    ways = [(one, other) for one in cameras for other in cameras if one != other][:most]
    return [LinkSettings(from_camera=a, to_camera=b, transit=TransitSettings(min_s=1, max_s=40)) for a, b in ways]


class Straight:
    """To the disk at once, on this thread."""

    def __init__(self, store):
        self._store = store

    def save(self, parts, rows, *_):
        self._store.commit(parts, rows)


class Desk:
    """A journal on a store, and what a subscriber would get of it."""

    def __init__(self, folder, cameras=("a", "b"), most_links=2):
        self.hands = Hands(NOW_S)
        self.store = Store(folder / "s.db", self.hands.clock())
        self.letterhead = Letterhead("demo", "edge-1", self.store.boot_id)
        self.cameras = list(cameras)
        aggregates = Aggregates(SETTINGS, self.cameras, links_between(self.cameras, most_links))
        self.journal = Journal(Straight(self.store), self.letterhead, aggregates, lambda: self.hands.wall_s)

    def run(self, until_s, facts=(), tracklets=()):
        """Capture time from now on, second by second."""
        while self.hands.wall_s < until_s:
            self.hands.run(1)
            self.journal.note(self.hands.wall_s, list(tracklets), list(facts), self.cameras)
            self.journal.write(self.hands.wall_s, {})
            facts = tracklets = ()

    def said(self, model=object):
        messages = [topics.decode(row.topic, row.payload) for row in self.store.pending(10**6)]
        return [message for message in messages if isinstance(message, model)]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def match(number=1, **changes):
    place = Place("gate", "right", (0.0, 1.0, 2.0, 3.0), (4.0, 5.0, 6.0, 7.25), 960, 540)
    fields = {
        "event_id": uuid7(NOW_S, b"%d" % number), "observed_at_s": NOW_S, "state": "confirmed", "global_id": "g",
        "link": "a--b", "from_": End("a", f"edge-1/a/1/{number}", NOW_S - 30, NOW_S - 33, place),
        "to": End("b", f"edge-1/b/1/{number}", NOW_S - 10, NOW_S - 5, place), "class_name": "car", "transit_s": 20.0,
        "posterior": 0.98, "margin": 3.5, "runner_up": None, "decision_delay_s": 10.0, "supersedes": None,
        "embedding_version": "v0", "waited_for": "open_tracks",
    }  # fmt: skip
    return Match(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"posterior": math.nan}, "posterior"),
        ({"transit_s": math.inf}, "transit_s"),
        ({"observed_at_s": -5.0}, "observed_at_s"),  # a recording of before 1970
        ({"link": "a-b"}, "link"),
        ({"event_id": "7"}, "event_id"),
        ({"waited_for": "Godot"}, "waited_for"),
    ],
)
def test_one_fact_that_cannot_be_said_costs_itself_alone(desk, caplog, changes, why):
    desk.run(NOW_S + 3, [match(1), match(2, **changes), match(3)])
    assert [m.from_.track[-1] for m in desk.said(MatchMessage)] == ["1", "3"]
    (gap,) = desk.said(Gap)
    assert gap.counts == {"match": 1}
    assert why in gap.reason
    assert why in caplog.text
    assert desk.letterhead.refusals.total == 1


def test_a_revision_of_any_length_and_any_text_is_said(desk):
    links = tuple(EffectiveLink(f"{'t' * 90}{i}", None, "g" * 90) for i in range(2000))
    fact = Revision(uuid7(NOW_S, b"r"), NOW_S, "split", (uuid7(NOW_S, b"m"),), "why\n" * 200 + "\udcff", links)
    desk.run(NOW_S + 1, [fact])
    assert desk.said(Gap) == []
    assert sum(len(m.effective_links) for m in desk.said()) == 2000


def test_a_match_says_where_it_was_and_what_it_waited_for(desk, validate):
    desk.run(NOW_S + 1, [match()])
    (row,) = desk.store.pending(9)
    message = validate(row.topic, row.payload)
    assert message.waited_for == "open_tracks"
    assert (message.from_.entry_time_s, message.to.exit_time_s) == (NOW_S - 33, NOW_S - 5)
    assert json.loads(row.payload)["from"]["place"] == {
        "entry_zone": "gate", "exit_zone": "right", "entry_box": [0.0, 1.0, 2.0, 3.0],
        "exit_box": [4.0, 5.0, 6.0, 7.2], "frame_width_px": 960, "frame_height_px": 540,
    }  # fmt: skip


@pytest.mark.parametrize(("cameras", "links"), [(1, 0), (20, 380), (64, 0), (64, 500), (200, 1000)])
def test_the_first_interval_of_a_site_of_any_size_is_written(tmp_path, cameras, links):
    """In 0.1 `od` of 20 linked cameras, or of 64 without one match, raised and ended the node with 65 for good."""
    desk = Desk(tmp_path, [f"camera-{number:03}-{'x' * 20}" for number in range(cameras)], links)
    desk.run(NOW_S + 63)
    assert desk.said(Gap) == []
    assert len(desk.said(Flow)) == cameras
    pages = desk.said(OriginDestination)
    assert sum(len(page.match_rates) for page in pages) == links
    assert len({page.event_id for page in pages}) == len(pages) == pages[0].pages


def test_what_is_too_large_even_so_is_a_gap(desk, monkeypatch):
    monkeypatch.setattr(topics, "PAYLOAD_LIMIT_BYTES", 900)
    desk.run(NOW_S + 1, [match()])
    monkeypatch.undo()
    desk.run(NOW_S + 3)
    (gap,) = desk.said(Gap)
    assert gap.counts["match"] == 1
    assert "at most" in gap.reason
