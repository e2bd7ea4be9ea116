"""The real thread between a pipeline and a real store: it never makes matching wait, and what it loses it counts."""

import json
import os
import threading
import time

import pytest
from tiny_passages import START_S, match, name, tracklet, unmatched, view

from edge_app.collection import collector as collecting
from edge_app.collection.opening import KeepsNothing, open_collector
from edge_app.collection.settings import CollectionSettings
from edge_app.contract.shard import read_shard
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.errors import StoreError
from edge_app.store.parts import Parts
from edge_app.store.saver import Saver
from edge_app.store.store import Store, StoreSettings


class Node:
    """What of a node the collection needs."""

    def __init__(self, folder, **settings) -> None:
        self.settings = CollectionSettings(
            **{"enabled": True, "folder": folder / "spool", "keep_free_bytes": 0, **settings}
        )
        self.store = Store(folder / "node.db", lineage="a")
        letterhead = Letterhead("town", "edge-1", self.store.boot_id)
        self.gap = lambda shed: gap_row(letterhead, shed, START_S)
        self.saver = Saver(self.store, StoreSettings(), self.gap)
        self.saver.start()
        self.still_open, self.closed = set(), False
        self.collector = open_collector(
            self.settings,
            ("town", "edge-1"),
            (self.store, Parts(self.store.load())),
            self.saver,
            gap=self.gap,
            open_tracks=lambda: self.still_open,
            classes=("car", "person"),
        )

    def shards(self):
        return [list(read_shard(shard.path)) for shard in self.collector.spool.closed()]

    def close(self) -> None:
        if not self.closed:
            self.collector.close()
            self.saver.close()
            self.store.close()
        self.closed = True


@pytest.fixture
def start(tmp_path):
    nodes = []

    def make(**settings):
        nodes.append(Node(tmp_path, **settings))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


def wait(condition, timeout_s: float = 20.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_from_a_step_to_a_shard(start) -> None:
    node = start()
    node.collector.note([view(1, number) for number in range(3)], [], [])
    node.collector.note([], [tracklet(1)], [])
    node.collector.note([view(2)], [tracklet(2)], [match(1), unmatched(2)])
    assert node.collector.settle(20.0, over=threading.Event())
    assert node.saver.flush(20.0)
    wait(lambda: node.collector.gauges()["crop_shards_waiting"])
    assert [crop.record.passage for crop in node.shards()[0]] == [name(1)] * 3 + [name(2)]
    assert node.store.load().keys() >= {"collection/open", "collection/ledger"}
    assert node.collector.counters()["crops_seen"] == node.collector.counters()["crops_kept"] == 4
    assert node.collector.gauges()["crop_shards_waiting"] == 1
    assert node.collector.gauges()["crop_spool_bytes"] > 4000
    assert node.collector.problem is None


def test_a_step_never_waits_and_what_finds_no_room_is_counted(start, monkeypatch) -> None:
    node = start()
    busy, go_on = threading.Event(), threading.Event()
    see = node.collector._keeper.see
    monkeypatch.setattr(node.collector._keeper, "see", lambda one: (busy.set(), go_on.wait(20), see(one)))
    monkeypatch.setattr(collecting, "QUEUE_BYTES", 5 * view(1).crop.nbytes)
    node.collector.note([view(1)], [tracklet(1)], [unmatched(1)])
    assert busy.wait(20)
    began_s = time.monotonic()
    for track in range(2, 302):
        node.collector.note([view(track)], [tracklet(track)], [unmatched(track)])
    assert time.monotonic() - began_s < 2.0
    stop = threading.Event()
    stop.set()
    node.collector.wait_for_room(stop)  # a recording would wait here
    assert node.collector.counters()["crops_lost_in_the_queue"] == 295
    go_on.set()
    assert node.collector.settle(20.0)
    assert node.collector.counters()["crops_seen"] == 301
    assert node.collector._keeper.counters["crops_kept"] <= 6
    assert node.collector.gauges()["crops_waiting_for_a_verdict"] == 0


def test_a_disk_that_hangs_makes_nobody_wait(start, monkeypatch) -> None:
    node = start()
    hangs, go_on = threading.Event(), threading.Event()
    fsync = os.fsync
    monkeypatch.setattr("edge_app.collection.segment.os.fsync", lambda fd: (hangs.set(), go_on.wait(20), fsync(fd)))
    node.collector.note([view(1)], [tracklet(1)], [unmatched(1)])
    assert hangs.wait(20)
    began_s = time.monotonic()
    for track in range(2, 50):
        node.collector.note([view(track)], [tracklet(track)], [unmatched(track)])
        assert node.collector.parts()
        assert node.collector.counters()["crops_seen"] == track
        assert node.collector.gauges()["crop_spool_bytes"] == 0
        assert node.collector.problem is None
    assert time.monotonic() - began_s < 2.0
    assert not node.collector.settle(0.1)
    go_on.set()
    assert node.collector.settle(20.0)
    assert node.collector.spool.accepted >= 40


def test_tracks_that_became_no_passage_are_swept(start, monkeypatch) -> None:
    monkeypatch.setattr(collecting, "SWEEP_S", 0.0)
    node = start()
    node.still_open = {name(1), name(2)}
    node.collector.note([view(1), view(2)], [], [])
    wait(lambda: node.collector.gauges()["crops_waiting_for_a_verdict"] == 2)
    node.still_open = {name(2)}
    node.collector.note([], [], [])
    wait(lambda: node.collector.counters().get("crops_of_noise") == 1)
    assert node.collector.parts()["collection/memory"].endswith(b"\n1")


def test_what_was_in_memory_is_counted_when_its_process_dies(start) -> None:
    node = start()
    node.collector.note([view(1), view(1, 1), view(2)], [tracklet(2)], [unmatched(2)])
    wait(lambda: node.collector.counters().get("crops_kept") == 1)
    node.saver.save(node.collector.parts(), [])  # as the pipeline does with its next step
    node.close()
    again = start()
    assert again.collector.counters()["crops_lost_with_the_process"] == 2
    assert again.saver.flush(20.0)
    again.close()
    assert start().collector.counters()["crops_lost_with_the_process"] == 0


def test_a_mistake_of_ours_does_not_end_it(start, monkeypatch) -> None:
    node = start()
    over = node.collector._keeper.over

    def stumble(one, now_s):
        if one.id == name(1):
            raise RuntimeError("a bug")
        over(one, now_s)

    monkeypatch.setattr(node.collector._keeper, "over", stumble)
    node.collector.note([view(1)], [tracklet(1)], [unmatched(1)])
    wait(lambda: node.collector.counters().get("crop_errors") == 1)
    node.collector.note([view(2)], [tracklet(2)], [unmatched(2)])
    assert node.collector.settle(20.0)
    assert node.collector.spool.accepted == 1


def test_a_store_that_fails_stops_neither_matching_nor_crops(start, monkeypatch) -> None:
    """Crops wait in the segment; no shard is uploaded of which the store does not know."""
    node = start()
    commit = node.store.commit

    def full(parts, rows=()):
        raise StoreError("the disk is full")

    monkeypatch.setattr(node.store, "commit", full)
    node.collector.note([view(1)], [tracklet(1)], [unmatched(1)])
    assert node.collector.settle(20.0, over=threading.Event())
    assert not node.saver.flush(0.3)
    assert node.collector.spool.closed() == []
    monkeypatch.setattr(node.store, "commit", commit)
    assert node.saver.flush(20.0)
    wait(node.collector.spool.closed)
    assert len(node.shards()[0]) == 1


def test_a_disk_without_room_is_a_problem_of_the_node_and_counted(start) -> None:
    node = start(keep_free_bytes=10**12)
    node.collector.note([view(1)], [tracklet(1)], [unmatched(1)])
    assert node.collector.settle(20.0)
    assert node.collector.counters()["crops_lost_to_the_disk"] == 1
    assert "bytes of the disk are free" in node.collector.problem


def test_on_a_full_disk_crops_go_first_and_every_fact_is_written(small_disk) -> None:
    """Facts and crops on one small disk, and somebody else's file that grows until there is no room for crops."""
    disk = small_disk(24)
    node = Node(disk, keep_free_bytes=10_000_000, shard_bytes=200_000, daily_bytes=10**11)
    tracks = iter(range(1000))

    def pass_by(passages: int) -> None:
        for _, track in zip(range(passages), tracks, strict=False):
            node.saver.save({f"fact/{track}": bytes(1000)}, [])
            node.collector.note([view(track, n) for n in range(3)], [tracklet(track)], [unmatched(track)])
        assert node.collector.settle(20.0)
        assert node.saver.flush(20.0), node.saver.problem

    try:
        with (disk / "other").open("wb") as other:
            while node.collector.problem is None:
                pass_by(10)
                other.write(bytes(300_000))
                other.flush()
        pass_by(10)
        assert "bytes of the disk are free" in node.collector.problem
        counters, passed = node.collector.counters(), next(tracks)
        assert counters["crops_kept"] + counters["crops_lost_to_the_disk"] == 3 * passed
        assert counters["crops_lost_in_the_spool"] > 0
        assert counters["crops_lost_to_the_disk"] >= 30
        assert sum(key.startswith("fact/") for key in node.store.load()) == passed
        gaps = [json.loads(one.payload) for one in node.store.pending(1000) if one.kind == "gap"]
        assert sum(gap["counts"]["crop"] for gap in gaps) == counters["crops_lost_in_the_spool"]
    finally:
        node.close()


def test_nothing_is_kept_where_crops_are_not_asked_for(start, tmp_path) -> None:
    node = start(enabled=False)
    assert isinstance(node.collector, KeepsNothing)
    node.collector.note([view(1)], [tracklet(1)], [unmatched(1)])
    assert node.collector.settle(0.0)
    assert not (tmp_path / "spool").exists()


def test_persons_that_cannot_be_told_are_said_at_the_start(tmp_path, caplog) -> None:
    store = Store(tmp_path / "node.db")
    settings = CollectionSettings(enabled=True, folder=tmp_path / "spool")
    saver = Saver(store, StoreSettings(), lambda shed: None)
    options = {"gap": lambda shed: None, "open_tracks": set, "classes": ("car",)}
    collector = open_collector(settings, ("town", "edge-1"), (store, Parts()), saver, **options)
    collector.close()
    store.close()
    assert "does not know the class person" in caplog.text
