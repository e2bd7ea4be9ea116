"""A line for every upload, whole, private and bounded."""

import json
import os

import pytest

from edge_app.collection.audit import Audit


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_whole_and_its_owners_alone(tmp_path):
    path = tmp_path / "state" / "uploads.jsonl"
    before = os.umask(0)
    try:
        Audit(path, 10_000, lambda: 0.0).note("sent", shard="a", bytes=3)
    finally:
        os.umask(before)
    assert lines(path) == [{"time": "1970-01-01T00:00:00.000Z", "event": "sent", "shard": "a", "bytes": 3}]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path):
    path = tmp_path / "uploads.jsonl"
    audit = Audit(path, 10_000, lambda: 0.0)
    audit.note("sent", shard="a")
    path.write_bytes(path.read_bytes()[:-9])
    audit.note("sent", shard="b")
    assert json.loads(path.read_text().splitlines()[1])["shard"] == "b"


def test_it_is_bounded_and_keeps_the_newer_half(tmp_path):
    path = tmp_path / "uploads.jsonl"
    audit = Audit(path, 10_000, lambda: 0.0)
    for number in range(70):
        audit.note("sent", number=number, more="x" * 300)
    older = path.with_name("uploads.jsonl.1")
    numbers = [line["number"] for each in (older, path) if each.exists() for line in lines(each)]
    assert numbers == list(range(numbers[0], 70))
    assert older.stat().st_size < 10_500
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path):
    (tmp_path / "uploads.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        Audit(tmp_path / "uploads.jsonl", 10_000, lambda: 0.0).note("sent")
