"""Every kind of store keeps the same promises; a folder, a real S3 server, and fsspec's memory for all others."""

import hashlib
import multiprocessing
import threading
import time

import pytest
from seaweed import READER

from edge_app.contract.errors import (
    ObjectDamagedError,
    ObjectMissingError,
    ObjectStoreAwayError,
    ObjectStoreRefusedError,
    ObjectTakenError,
)
from edge_app.contract.objects import ObjectStoreSettings, open_store


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(params=["folder", "s3", "memory"])
def settings(request, tmp_path):
    if request.param == "folder":
        (tmp_path / "store").mkdir()
        return ObjectStoreSettings(url=str(tmp_path / "store"))
    if request.param == "memory":
        fsspec = pytest.importorskip("fsspec")
        fsspec.filesystem("memory").store.clear()
        return ObjectStoreSettings(url="memory://store/of-tests")
    return request.getfixturevalue("s3_settings")()


@pytest.fixture
def store(settings):
    return open_store(settings)


@pytest.fixture
def locks(store):
    if store.where.startswith("memory"):
        pytest.skip("keeps no locks")
    return store


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_bytes(bytes(range(256)) * 4000)
    return path


def test_what_is_put_is_confirmed_listed_read_back_and_deleted(store, shard, tmp_path):
    digest = sha256(shard.read_bytes())
    assert store.put("site/crops/node/a.tar", shard, digest)
    store.confirm("site/crops/node/a.tar", digest)
    listed = store.list("site/crops/")
    assert [(one.name, one.size) for one in listed] == [("site/crops/node/a.tar", 1_024_000)]
    assert store.list("other/") == []
    assert store.get("site/crops/node/a.tar", tmp_path / "back.tar", digest) == digest
    assert (tmp_path / "back.tar").read_bytes() == shard.read_bytes()
    store.delete("site/crops/node/a.tar")
    store.delete("site/crops/node/a.tar")
    assert store.list() == []
    store.close()


def test_a_name_that_exists_is_never_overwritten(store, shard, tmp_path):
    digest = sha256(shard.read_bytes())
    store.put("a.tar", shard, digest)
    assert store.put("a.tar", shard, digest) is False
    other = tmp_path / "other.tar"
    other.write_bytes(b"something else")
    with pytest.raises(ObjectTakenError, match="nothing is overwritten"):
        store.put("a.tar", other, sha256(b"something else"))
    store.confirm("a.tar", digest)


def test_a_file_that_is_not_what_its_digest_says_is_not_stored(store, shard):
    with pytest.raises(ObjectDamagedError):
        store.put("a.tar", shard, sha256(b"what it was"))
    assert store.list() == []


def test_another_digest_at_the_other_end_is_no_confirmation(store, shard, tmp_path):
    store.put("a.tar", shard, sha256(shard.read_bytes()))
    with pytest.raises(ObjectDamagedError, match=r"expected [0-9a-f]{16}"):
        store.confirm("a.tar", sha256(b"other"))
    with pytest.raises(ObjectDamagedError):
        store.get("a.tar", tmp_path / "back.tar", sha256(b"other"))
    with pytest.raises(ObjectDamagedError, match="more than the 1000 bytes"):
        store.get("a.tar", tmp_path / "back.tar", limit_bytes=1000)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["shard.tar"]


def test_what_is_not_there_is_missing(store, tmp_path):
    for ask in (
        lambda: store.confirm("a.tar", sha256(b"")),
        lambda: store.get("a.tar", tmp_path / "a.tar"),
        lambda: store.read("a.tar"),
    ):
        with pytest.raises(ObjectMissingError, match=r"a\.tar"):
            ask()


@pytest.mark.parametrize("name", ["../a", "/a", "a//b", ".a", "a/.guard", "a.part", "", "a/..", "ä", "a b", "a/" * 20])
def test_a_name_that_leads_elsewhere_is_refused(store, shard, name):
    for ask in (lambda: store.put(name, shard, sha256(b"")), lambda: store.delete(name), lambda: store.read(name)):
        with pytest.raises(ValueError, match="object name"):
            ask()


def test_the_pace_is_kept(store, shard):
    asked = []

    def pace(size):
        asked.append(size)
        return size / 2_000_000

    began_s = time.monotonic()
    store.put("a.tar", shard, sha256(shard.read_bytes()), pace)
    assert sum(asked) == 1_024_000
    assert time.monotonic() - began_s > 0.5


def test_a_transfer_ends_soon_after_it_is_stopped(settings, shard):
    stop = threading.Event()
    store = open_store(settings, stop)

    def pace(_size):
        threading.Timer(0.1, stop.set).start()
        return 30.0

    began_s = time.monotonic()
    with pytest.raises(ObjectStoreAwayError, match="stopped"):
        store.put("a.tar", shard, sha256(shard.read_bytes()), pace)
    assert time.monotonic() - began_s < 15
    assert open_store(settings).list() == []


def test_a_lock_is_created_once_and_changed_only_by_who_knows_it(locks):
    first = locks.create("lock", b"one")
    with pytest.raises(ObjectTakenError):
        locks.create("lock", b"two")
    assert locks.read("lock") == (b"one", first)
    second = locks.replace("lock", b"three", first)
    with pytest.raises(ObjectTakenError):
        locks.replace("lock", b"four", first)
    assert locks.read("lock") == (b"three", second)


def test_an_answer_that_was_lost_is_no_stranger(locks):
    """The first attempt arrived, its answer did not, and the second finds its own bytes there."""
    etag = locks.create("lock", b"mine")
    assert locks.create("lock", b"mine") == etag
    renewed = locks.replace("lock", b"mine too", etag)
    assert locks.replace("lock", b"mine too", etag) == renewed


def test_other_kinds_keep_no_locks():
    pytest.importorskip("fsspec")
    store = open_store(ObjectStoreSettings(url="memory://store"))
    with pytest.raises(ObjectStoreRefusedError, match="keeps no locks"):
        store.create("lock", b"")
    with pytest.raises(ObjectStoreRefusedError, match="keeps no locks"):
        store.replace("lock", b"", "etag")


def _race(settings, start, number, won):
    store = open_store(settings)
    start.wait()
    for turn in range(5):
        try:
            store.create(f"turn{turn}", f"writer {number}".encode())
        except ObjectTakenError:
            continue
        won.put(turn)


def test_of_racing_processes_one_wins_each_lock(locks, settings):
    context = multiprocessing.get_context("spawn")
    start, won = context.Barrier(4), context.Queue()
    racers = [context.Process(target=_race, args=(settings, start, number, won)) for number in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert sorted(won.get(timeout=5) for _ in range(5)) == list(range(5))
    assert won.empty()


def test_s3_refuses_in_words_of_the_settings(s3_settings, shard, monkeypatch):
    digest = sha256(shard.read_bytes())
    monkeypatch.setenv("S3_WRONG", "wrong")
    with pytest.raises(ObjectStoreRefusedError, match="key_env and secret_env"):
        open_store(s3_settings(secret_env="S3_WRONG")).list()
    with pytest.raises(ObjectStoreRefusedError, match="key_env and secret_env"):
        open_store(s3_settings(key_env="S3_WRONG")).put("a.tar", shard, digest)
    with pytest.raises(ObjectStoreRefusedError, match="make the bucket, or correct url"):
        open_store(s3_settings(url="s3://not-there")).list()
    for name, value in READER.items():
        monkeypatch.setenv(f"S3_READER_{name.upper()}", value)
    reader = open_store(s3_settings(key_env="S3_READER_KEY", secret_env="S3_READER_SECRET"))
    assert reader.list() == []
    with pytest.raises(ObjectStoreRefusedError, match="what they may do in this bucket"):
        reader.put("a.tar", shard, digest)


def test_s3_without_keys_says_so(s3_settings, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ObjectStoreRefusedError, match="key_env and secret_env"):
        open_store(s3_settings(key_env=None, secret_env=None)).list()
    with pytest.raises(ObjectStoreRefusedError, match="key_env: environment variable S3_UNSET is not set"):
        open_store(s3_settings(key_env="S3_UNSET"))


def test_s3_that_nobody_serves_is_away(s3_settings):
    with pytest.raises(ObjectStoreAwayError):
        open_store(s3_settings(endpoint="http://127.0.0.1:9")).list()


def test_a_listing_of_several_pages_is_whole(s3_settings, seaweed, monkeypatch):
    monkeypatch.setattr("edge_app.contract.objects.s3.PAGE", 3)
    prefix = s3_settings().url.split("/", 3)[3]
    names = [f"many/{number:04}.tar" for number in range(7)]
    for name in (*names, "many/not ours.txt"):
        seaweed.client.put_object(Bucket="crops", Key=f"{prefix}/{name}", Body=b"")
    assert [one.name for one in open_store(s3_settings()).list("many/")] == names


def test_an_object_without_a_checksum_is_read_back(s3_settings, seaweed):
    prefix = s3_settings().url.split("/", 3)[3]
    client = seaweed.client
    started = client.create_multipart_upload(Bucket="crops", Key=f"{prefix}/a.tar")
    part = client.upload_part(
        Bucket="crops", Key=f"{prefix}/a.tar", UploadId=started["UploadId"], PartNumber=1, Body=b"bytes"
    )
    client.complete_multipart_upload(
        Bucket="crops",
        Key=f"{prefix}/a.tar",
        UploadId=started["UploadId"],
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    store = open_store(s3_settings())
    store.confirm("a.tar", sha256(b"bytes"))
    with pytest.raises(ObjectDamagedError):
        store.confirm("a.tar", sha256(b"other"))


def test_old_multipart_uploads_are_aborted_and_young_ones_left(s3_settings, seaweed, monkeypatch):
    prefix = s3_settings().url.split("/", 3)[3]
    seaweed.client.create_multipart_upload(Bucket="crops", Key=f"{prefix}/a.tar")
    store = open_store(s3_settings())
    assert store.sweep() == 0
    monkeypatch.setattr("edge_app.contract.objects.s3.LEFT_BEHIND_S", -2.0)
    assert store.sweep() == 1
    assert store.sweep() == 0
