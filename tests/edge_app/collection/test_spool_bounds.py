"""What the spool gives up, and when: by size, by age, for the facts, on a full disk."""

import resource

from spool_disk import Disk, add, keys_of
from tiny_shard import crop


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
