"""Cameras that are dead or come and go: they grow nothing, and are news a few times."""

import random
import threading
import time
import tracemalloc

import pytest
from live_cameras import Fast, Hurried, live, play

from edge_app.errors import SourceError
from edge_app.health.health import Health
from edge_app.sources.cameras import Cameras


class Impatient(random.Random):
    """Draws no pause at all, so that a day of failures fits into seconds."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


def test_a_dead_camera_grows_nothing(yard):
    cameras = Cameras([live("a")], "live", lambda settings, _: _refuse(yard, settings), rng=Impatient())
    threading.Thread(target=play, args=(cameras, 30, lambda _: yard.attempts["a"] > 30_000), daemon=True).start()
    _until(lambda: yard.attempts.get("a", 0) > 2_000)
    threads = threading.active_count()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    _until(lambda: yard.attempts["a"] > 20_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert threading.active_count() <= threads
    cameras.close()
    assert after - before < 100_000  # 18,000 failures: less than 6 bytes each


def _refuse(yard, settings):
    yard.attempts[settings.id] = yard.attempts.get(settings.id, 0) + 1
    raise SourceError("camera a: connection refused")


def _until(condition):
    limit_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit_s
        time.sleep(0.01)


@pytest.mark.parametrize("kind", ["dead", "changing its mind", "one frame, then frozen", "one frame, then silent"])
def test_a_sick_camera_is_news_a_few_times_in_twenty_minutes(yard, frame, kind):
    """Twenty minutes of the real camera loop, by a clock that runs 200 times as fast."""
    clock = Fast(200)

    def frozen():
        yield frame("a", clock(), 1)
        while True:
            yield 0.2 / clock.factor
            yield frame("a", clock(), 1)

    def silent():
        yield frame("a", clock(), 1)
        yield 4.0 / clock.factor
        yield SourceError("camera a: no data for 4 s")

    refused, lost = SourceError("camera a: connection refused"), SourceError("camera a: no route")
    yard.scripts = {
        "a": {
            "dead": [refused],
            "changing its mind": [refused, lost] * 400,
            "one frame, then frozen": [frozen],
            "one frame, then silent": [silent],
        }[kind]
    }
    cameras = Cameras([live("a")], "live", yard.open, clock=clock, rng=Hurried(clock.factor))
    health, said = Health(["a"], monotonic=clock.monotonic), []
    stop = threading.Event()
    thread = threading.Thread(target=lambda: [None for _ in cameras.ticks(stop)], daemon=True)
    thread.start()
    began_s = clock.monotonic()
    while clock.monotonic() - began_s < 1200:
        status = cameras.states()["a"]
        if health.see("a", (status.state, status.reason), status):
            said.append((health.cameras["a"].state, health.cameras["a"].reason))
        time.sleep(0.5 / clock.factor)
    attempts = yard.attempts["a"]
    stop.set()
    thread.join()
    cameras.close()
    assert attempts > 30 or "frozen" in kind
    assert 1 <= len(said) <= 10, said
    assert said[-1][0] != "ok"
    if kind == "one frame, then silent":
        assert status.falls > len(said)  # told or not, each is counted
