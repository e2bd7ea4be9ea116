"""The short form of tests/benchmarks/endurance_store.py: copies of a store that is being written, cut at random."""

from pathlib import Path

from tests.benchmarks.endurance_store import thousand_copies


def test_fifty_copies_of_a_store_that_is_being_written(tmp_path: Path) -> None:
    counts = thousand_copies(tmp_path, 50)
    assert counts["opened"] == counts["copies"] == 50
    assert counts["steps_lost_max"] == 0  # of those that only lost what no disk had promised to hold
    assert counts["torn"] == 0
    assert counts["beyond"]["losses_said"] >= counts["beyond"]["salvaged"]
