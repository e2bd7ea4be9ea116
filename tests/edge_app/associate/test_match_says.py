"""What a match says of itself: why it was not said earlier, and where both ends were; and a clock set meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from test_online import AB, Run, confirmed
from tiny_world import look, rules, tracklet

from edge_app.associate import codec
from edge_app.associate.facts import End, Fact, Match, Place, Unmatched
from edge_app.associate.state import State, shifted
from edge_app.store.parts import Parts, sealed, unsealed
from edge_app.types import Tracklet

NO_PATH = {"path_times_s": np.zeros(0), "path_boxes": np.zeros((0, 4), np.float32)}
WITH_PATH = {"path_boxes": np.array([[10, 20, 30, 40], [15, 20, 35, 40], [90, 22, 99, 44]], np.float32)}


def seen_at(name: str, camera: str, entry_s: float, exit_s: float, seed: int = 1) -> Tracklet:
    plain = tracklet(name, camera, entry_s, exit_s, look(seed))
    times = np.linspace(entry_s, exit_s, 3)
    return replace(plain, path_times_s=times, frame_px=(640, 480), **WITH_PATH)


def said(facts: Iterable[Fact]) -> list[tuple[str, str | None]]:
    return [(f.state, f.waited_for) for f in facts if isinstance(f, Match)]


def stored(state: State) -> State:
    """As a restart reads it."""
    return codec.load(Parts({key: value for key, value in codec.changes(State(), state).items() if value}))


def test_a_match_that_is_sure_at_once_waited_for_evidence() -> None:
    facts = Run(rules(AB)).until(60, seen_at("1", "a", 5, 10), seen_at("2", "b", 20, 25))
    assert said(facts)[-1] == ("confirmed", "evidence")
    assert facts[-1].similarity == pytest.approx(1.0)  # the same look twice


def test_a_match_that_was_sure_before_waited_for_open_tracks() -> None:
    """Somebody who entered `a` early is still on screen: the first look at the pair is sure, and has to wait."""
    run = Run(rules(AB, max_wait_s=50.0))
    one, two = seen_at("1", "a", 5, 10), seen_at("2", "b", 20, 25)
    held = run.until(35, one, two, seen_until={"a": 12.0})
    assert said(held) == [("provisional", "open_tracks")]
    before_restart = codec.load(
        Parts({key: value for key, value in codec.changes(State(), run.state).items() if value})
    )
    after = Run(run.rules, before_restart)
    after.now = run.now
    assert said(after.until(60)) == said(run.until(60)) == [("confirmed", "open_tracks")]


def test_a_match_among_equals_waited_for_the_deadline() -> None:
    """Never sure, and good enough when nothing better can come any more."""
    where = rules(AB, confirm_posterior=0.999999, max_wait_s=30.0)
    facts = Run(where).until(90, seen_at("1", "a", 5, 10), seen_at("2", "b", 20, 25))
    assert said(facts)[-1] == ("confirmed", "deadline")
    assert said(facts)[0] == ("provisional", "evidence")


def test_both_ends_say_where_they_were_also_after_a_restart() -> None:
    run = Run(rules(AB))
    one, two = seen_at("1", "a", 5, 10), seen_at("2", "b", 20, 25)
    run.until(12, one)
    after = Run(run.rules, stored(run.state))
    after.now = run.now
    match = next(f for f in after.until(60, two) if isinstance(f, Match))
    place = Place("left", "right", (10.0, 20.0, 30.0, 40.0), (90.0, 22.0, 99.0, 44.0), 640, 480)
    assert match.from_ == End("a", one.id, 10.0, 5.0, place)
    assert match.to == End("b", two.id, 20.0, 25.0, place)


def test_an_unmatched_passage_says_when_and_where_it_left() -> None:
    facts = Run(rules(AB)).until(120, seen_at("1", "a", 5, 10))
    (alone,) = [f for f in facts if isinstance(f, Unmatched)]
    assert (alone.to.time_s, alone.to.other_time_s) == (5.0, 10.0)
    assert alone.to.place is not None
    nothing = Run(rules(AB)).until(120, replace(tracklet("1", "a", 5, 10, look(1)), **NO_PATH))
    assert [f.to.place for f in nothing if isinstance(f, Unmatched)] == [None]


def test_a_state_of_an_earlier_release_knows_no_places() -> None:
    run = Run(rules(AB))
    run.until(12, seen_at("1", "a", 5, 10))
    parts = {key: value for key, value in codec.changes(State(), run.state).items() if value}
    for key in [key for key in parts if "/passages/" in key]:
        values = json.loads(unsealed(parts[key], "crosslane.passage/2"))
        del values["place"], values["held_up"]
        parts[key] = sealed("crosslane.passage/2", json.dumps(values).encode())
    after = Run(run.rules, codec.load(Parts(parts)))
    after.now = run.now
    match = next(f for f in after.until(60, seen_at("2", "b", 20, 25)) if isinstance(f, Match))
    assert (match.from_.place, match.to.place is not None) == (None, True)


@pytest.mark.parametrize("by_s", [-3600.0, 3600.0])
def test_a_memory_that_is_shifted_with_the_clock_goes_on_as_if_nothing_was(by_s: float) -> None:
    straight, moved = Run(rules(AB)), Run(rules(AB))
    cars = [seen_at(f"a{i}", "a", 5 + 9 * i, 10 + 9 * i, i) for i in range(6)]
    cars += [seen_at(f"b{i}", "b", 20 + 9 * i, 25 + 9 * i, i) for i in range(6)]
    early, late = [c for c in cars if c.exit_time_s <= 40], [c for c in cars if c.exit_time_s > 40]
    straight.until(40, *early)
    moved.until(40, *early)
    moved.state, moved.now = shifted(moved.state, by_s), moved.now + by_s
    later = [replace(c, entry_time_s=c.entry_time_s + by_s, exit_time_s=c.exit_time_s + by_s) for c in late]
    straight.until(160, *late)
    moved.until(160 + by_s, *later)
    assert confirmed(moved.facts) == confirmed(straight.facts)
    assert len(confirmed(moved.facts)) == 6
