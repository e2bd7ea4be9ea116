"""What is particular to a folder: the disk below, rights, what is left behind, and who holds the guard."""

import fcntl
import hashlib
import os
import resource
import threading

import pytest

from edge_app.contract.errors import ObjectStoreAwayError, ObjectStoreRefusedError
from edge_app.contract.objects import ObjectStoreSettings, open_store
from edge_app.contract.objects.folder import Folder


@pytest.fixture
def root(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_bytes(b"x" * 300_000)
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def folder(root, silent_s=5.0):
    return Folder(root, threading.Event(), silent_s)


def test_a_folder_that_is_not_there_is_away_and_never_made(tmp_path, shard):
    store = open_store(ObjectStoreSettings(url=str(tmp_path / "unmounted")))
    for ask in (
        lambda: store.put("a/b.tar", shard, digest(shard)),
        store.list,
        lambda: store.delete("a"),
        lambda: store.confirm("a", "00"),
        lambda: store.create("lock", b""),
    ):
        with pytest.raises(ObjectStoreAwayError, match="make it, or mount"):
            ask()
    assert not (tmp_path / "unmounted").exists()


def test_what_is_being_written_is_not_listed_and_swept_after_a_day(root, shard):
    store = folder(root)
    store.put("site/a.tar", shard, digest(shard))
    left = root / "site" / ".b.tar.0123abcd.part"
    left.write_bytes(b"half")
    assert [one.name for one in store.list()] == ["site/a.tar"]
    assert store.sweep() == 0
    os.utime(left, (left.stat().st_atime - 90_000, left.stat().st_mtime - 90_000))
    assert store.sweep() == 1
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == [".guard", "a.tar"]


def test_foreign_files_are_told_and_left_alone(root, caplog):
    (root / "read me.txt").write_text("a person was here")
    assert folder(root).list() == []
    assert "1 files are none of ours" in caplog.text


def test_others_than_owner_and_group_read_nothing(root, shard):
    before = os.umask(0)
    try:
        folder(root).put("site/a.tar", shard, digest(shard))
    finally:
        os.umask(before)
    assert (root / "site" / "a.tar").stat().st_mode & 0o007 == 0
    assert (root / "site").stat().st_mode & 0o007 == 0


def test_a_disk_that_takes_no_more_is_away_and_keeps_no_half(root, shard):
    """A limit of this process's files stands for the disk; the error is the system's own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(ObjectStoreAwayError, match=r"a\.tar: File too large"):
            folder(root).put("a.tar", shard, digest(shard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(root.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to leave root's rights")
def test_a_folder_of_somebody_else_is_refused(root, shard):
    os.seteuid(65534)
    try:
        with pytest.raises(ObjectStoreRefusedError, match="must be allowed to write there"):
            folder(root).create("lock", b"x")
        with pytest.raises(ObjectStoreRefusedError, match="must be allowed to write there"):
            folder(root).list()
    finally:
        os.seteuid(0)


def test_a_guard_that_is_held_is_waited_for_and_then_told(root):
    store = folder(root, silent_s=0.2)
    etag = store.create("lock", b"one")
    with (root / ".guard").open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ObjectStoreAwayError, match=r"somebody holds \.guard"):
            store.replace("lock", b"two", etag)
    store.replace("lock", b"two", etag)


def test_an_object_too_large_for_memory_is_none_of_ours(root):
    (root / "lock").write_bytes(b"x" * 1_100_000)
    with pytest.raises(ObjectStoreRefusedError, match="none of ours"):
        folder(root).read("lock")
