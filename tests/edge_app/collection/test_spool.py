"""The real spool on a real store: what is accepted is found exactly once, whatever stops and whatever is full."""

import os
import stat
from collections import Counter

import pytest
from spool_disk import add, keys_of
from tiny_shard import crop

from edge_app.collection.spool import DAY_S, Spool
from edge_app.contract.errors import ShardError
from edge_app.contract.shard import ShardName, read_shard
from edge_app.errors import StoreError
from edge_app.store.parts import Parts


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
    disk.spool = disk.store = None
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


def test_a_start_that_fails_leaves_the_folder_to_the_next(disk, monkeypatch) -> None:
    add(disk, 1)
    disk.commit()
    with monkeypatch.context() as broken:
        broken.setattr("edge_app.collection.segment.os.truncate", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O")))
        with pytest.raises(StoreError, match="I/O; can it be written"):
            disk.start()
    assert disk.start().accepted == 3


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
