"""Tables of tiny worlds: who arrives when, and what must be said."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from tiny_world import Stream, link, look, rules, stream, tracklet

from edge_app.associate import codec, online
from edge_app.associate.draft import Rules
from edge_app.associate.facts import Fact, Match, Revision, Unmatched
from edge_app.associate.state import State
from edge_app.store.parts import Parts
from edge_app.types import Tracklet

AB = link("a", "b", 10.0)


class Run:
    """Feeds tracklets when they finish, and lets time pass in half seconds."""

    def __init__(self, where: Rules, state: State | None = None) -> None:
        self.rules, self.state, self.facts, self.now = where, state or State(), [], 0.0

    def until(self, time_s: float, *tracklets: Tracklet, seen_until: dict[str, float] | None = None) -> list[Fact]:
        waiting = sorted(tracklets, key=lambda t: t.exit_time_s)
        before = len(self.facts)
        while self.now < time_s:
            self.now += 0.5
            arrived = [t for t in waiting if t.exit_time_s <= self.now]
            waiting = waiting[len(arrived) :]
            self.state, facts = online.step(self.state, arrived, self.now, seen_until or {}, self.rules)
            self.facts += facts
        return self.facts[before:]


def confirmed(facts: Iterable[Fact]) -> list[tuple[str, str]]:
    matches = [f for f in facts if isinstance(f, Match) and f.state == "confirmed"]
    return [(m.from_.track.split("/")[-1], m.to.track.split("/")[-1]) for m in matches]


def standing(facts: Iterable[Fact]) -> dict[str, str | None]:
    """The predecessor of every tracklet after all confirmed matches and revisions, in their order."""
    parents: dict[str, str | None] = {}
    for fact in facts:
        if isinstance(fact, Match) and fact.state == "confirmed":
            parents[fact.to.track] = fact.from_.track
        elif isinstance(fact, Revision):
            parents.update({x.to_track: x.from_track for x in fact.effective_links})
    return parents


def test_a_vehicle_is_found_again() -> None:
    run = Run(rules(AB))
    facts = run.until(120, tracklet("1", "a", 5, 10, look(1)), tracklet("2", "b", 20, 25, look(1)))
    assert confirmed(facts) == [("1", "2")]
    match = next(f for f in facts if isinstance(f, Match) and f.state == "confirmed")
    first = next(f for f in facts if isinstance(f, Unmatched))
    assert match.global_id == first.global_id == "node-b1-1"
    assert match.link == "a--b"
    assert match.transit_s == pytest.approx(10.0)
    assert match.posterior >= run.rules.settings.accept_posterior


def test_look_alikes_are_told_apart_by_time() -> None:
    where = rules(AB)
    face = look(1)
    pairs = [(10.0, 20.0), (22.0, 32.5), (40.0, 49.0), (61.0, 71.0)]
    cars = [tracklet(f"a{i}", "a", out - 4, out, face) for i, (out, _) in enumerate(pairs)]
    cars += [tracklet(f"b{i}", "b", into, into + 4, face) for i, (_, into) in enumerate(pairs)]
    wrong = [pair for pair in confirmed(Run(where).until(240, *cars)) if pair[0][1:] != pair[1][1:]]
    assert not wrong


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (tracklet("2", "b", 20, 25, look(2)), "another vehicle"),
        (tracklet("2", "b", 10.5, 14, look(1)), "faster than the link allows"),
        (tracklet("2", "b", 200, 204, look(1)), "slower than the link allows"),
        (tracklet("2", "b", 8, 14, look(1)), "at both cameras at once"),
        (tracklet("2", "c", 20, 25, look(1)), "no link leads there"),
        (tracklet("2", "b", 20, 25, look(1), "person"), "a person is not a car"),
    ],
)
def test_what_cannot_be_is_unmatched(second: Tracklet, why: str) -> None:
    facts = Run(rules(AB)).until(400, tracklet("1", "a", 5, 10, look(1)), second)
    assert confirmed(facts) == [], why
    assert len({f.global_id for f in facts if isinstance(f, Unmatched)}) == 2


def test_two_embedding_versions_are_never_compared() -> None:
    import dataclasses

    new = dataclasses.replace(tracklet("2", "b", 20, 25, look(1)), embedding_version="v2")
    assert confirmed(Run(rules(AB)).until(200, tracklet("1", "a", 5, 10, look(1)), new)) == []


def test_time_alone_confirms_nothing() -> None:
    facts = Run(rules(AB)).until(200, tracklet("1", "a", 5, 10, None), tracklet("2", "b", 20, 25, None))
    assert confirmed(facts) == []


def test_one_earlier_tracklet_has_one_continuation() -> None:
    cars = [tracklet("1", "a", 5, 10, look(1))]
    cars += [tracklet(f"{i}", "b", 18 + i, 25 + i, look(1)) for i in (2, 3, 4)]
    matched = confirmed(Run(rules(AB)).until(300, *cars))
    assert len(matched) <= 1


def test_a_decision_waits_for_tracks_that_are_still_open() -> None:
    run = Run(rules(AB))
    cars = tracklet("1", "a", 5, 10, look(1)), tracklet("2", "b", 20, 25, look(1))
    assert confirmed(run.until(40, *cars, seen_until={"a": 12.0})) == []
    assert confirmed(run.until(80)) == [("1", "2")]


def test_provisional_comes_first_and_is_superseded() -> None:
    run = Run(rules(AB, confirm_posterior=0.999, provisional_posterior=0.3))
    facts = run.until(200, tracklet("1", "a", 5, 10, look(1)), tracklet("2", "b", 20, 25, look(1)))
    first, second = (f for f in facts if isinstance(f, Match))
    assert (first.state, second.state) == ("provisional", "confirmed")
    assert second.supersedes == first.event_id


def test_a_provisional_match_that_comes_to_nothing_is_taken_back() -> None:
    run = Run(rules(AB, confirm_posterior=0.9999, prefer=0.9998, provisional_posterior=0.3))
    facts = run.until(300, tracklet("1", "a", 5, 10, look(1)), tracklet("2", "b", 20, 25, look(1)))
    provisional = next(f for f in facts if isinstance(f, Match))
    retraction = next(f for f in facts if isinstance(f, Revision))
    assert (provisional.state, retraction.kind) == ("provisional", "retract")
    assert retraction.revises == (provisional.event_id,)
    assert confirmed(facts) == []


def test_a_predecessor_that_arrives_late_revises() -> None:
    """A neighbour's tracklet comes after its continuation was called unmatched: the two identities are merged."""
    run = Run(rules(AB, link("b", "c", 10.0)))
    run.until(60, tracklet("2", "b", 20, 25, look(1)), tracklet("3", "c", 35, 40, look(1)))
    assert confirmed(run.facts) == [("2", "3")]
    facts = run.until(110, tracklet("1", "a", 5, 10, look(1)))
    revision = next(f for f in facts if isinstance(f, Revision))
    assert revision.kind == "merge"
    assert len(revision.revises) == 1
    assert {x.to_track.split("/")[-1] for x in revision.effective_links} == {"2", "3"}
    assert len({x.global_id for x in revision.effective_links}) == 1
    assert confirmed(facts) == [("1", "2")]


def test_an_arrival_that_is_repeated_changes_nothing() -> None:
    run, again = Run(rules(AB)), Run(rules(AB))
    first = tracklet("1", "a", 5, 10, look(1))
    run.until(30, first)
    again.until(20, first)
    again.until(30, first)
    assert [f.event_id for f in run.facts] == [f.event_id for f in again.facts]


def test_global_ids_are_never_reused_after_a_restart() -> None:
    run = Run(rules(AB, boot="b1"))
    run.until(60, tracklet("1", "a", 5, 10, look(1)))
    after = Run(rules(AB, boot="b2"), run.state)
    after.now = run.now
    after.until(120, tracklet("2", "a", 65, 70, look(2)))
    ids = [f.global_id for f in (*run.facts, *after.facts) if isinstance(f, Unmatched)]
    assert ids == ["node-b1-1", "node-b2-1"]


def test_nothing_is_remembered_for_ever() -> None:
    run = Run(rules(AB))
    run.until(120, tracklet("1", "a", 5, 10, look(1)), tracklet("2", "b", 20, 25, look(1)))
    run.until(400)
    assert not run.state.passages
    assert not run.state.gallery


def play(world: Stream, resume_every: int | None = None) -> tuple[State, list[Fact]]:
    """The whole stream; with `resume_every`, through the codec every so many steps, as after a restart."""
    state, facts, index, steps = State(), [], 0, 0
    parts: dict[str, bytes] = {}
    saved = state
    now = world.tracklets[0].exit_time_s
    while now < world.tracklets[-1].exit_time_s + 150:
        arrived = []
        while index < len(world.tracklets) and world.tracklets[index].exit_time_s <= now:
            arrived.append(world.tracklets[index])
            index += 1
        state, said = online.step(state, arrived, now, {}, world.rules)
        facts += said
        steps, now = steps + 1, now + 0.5
        if resume_every and steps % resume_every == 0:
            for key, value in codec.changes(saved, state).items():
                if value is None:
                    del parts[key]
                else:
                    parts[key] = value
            state = saved = codec.load(Parts(parts))
    return state, facts


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_a_stream_of_look_alikes(seed: int) -> None:
    """Eight models of car at a busy crossing: far above what appearance or time could do alone."""
    world = stream(seed)
    found = {track: parent for track, parent in standing(play(world)[1]).items() if parent is not None}
    right = sum(world.parents[track] == parent for track, parent in found.items())
    true = sum(parent is not None for parent in world.parents.values())
    assert right / len(found) >= 0.93
    assert right / true >= 0.75


def test_a_stored_state_goes_on_bit_for_bit() -> None:
    world = stream(1, vehicles=50)
    _, unbroken = play(world)
    _, broken = play(world, resume_every=7)
    assert broken == unbroken


def test_revised_matches_are_few() -> None:
    facts = play(stream(6))[1]
    decided = {f.event_id for f in facts if isinstance(f, Match) and f.state == "confirmed"}
    revised = [f for f in facts if isinstance(f, Revision) and decided & set(f.revises)]
    assert len(revised) <= 0.03 * len(decided)


def test_posteriors_are_probabilities_and_delays_are_not_negative() -> None:
    for fact in play(stream(2, vehicles=40))[1]:
        if isinstance(fact, Match):
            assert 0 < fact.posterior <= 1
            assert fact.decision_delay_s >= 0
            assert np.isfinite(fact.margin)
