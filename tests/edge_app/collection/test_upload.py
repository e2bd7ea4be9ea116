"""The uploader and real stores that are away, slow, wrong and killed: nothing is lost, nothing is there twice."""

import hashlib
import json
import time

import pytest
from bad_line import BadLine
from hands import Hands
from seaweed import BUCKET, READER

from edge_app.clock import Clock
from edge_app.collection.closed import ClosedShard
from edge_app.collection.segment import Contents
from edge_app.collection.store_check import check_upload
from edge_app.collection.upload import Uploader
from edge_app.collection.upload_settings import UploadSettings
from edge_app.contract.objects import ObjectStoreSettings
from edge_app.errors import ConfigurationError, UploadError, UploadRefusedError

OWNER = ("town", "edge-1")


class Waiting:
    """Shards in a folder, as a spool keeps them."""

    def __init__(self, folder):
        self.folder, self.lost = folder, []
        folder.mkdir()
        self.shards = {}

    def add(self, number=0, size=300_000):
        content = bytes([number]) * size
        digest = hashlib.sha256(content).hexdigest()
        name = f"edge-1-a1.1-{number:06d}-{digest[:16]}.tar"
        (self.folder / name).write_bytes(content)
        self.shards[name] = ClosedShard(name, self.folder / name, digest, size, Contents(crops=3), 0.0)
        return self.shards[name]

    def closed(self):
        return list(self.shards.values())

    def confirmed(self, name):
        self.shards.pop(name).path.unlink()
        return True

    def damaged(self, name):
        self.lost.append(name)
        return self.confirmed(name)


@pytest.fixture
def waiting(tmp_path):
    return Waiting(tmp_path / "spool")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def uploader(waiting, store, tmp_path, clock=None, **changes):
    settings = UploadSettings(store=store, audit=tmp_path / "uploads.jsonl", **changes)
    return Uploader(settings, OWNER, waiting, clock or Clock(), chance=lambda a, b: 1.0)


def audit(tmp_path):
    return [json.loads(line) for line in (tmp_path / "uploads.jsonl").read_text().splitlines()]


def arrived(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.tar")}


def ends(uploader, condition, timeout_s=60.0):
    """Turn by turn, with its pauses left out."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        uploader.turn()


def test_a_shard_is_sent_confirmed_noted_and_then_deleted(waiting, folder, tmp_path):
    shards = [waiting.add(number) for number in range(3)]
    up = uploader(waiting, ObjectStoreSettings(url=str(folder)), tmp_path)
    assert [up.turn() for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]
    assert waiting.closed() == []
    assert arrived(folder / "town" / "crops" / "edge-1") == {one.name: one.sha256 for one in shards}
    assert [(line["event"], line["shard"], line["crops"]) for line in audit(tmp_path)] == [
        ("sent", one.name, 3) for one in shards
    ]
    assert up.counters == {"shards_sent": 3, "shard_bytes_sent": 900_000}
    assert up.problem is None


def test_what_is_there_already_is_not_sent_again(waiting, folder, tmp_path):
    shard = waiting.add()
    content = shard.path.read_bytes()
    up = uploader(waiting, ObjectStoreSettings(url=str(folder)), tmp_path)
    up.turn()
    waiting.add()  # killed between the audit's line and the spool's
    assert shard.path.read_bytes() == content
    up.turn()
    assert waiting.closed() == []
    assert [line["event"] for line in audit(tmp_path)] == ["sent", "was there"]
    assert up.counters["shard_bytes_sent"] == shard.bytes


def test_nothing_is_sent_outside_the_hours(waiting, folder, tmp_path):
    waiting.add()
    hands = Hands(wall_s=1_790_035_200.0 - 60)  # 2026-09-21 23:59 UTC
    store = ObjectStoreSettings(url=str(folder))
    up = uploader(waiting, store, tmp_path, hands.clock(), hours=["02:00-03:00"], time_zone="Europe/Berlin")
    assert up.turn() == 30.0
    assert arrived(folder) == {}
    hands.run(61)
    assert up.turn() == 0.0
    assert len(arrived(folder)) == 1


def test_a_store_that_is_away_is_tried_for_ever_and_told_once_it_lasts(waiting, tmp_path, caplog):
    waiting.add()
    hands = Hands()
    up = uploader(waiting, ObjectStoreSettings(url=str(tmp_path / "store")), tmp_path, hands.clock(), away_max_s=100)
    assert [up.turn() for _ in range(7)] == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0]
    assert up.problem is None
    hands.run(61)
    assert "no such folder" in up.problem
    assert caplog.text.count("no such folder") == 1
    (tmp_path / "store").mkdir()
    assert up.turn() == 0.0
    assert up.problem is None
    assert waiting.closed() == []
    assert up.counters["uploads_failed"] == 7


def test_a_store_that_refuses_is_tried_seldom(waiting, s3_settings, tmp_path, monkeypatch):
    waiting.add()
    monkeypatch.setenv("S3_WRONG", "wrong")
    up = uploader(waiting, s3_settings(secret_env="S3_WRONG"), tmp_path)
    assert [up.turn() for _ in range(2)] == [60.0, 120.0]
    assert len(waiting.closed()) == 1


def test_a_store_that_changed_a_byte_gets_the_shard_again(waiting, folder, tmp_path):
    shard, other = waiting.add(1), waiting.add(2)
    there = folder / "town" / "crops" / "edge-1" / shard.name
    there.parent.mkdir(parents=True)
    there.write_bytes(b"\1" * 299_999 + b"\0")
    up = uploader(waiting, ObjectStoreSettings(url=str(folder)), tmp_path)
    ends(up, lambda: not waiting.closed())
    assert arrived(folder) == {one.name: one.sha256 for one in (shard, other)}
    assert up.counters["shards_damaged_there"] == 1
    assert [line["event"] for line in audit(tmp_path)] == ["damaged there", "failed", "sent", "sent"]


def test_a_shard_that_was_damaged_here_is_given_up_and_no_other_waits_for_it(waiting, folder, tmp_path):
    shard, other = waiting.add(1), waiting.add(2)
    shard.path.write_bytes(b"\1" * 299_999 + b"\0")
    up = uploader(waiting, ObjectStoreSettings(url=str(folder)), tmp_path)
    ends(up, lambda: not waiting.closed())
    assert arrived(folder) == {other.name: other.sha256}
    assert waiting.lost == [shard.name]
    assert up.counters["shards_damaged_here"] == 1


def test_without_its_line_in_the_log_nothing_is_deleted(waiting, folder, tmp_path):
    waiting.add()
    (tmp_path / "uploads.jsonl").mkdir()
    up = uploader(waiting, ObjectStoreSettings(url=str(folder)), tmp_path)
    assert up.turn() == 2.0
    assert len(waiting.closed()) == 1
    (tmp_path / "uploads.jsonl").rmdir()
    assert up.turn() == 0.0
    assert [line["event"] for line in audit(tmp_path)] == ["was there"]


def test_a_shard_that_the_spool_gave_up_meanwhile_is_no_failure(waiting, folder, tmp_path):
    waiting.add().path.unlink()
    up = uploader(waiting, ObjectStoreSettings(url=str(folder)), tmp_path)
    assert up.turn() == 0.0
    assert up.counters == {}


@pytest.mark.parametrize("after", [200, 5_000, 250_000])
def test_a_line_that_flips_a_bit_loses_nothing(waiting, s3_settings, seaweed, tmp_path, after):
    """In the request's head, at the body's begin, in its middle: nothing wrong is ever stored."""
    shard = waiting.add(1)
    with BadLine(int(seaweed.endpoint.rpartition(":")[2]), "flip", after) as line:
        up = uploader(waiting, s3_settings(endpoint=f"http://127.0.0.1:{line.port}"), tmp_path)
        up.turn()
        line.does = "pass"
        ends(up, lambda: not waiting.closed())
    there = stored(seaweed, s3_settings())
    assert there == {f"town/crops/edge-1/{shard.name}": shard.sha256}


def stored(seaweed, settings):
    """Name → digest of what is in the bucket, read back."""
    prefix = settings.url.split("/", 3)[3] + "/"
    names = [one["Key"] for one in seaweed.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]
    return {
        name.removeprefix(prefix): hashlib.sha256(
            seaweed.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        ).hexdigest()
        for name in names
    }


def test_a_line_that_is_cut_in_the_middle_leaves_nothing_half(waiting, s3_settings, seaweed, tmp_path):
    shard = waiting.add(1)
    with BadLine(int(seaweed.endpoint.rpartition(":")[2]), "cut", 100_000) as line:
        up = uploader(waiting, s3_settings(endpoint=f"http://127.0.0.1:{line.port}"), tmp_path)
        assert up.turn() == 2.0
        assert stored(seaweed, s3_settings()) == {}
        line.does = "pass"
        ends(up, lambda: not waiting.closed())
    assert stored(seaweed, s3_settings()) == {f"town/crops/edge-1/{shard.name}": shard.sha256}


def test_a_line_that_falls_silent_is_given_up(waiting, s3_settings, seaweed, tmp_path):
    waiting.add(1, size=5_000_000)
    with BadLine(int(seaweed.endpoint.rpartition(":")[2]), "hold", 100_000) as line:
        changes = {"endpoint": f"http://127.0.0.1:{line.port}", "silent_s": 1.0, "connect_timeout_s": 1.0}
        up = uploader(waiting, s3_settings(**changes), tmp_path)
        began_s = time.monotonic()
        assert up.turn() == 2.0
        assert time.monotonic() - began_s < 30
        assert len(waiting.closed()) == 1
        line.does = "pass"


def test_a_slow_line_is_waited_for_and_left_at_once_when_stopped(waiting, s3_settings, seaweed, tmp_path):
    waiting.add(1, size=5_000_000)
    with BadLine(int(seaweed.endpoint.rpartition(":")[2]), "slow") as line:
        up = uploader(waiting, s3_settings(endpoint=f"http://127.0.0.1:{line.port}"), tmp_path)
        up.start()
        until_s = time.monotonic() + 30
        while line.passed < 20_000:
            assert time.monotonic() < until_s
            time.sleep(0.05)
        began_s = time.monotonic()
        up.close(9.0)
        assert time.monotonic() - began_s < 9.0
        assert not up._thread.is_alive()
    assert len(waiting.closed()) == 1
    assert up.counters == {}


def test_a_server_that_is_killed_and_comes_back(waiting, s3_settings, seaweed, tmp_path):
    shards = [waiting.add(number) for number in range(4)]
    up = uploader(waiting, s3_settings(), tmp_path)
    up.turn()
    seaweed.kill()
    try:
        assert [up.turn(), up.turn()] == [2.0, 4.0]
    finally:
        seaweed.start()
    ends(up, lambda: not waiting.closed())
    assert stored(seaweed, s3_settings()) == {f"town/crops/edge-1/{one.name}": one.sha256 for one in shards}


def test_check_says_what_the_store_is_like(s3_settings, seaweed, folder, monkeypatch):
    found = check_upload(UploadSettings(store=s3_settings()), *OWNER)
    assert "put, confirmed and deleted town/crops/edge-1/check-" in found
    assert "unencrypted" in found
    assert stored(seaweed, s3_settings()) == {}
    found = check_upload(UploadSettings(store=ObjectStoreSettings(url=str(folder)), hours=["22:00-05:00"]), *OWNER)
    assert "sends 22:00-05:00 UTC" in found
    with pytest.raises(UploadError, match="no such folder"):
        check_upload(UploadSettings(store=ObjectStoreSettings(url=str(folder / "none"))), *OWNER)
    for name, value in READER.items():
        monkeypatch.setenv(f"S3_READER_{name.upper()}", value)
    reader = s3_settings(key_env="S3_READER_KEY", secret_env="S3_READER_SECRET")
    with pytest.raises(UploadRefusedError, match="what they may do in this bucket"):
        check_upload(UploadSettings(store=reader), *OWNER)
    monkeypatch.delenv("S3_KEY")
    with pytest.raises(ConfigurationError, match=r"upload\.store\.key_env: environment variable S3_KEY is not set"):
        check_upload(UploadSettings(store=s3_settings()), *OWNER)
