"""The short form of tests/benchmarks/endurance_spool.py: killed while crops are kept and uploaded."""

from pathlib import Path

from tests.benchmarks.endurance_spool import endure, holds


def test_killed_three_times_every_accepted_crop_arrives_once(tmp_path: Path) -> None:
    found = endure(tmp_path, kills=3, passages=200)
    print(found)
    assert holds(found), found
    assert found["shards"] > 3
    assert found["whole"] > 100
