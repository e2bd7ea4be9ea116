"""The real spool on a real store: what is accepted is found exactly once, whatever stops and whatever is full."""

import os
import resource
import stat
from collections import Counter
from pathlib import Path

import pytest
from tiny_shard import crop

from edge_app.collection.settings import CollectionSettings
from edge_app.collection.spool import DAY_S, Spool
from edge_app.contract.errors import ShardError
from edge_app.contract.shard import ShardName, read_shard
from edge_app.errors import StoreError
from edge_app.store.parts import Parts
from edge_app.store.store import Store


class Disk:
    """A folder with a store and a spool. Leaving one without `commit` is what a kill does."""

    def __init__(self, folder: Path, **settings) -> None:
        self.settings = CollectionSettings(
            enabled=True, folder=folder / "spool", **{"keep_free_bytes": 0, "shard_bytes": 100_000, **settings}
        )
        self.path, self.now_s, self.told = folder / "node.db", 1000.0, []
        self.store, self.spool = None, None
        self.start()

    def start(self) -> Spool:
        """As after a kill: nothing of the last process is asked for anything."""
        if self.store is not None:
            self.spool.close()
            self.store.close()
        self.store = Store(self.path, lineage="a1")
        self.parts = Parts(self.store.load())
        owner = ("edge-1", self.store.boot_id)
        stored = lambda key: self.store.part(key)  # noqa: E731, PLW0108  looked up each time: a test makes it fail
        self.spool = Spool(self.settings, owner, self.parts, stored=stored, time_s=lambda: self.now_s)
        return self.spool

    def commit(self) -> None:
        parts, losses = self.spool.take()
        self.store.commit(parts)
        self.told += losses

    def close_shard(self) -> str:
        """Everything up to a shard that can be uploaded; its name."""
        self.commit()
        self.spool.seal()
        self.commit()
        self.spool.tend()
        return self.spool.closed()[-1].name

    def keys(self) -> list[str]:
        """Every crop that an upload would bring, now and when the segment is closed."""
        self.spool.seal()
        self.commit()
        self.spool.tend()
        return [one.record.key for shard in self.spool.closed() for one in read_shard(shard.path, shard.sha256)]

    def files(self) -> list[str]:
        return sorted(os.listdir(self.settings.folder))


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


def keys_of(*tracks: int) -> list[str]:
    return [crop(track, number).record.key for track in tracks for number in range(3)]


def add(disk: Disk, track: int, **changes) -> bool:
    return disk.spool.add([crop(track, number, **changes) for number in range(3)])


def test_from_a_crop_to_its_confirmation(disk) -> None:
    assert add(disk, 1)
    assert add(disk, 2, camera="west")
    disk.commit()
    assert disk.spool.closed() == []
    name = disk.close_shard()
    (shard,) = disk.spool.closed()
    assert (shard.name, shard.path.name, shard.bytes) == (name, name, shard.path.stat().st_size)
    assert ShardName.parse(name).node == "edge-1"
    passages = [one.record.passage for one in read_shard(shard.path, shard.sha256)]
    assert passages == ["edge-1/east/a1b2c3.7/1"] * 3 + ["edge-1/west/a1b2c3.7/2"] * 3
    assert shard.contents.camera_hours == {"east 2023-11-14T22": 3, "west 2023-11-14T22": 3}
    assert (shard.contents.crops, shard.contents.last_s - shard.contents.first_s) == (6, 3.0)
    assert disk.spool.size_bytes() == shard.bytes
    assert disk.spool.confirmed(name)
    assert not disk.spool.confirmed(name)
    assert disk.spool.closed() == []
    assert disk.spool.size_bytes() == 0
    disk.commit()
    disk.spool.tend()
    assert disk.files() == []
    assert disk.spool.settled
    assert (disk.spool.accepted, disk.told) == (6, [])


def test_files_are_their_owners_alone(disk) -> None:
    os.umask(before := os.umask(0))
    try:
        os.umask(0)
        add(disk, 1)
        disk.close_shard()
        add(disk, 2)
    finally:
        os.umask(before)
    assert stat.S_IMODE(disk.settings.folder.stat().st_mode) == 0o700
    modes = {stat.S_IMODE((disk.settings.folder / name).stat().st_mode) for name in disk.files()}
    assert (len(disk.files()), modes) == (2, {0o600})
    disk.settings.folder.chmod(0o755)
    disk.start()
    assert stat.S_IMODE(disk.settings.folder.stat().st_mode) == 0o700


STAGES = {
    "written, never accepted": ([1], lambda disk: add(disk, 2)),
    "accepted": ([1, 2], lambda disk: (add(disk, 2), disk.commit())),
    "closed, the store does not know": ([1], lambda disk: disk.spool.seal()),
    "closed, and the next one begun": ([1], lambda disk: (disk.spool.seal(), add(disk, 2))),
    "closed, the store knows": ([1], lambda disk: (disk.spool.seal(), disk.commit())),
    "closed, and the next one accepted": ([1, 2], lambda disk: (disk.spool.seal(), add(disk, 2), disk.commit())),
    "can be uploaded": ([1], lambda disk: disk.close_shard()),
    "uploaded, the store does not know": ([], lambda disk: disk.spool.confirmed(disk.close_shard())),
    "uploaded, the store knows": ([], lambda disk: (disk.spool.confirmed(disk.close_shard()), disk.commit())),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kills", [1, 3])
def test_killed_at_any_stage_everything_accepted_is_there_exactly_once(disk, stage, kills) -> None:
    expected, go_on = STAGES[stage]
    add(disk, 1)
    disk.commit()
    go_on(disk)
    for _ in range(kills):
        disk.start()
    assert disk.keys() == keys_of(*expected)
    assert disk.told == []
    assert add(disk, 9)  # and it goes on
    assert disk.keys() == keys_of(*expected, 9)
    assert disk.spool.accepted == 3 * len({1, *expected, 9})


def test_what_was_given_up_is_told_though_the_process_died_before_it_could(disk) -> None:
    add(disk, 1)
    disk.close_shard()
    disk.now_s += 8 * DAY_S
    disk.spool.tend()
    assert disk.spool.closed() == []
    disk.start()
    disk.start()
    disk.commit()
    disk.spool.tend()
    assert [loss.counts for loss in disk.told] == [{"crop": 3}]
    assert disk.files() == []
    disk.start()
    disk.commit()
    assert len(disk.told) == 1


@pytest.mark.parametrize("how", ["a byte", "its end", "all of it"])
def test_a_segment_that_the_disk_changed_is_lost_and_told(disk, how) -> None:
    add(disk, 1)
    disk.close_shard()
    add(disk, 2)
    disk.commit()
    path = disk.settings.folder / "segment-000002.open"
    content = path.read_bytes()
    if how == "a byte":
        path.write_bytes(content[:3000] + bytes([content[3000] ^ 1]) + content[3001:])
    elif how == "its end":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    disk.start()
    assert disk.spool.counters["crops_lost_in_the_spool"] == 3
    assert disk.keys() == keys_of(1)
    assert [(loss.counts, loss.reason) for loss in disk.told] == [({"crop": 3}, "a segment was damaged")]


def test_a_segment_that_changes_while_it_is_filled_never_becomes_a_shard(disk) -> None:
    add(disk, 1)
    path = disk.settings.folder / "segment-000001.open"
    content = path.read_bytes()
    path.write_bytes(content[:3000] + bytes([content[3000] ^ 1]) + content[3001:])
    assert disk.keys() == []
    assert [loss.counts for loss in disk.told] == [{"crop": 3}]


def test_a_store_that_was_lost_costs_no_shard(disk) -> None:
    for track in (1, 2):
        add(disk, track)
        name = disk.close_shard()
    add(disk, 3)
    disk.commit()
    disk.spool.close()
    disk.store.close()
    disk.store = None
    for path in disk.path.parent.glob("node.db*"):
        path.unlink()
    (disk.settings.folder / name.replace("a1", "zz")).write_bytes(b"no shard")
    disk.start()
    assert disk.keys() == keys_of(1, 2)
    assert [(loss.counts, loss.reason) for loss in disk.told] == [({"crop": 3}, "the store that knew them was lost")]
    assert add(disk, 4)
    assert len(set(disk.keys())) == 9


def test_a_store_that_is_slow_or_away_only_delays(disk, monkeypatch) -> None:
    add(disk, 1)
    disk.commit()
    disk.spool.seal()

    def away(_):
        raise StoreError("the disk is away")

    monkeypatch.setattr(disk.store, "part", away)
    disk.spool.tend()
    assert disk.spool.closed() == []
    assert "the disk is away" in disk.spool.problem
    monkeypatch.undo()
    disk.spool.tend()
    assert disk.spool.closed() == []  # it was not committed
    disk.commit()
    disk.spool.tend()
    assert len(disk.spool.closed()) == 1
    assert disk.spool.problem is None


def test_a_shard_is_closed_by_size_or_by_age(disk) -> None:
    track = 0
    while not disk.spool.closed():
        track += 1
        assert add(disk, track)
        disk.commit()
        disk.spool.tend()
    assert 100_000 <= disk.spool.closed()[0].bytes < 130_000
    add(disk, 1000)
    disk.commit()
    disk.now_s += 899
    disk.spool.tend()
    disk.commit()
    disk.spool.tend()
    assert len(disk.spool.closed()) == 1
    disk.now_s += 2
    disk.spool.tend()
    disk.commit()
    disk.spool.tend()
    assert sum(shard.contents.crops for shard in disk.spool.closed()) == 3 * track + 3
    disk.now_s += 10_000
    disk.spool.tend()  # an empty one is none
    assert len(disk.spool.closed()) == 2


def test_the_oldest_shards_give_way_and_are_told(tmp_path) -> None:
    disk = Disk(tmp_path, spool_bytes=1_000_000)
    for track in range(120):
        assert add(disk, track)
        if track % 10 == 9:
            disk.close_shard()
    assert disk.spool.size_bytes() <= 1_000_000
    kept = disk.keys()
    lost = sum(loss.counts["crop"] for loss in disk.told)
    assert lost + len(kept) == 360 == disk.spool.accepted
    assert kept == keys_of(*range(120))[lost:]
    assert all("the spool is above" in loss.reason for loss in disk.told)
    assert disk.told[0].first_queued_at_s == crop(0, 0).record.captured_at_s
    assert disk.spool.counters["crops_lost_in_the_spool"] == lost


def test_crops_leave_the_disk_to_the_facts(disk, monkeypatch) -> None:
    """Below `keep_free_bytes` shards go, the oldest first; then no crops are taken, and that is said."""
    monkeypatch.setattr("edge_app.collection.spool.shutil.disk_usage", lambda _: free)
    free = type("Usage", (), {"free": 10**12})
    settings = disk.settings.model_copy(update={"keep_free_bytes": 10**6})
    monkeypatch.setattr(disk.spool, "_settings", settings)
    add(disk, 1)
    disk.close_shard()
    free = type("Usage", (), {"free": 999_999})
    assert not add(disk, 2)
    assert disk.spool.closed() == []
    assert "less than 1000000 bytes of the disk are free" in disk.spool.problem
    disk.commit()
    assert [loss.counts for loss in disk.told] == [{"crop": 3}]
    free = type("Usage", (), {"free": 10**12})
    assert add(disk, 2)
    assert disk.spool.problem is None
    assert disk.keys() == keys_of(2)


def test_a_disk_that_is_full_in_the_middle_of_a_crop(disk) -> None:
    """The kernel takes a part of the write and refuses the rest; what was there before stays whole."""
    add(disk, 1)
    disk.commit()
    size = disk.spool.size_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5000, hard))
    try:
        assert not add(disk, 2)
        assert "crops are lost: File too large" in disk.spool.problem
        assert disk.spool.size_bytes() == size == (disk.settings.folder / "segment-000001.open").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 500, hard))
        disk.spool.seal()  # not even the end mark
        assert "a shard cannot be closed" in disk.spool.problem
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert disk.start().problem is None
    assert add(disk, 3)
    assert disk.keys() == keys_of(1, 3)
    assert disk.told == []


def test_a_crop_that_no_reader_takes_is_a_mistake_of_ours(disk) -> None:
    with pytest.raises(ShardError):
        disk.spool.add([crop(1).__class__(crop(1).record, b"no picture")])
    assert disk.files() == []


def test_one_process_a_folder(disk, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(StoreError, match="another process is running on it"):
        Spool(disk.settings, ("n", "1"), Parts(), stored=lambda _: None, time_s=lambda: 0.0)
    (tmp_path / "file").write_text("")
    wrong = disk.settings.model_copy(update={"folder": tmp_path / "file" / "spool"})
    with pytest.raises(StoreError, match=r"collection\.folder"):
        Spool(wrong, ("n", "1"), Parts(), stored=lambda _: None, time_s=lambda: 0.0)


def test_stored_parts_that_cannot_be_read_are_set_aside(disk) -> None:
    add(disk, 1)
    name = disk.close_shard()
    add(disk, 2)
    disk.commit()
    disk.store.commit({"collection/open": b"nonsense", f"collection/shard/{name}": b"nonsense"})
    disk.start()
    assert set(disk.parts.unreadable) == {"collection/open", f"collection/shard/{name}"}
    assert disk.keys() == keys_of(1)
    assert Counter(loss.reason for loss in disk.told) == {"the store that knew them was lost": 1}
