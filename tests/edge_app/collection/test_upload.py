"""The uploader and real stores that are away, slow, wrong and killed: nothing is lost, nothing is there twice."""

import pytest
from hands import Hands
from seaweed import READER
from waiting_shards import OWNER, arrived, audit, ends, stored, uploader

from edge_app.collection.store_check import check_upload
from edge_app.collection.upload_settings import UploadSettings
from edge_app.contract.objects import ObjectStoreSettings
from edge_app.errors import ConfigurationError, UploadError, UploadRefusedError


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
    shard = waiting.add()
    waiting.confirmed(shard.name)
    up = uploader(waiting, ObjectStoreSettings(url=str(folder)), tmp_path)
    answers = iter([[shard], []])
    waiting.closed = lambda: next(answers)
    assert up.turn() == 0.0
    assert (up.counters, waiting.lost) == ({}, [])


def test_a_shard_that_somebody_took_is_given_up_and_told(waiting, folder, tmp_path):
    shard = waiting.add()
    shard.path.unlink()
    up = uploader(waiting, ObjectStoreSettings(url=str(folder)), tmp_path)
    waiting.damaged = lambda name: waiting.lost.append(waiting.shards.pop(name).name)
    assert [up.turn(), up.turn()] == [0.0, 2.0]
    assert waiting.lost == [shard.name]
    assert [line["event"] for line in audit(tmp_path)] == ["missing here"]


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
