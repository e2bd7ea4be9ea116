"""The outbox as a connection sees it, over a real store: order, what waits, what is put aside, how old rows are."""

import json
import sqlite3

import pytest

from edge_app.contract.envelope import uuid7
from edge_app.contract.messages import Gap
from edge_app.contract.topics import decode
from edge_app.delivery.backlog import PAGE_ROWS, PUT_ASIDE_S, Backlog
from edge_app.delivery.blame import Blame
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.store.opening import check_store
from edge_app.store.rows import Row
from edge_app.store.store import Store

LETTERHEAD = Letterhead("demo", "edge-1", "1")


def gap(shed):
    return gap_row(LETTERHEAD, shed, 1_800_000_000.0)


class World:
    """A store, its backlog, and a broker that acknowledges what it is told to."""

    def __init__(self, folder):
        self.store = Store(folder / "s.db")
        self.blame = Blame(offers=2, offer_again_s=10.0)
        self.backlog = Backlog(self.store, self.blame)
        self.number = 0

    def queue(self, *names, kind="match"):
        rows = [
            Row(uuid7(1e9, name.encode()), kind, f"crosslane/v1/demo/edge-1/event/{kind}", json.dumps(name).encode())
            for name in names
        ]
        self.store.commit({}, rows)

    def send(self, now_s, most=1000):
        """Numbers and names of what is sent now."""
        found = {}
        while len(found) < most and (row := self.backlog.peek(now_s)):
            self.number += 1
            found[self.number] = json.loads(row.payload)
            self.backlog.sent(self.number)
        return found

    def names(self, now_s):
        return list(self.send(now_s).values())


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()


def test_rows_go_once_in_order_over_many_pages(world):
    names = [f"fact {n}" for n in range(2 * PAGE_ROWS + 7)]
    world.queue(*names)
    sent = world.send(0.0)
    assert list(sent.values()) == names
    assert world.send(0.0) == {}
    world.queue("one more")
    more = world.send(0.0)
    assert list(more.values()) == ["one more"]
    world.backlog.settle([(number, None) for number in (*sent, *more)], 0.0)
    assert world.store.depth() == 0


def test_a_new_connection_offers_what_is_unacknowledged_in_order(world):
    world.queue("a", "b", "c", "d")
    sent = world.send(0.0)
    second = next(number for number, name in sent.items() if name == "b")
    world.backlog.settle([(second, None)], 0.0)
    world.backlog.rewind()
    assert world.names(0.0) == ["a", "c", "d"]


def test_what_was_refused_waits_and_the_others_do_not(world):
    world.queue("a", "b")
    a, b = world.send(0.0)
    (refused,) = world.backlog.settle([(a, "Not authorized"), (b, None)], 0.0)
    assert refused.row == 1
    world.queue("c")
    assert world.names(1.0) == ["c"]
    assert world.names(9.9) == []
    assert world.names(10.0) == ["a"]
    assert world.blame.problem(10.0).endswith("Not authorized; allow the topic in the broker's ACL")


def test_what_waits_is_not_offered_twice_by_a_new_connection(world):
    world.queue("a", "b")
    a, _ = world.send(0.0)
    world.backlog.settle([(a, "no")], 0.0)
    world.backlog.rewind()
    assert world.names(1.0) == ["b"]
    assert world.names(10.0) == ["a"]


def test_a_hopeless_row_is_put_aside_with_its_reason_and_a_gap(world, tmp_path):
    world.queue("a", "b")
    a, b = world.send(0.0)
    world.backlog.settle([(b, None), (a, "no")], 0.0)
    assert world.backlog.put_aside(gap, 1.0) == 0
    (again,) = world.send(10.0)
    world.backlog.settle([(again, "no")], 10.0)
    assert world.backlog.put_aside(gap, 10.0) == 1
    (row,) = world.store.pending(9)
    said = decode(row.topic, row.payload)
    assert isinstance(said, Gap)
    assert said.counts == {"match": 1}
    assert said.reason == "not taken by the broker: no; look into the broker's log"
    assert world.names(1000.0) == [json.loads(row.payload)]
    assert check_store(tmp_path / "s.db").endswith("1 unsent messages, 1 put aside")
    with sqlite3.connect(tmp_path / "s.db") as database:
        kept = database.execute("SELECT value, reason FROM aside").fetchall()
    assert kept == [(b'"a"', said.reason)]
    world.queue("a")  # decided again after a crash: still not sent
    assert world.store.depth() == 1


def test_rows_put_aside_together_are_one_account_per_reason(world):
    world.queue(*"abcde")
    for why in ("too large", "too large", "no message", "too large"):
        world.backlog.peek(0.0)
        world.backlog.pass_over(why, 0.0)
    assert world.names(0.0) == ["e"]
    assert world.backlog.put_aside(gap, 0.0) == 4
    counts = [decode(row.topic, row.payload).counts for row in world.store.pending(9) if row.kind == "gap"]
    assert counts == [{"match": 3}, {"match": 1}]
    world.queue("f")
    world.send(0.0, 2)
    world.backlog.peek(0.0)
    world.backlog.pass_over("too large", 0.0)
    assert world.backlog.put_aside(gap, PUT_ASIDE_S - 0.1) == 0
    assert world.backlog.put_aside(gap, PUT_ASIDE_S) == 1


def test_a_gap_itself_is_offered_for_ever(world):
    world.queue("lost", kind="gap")
    now_s = 0.0
    for _ in range(12):
        (number,) = world.send(now_s)
        world.backlog.settle([(number, "no")], now_s)
        world.backlog.put_aside(gap, now_s)
        now_s += 600.0
    assert world.store.depth() == 1


def test_a_row_that_was_shed_meanwhile_is_not_put_aside(world):
    world.queue("a")
    world.backlog.peek(0.0)
    world.backlog.pass_over("too large", 0.0)
    world.store.mark_sent([1])
    assert world.backlog.put_aside(gap, 0.0) == 0
    assert world.store.depth() == 0


def test_a_store_of_an_older_release_learns_to_put_aside(tmp_path):
    Store(tmp_path / "s.db").close()
    with sqlite3.connect(tmp_path / "s.db") as database:  # as release 0.1 made it
        database.execute("DROP TABLE aside")
        database.execute("ALTER TABLE outbox DROP COLUMN checksum")
        database.execute("PRAGMA user_version = 1")
    assert check_store(tmp_path / "s.db").endswith("0 unsent messages")
    world = World(tmp_path)
    world.queue("a")
    assert world.store.put_aside([1], "no", gap).counts == {"match": 1}
    world.store.close()
