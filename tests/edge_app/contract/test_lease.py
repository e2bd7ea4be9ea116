"""One owner at a time: a table of tiny histories on a set clock, and processes that race and die on real stores."""

import json
import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from itertools import pairwise

import pytest

from edge_app.contract import lease as lease_module
from edge_app.contract.errors import LeaseLostError, ObjectStoreAwayError, ObjectStoreRefusedError
from edge_app.contract.lease import Seeker, elapsed_s
from edge_app.contract.objects import ObjectStoreSettings, open_store


class Hours:
    """A clock that is set by hand."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return open_store(ObjectStoreSettings(url=str(tmp_path / "store")))


def seeker(store, owner, clock, lease_s=100.0):
    return Seeker(store, "site/lock", owner, lease_s, clock=clock)


def test_a_free_lock_is_taken_by_one(store):
    clock = Hours()
    mine, other = seeker(store, "one", clock), seeker(store, "two", clock)
    assert mine.look() is not None
    assert other.look() is None
    assert other.owner == "one"


def test_what_is_given_back_is_free_at_once(store):
    clock = Hours()
    with seeker(store, "one", clock).look():
        assert seeker(store, "two", clock).look() is None
    assert seeker(store, "two", clock).look() is not None


def test_a_dead_owner_is_succeeded_only_after_its_lease_was_watched(store):
    owner, watcher = Hours(), Hours()
    watcher.now_s = 9e6  # clocks of two machines have nothing in common
    dead = seeker(store, "dead", owner, lease_s=100.0).look()
    heir = seeker(store, "heir", watcher, lease_s=7.0)
    assert heir.look() is None
    watcher.now_s += 99
    assert heir.look() is None
    watcher.now_s += 1.5
    taken = heir.look()
    assert taken is not None
    with pytest.raises(LeaseLostError, match="somebody took it over"):
        dead.renew()
    assert dead.lost.is_set()
    dead.release()  # no longer its to give
    taken.renew()


def test_a_lease_that_is_renewed_is_never_taken(store):
    clock = Hours()
    held = seeker(store, "one", clock).look()
    other = seeker(store, "two", clock)
    for _ in range(30):
        clock.now_s += 25
        held.renew()
        assert other.look() is None


def test_of_two_heirs_one_succeeds(store):
    clock = Hours()
    seeker(store, "dead", clock).look()
    heirs = [seeker(store, name, clock) for name in ("two", "three")]
    assert [heir.look() for heir in heirs] == [None, None]
    clock.now_s += 101
    assert [heir.look() is not None for heir in heirs] == [True, False]


def test_an_owner_that_could_not_renew_stops_before_anybody_may_begin(store):
    clock = Hours()
    held = seeker(store, "one", clock).look()
    clock.now_s += 74
    held.check()
    clock.now_s += 2
    with pytest.raises(LeaseLostError, match="not renewed for 76 s"):
        held.check()
    with pytest.raises(LeaseLostError):
        held.renew()


def test_a_look_that_took_long_counts_from_when_the_lock_was_seen(store, monkeypatch):
    clock = Hours()
    seeker(store, "one", clock).look()
    other, read = seeker(store, "two", clock), store.read

    def slowly(name):
        answer = read(name)
        clock.now_s += 200  # the answer was on its way for so long
        return answer

    monkeypatch.setattr(store, "read", slowly)
    assert other.look() is None
    monkeypatch.setattr(store, "read", read)
    assert other.look() is None


def test_the_thread_renews_and_outlives_a_store_that_is_away(store, monkeypatch):
    held = Seeker(store, "site/lock", "one", lease_s=2.0).look()
    replace, failed = store.replace, threading.Event()

    def away(*arguments):
        if not failed.is_set():
            failed.set()
            raise ObjectStoreAwayError("gone for a moment")
        return replace(*arguments)

    monkeypatch.setattr(store, "replace", away)
    with held:
        time.sleep(2.5)
        held.check()
    assert failed.is_set()


def test_the_thread_tells_when_it_is_lost(store):
    with Seeker(store, "site/lock", "one", lease_s=2.0).look() as held:
        store.delete("site/lock")
        assert held.lost.wait(10)
        with pytest.raises(LeaseLostError):
            held.check()


def test_what_is_no_lock_is_left_to_a_person(store):
    store.create("site/lock", b"mine, says somebody")
    with pytest.raises(ObjectStoreRefusedError, match="no lock of this release"):
        seeker(store, "one", Hours()).look()


def test_every_write_differs_so_that_no_etag_comes_twice(store):
    clock = Hours()
    held = seeker(store, "one", clock).look()
    etags = {store.read("site/lock")[1]}
    for _ in range(5):
        held.renew()
        etags.add(store.read("site/lock")[1])
    assert len(etags) == 6


def test_time_asleep_counts():
    assert abs(elapsed_s() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1
    assert lease_module.RENEW_AFTER < lease_module.LOST_AFTER < 1


def _work(settings, path, number, turns):
    """Take, note the span, give back; the last turn of the first worker dies in the middle."""
    store = open_store(settings)
    seeking = Seeker(store, "site/lock", f"worker {number}", lease_s=3.0)
    done = 0
    while done < turns:
        held = seeking.look()
        if held is None:
            time.sleep(0.02)
            continue
        began_s = elapsed_s()
        with held, suppress(LeaseLostError):  # a machine that is too slow for it loses it, and begins again
            time.sleep(0.03)
            if number == 0 and done == turns - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            held.renew()
            span = began_s, elapsed_s(), number
            held.check()
            with path.open("a") as file:
                file.write(json.dumps(span) + "\n")
            done += 1


@pytest.fixture(params=["folder", "s3"])
def settings(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("s3_settings")()
    (tmp_path / "store").mkdir()
    return ObjectStoreSettings(url=str(tmp_path / "store"))


def test_racing_processes_never_own_it_together_though_one_dies_as_owner(settings, tmp_path):
    context = multiprocessing.get_context("spawn")
    spans = tmp_path / "spans"
    workers = [context.Process(target=_work, args=(settings, spans, number, 3)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(90)
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL, 0, 0]
    held = sorted(json.loads(line) for line in spans.read_text().splitlines())
    assert len(held) == 8
    assert all(one[1] <= other[0] for one, other in pairwise(held))
