"""Two embedders are never compared, whatever their dimensions; what one taught is not in force for another."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tiny_world import DIMENSION, link, look, rules, seen_by, stream, tracklet

from edge_app.associate import codec, online
from edge_app.associate.draft import Rules
from edge_app.associate.facts import Fact, Match
from edge_app.associate.gallery import ALL_PAIRS, VERSIONS_KEPT
from edge_app.associate.state import Proxy, State, version_key
from edge_app.contract import similarity
from edge_app.store.parts import Parts
from edge_app.types import Tracklet

AB = link("a", "b", 10.0)


def restarted(state: State) -> State:
    """Through the store's bytes, as over a restart."""
    parts = Parts({key: value for key, value in codec.changes(State(), state).items() if value is not None})
    loaded = codec.load(parts)
    assert parts.unreadable == {}
    return loaded


def run(state: State, where: Rules, arrivals: list[Tracklet], until_s: float, start_s: float = 0.0) -> tuple:
    facts: list[Fact] = []
    waiting, now = sorted(arrivals, key=lambda t: (t.exit_time_s, t.id)), start_s
    while now < until_s:
        now += 0.5
        arrived = [t for t in waiting if t.exit_time_s <= now]
        waiting = waiting[len(arrived) :]
        state, said = online.step(state, arrived, now, {}, where)
        facts += said
    return state, facts


def confirmed(facts: list[Fact]) -> list[Match]:
    return [fact for fact in facts if isinstance(fact, Match) and fact.state == "confirmed"]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (("v1", 2, 32), ("v1", 3, 32), True),
        (("v1", 2, 32), ("v2", 3, 32), False),
        (("v1", 2, 32), ("v1", 3, 16), False),  # a name given twice
        (("v1", 2, 32), ("v2", 3, 16), False),
        (("v1", 0, 32), ("v1", 3, 32), False),
        (("v1", 2, 32), ("v1", 0, 32), False),
    ],
)
def test_what_can_be_compared(left: tuple, right: tuple, expected: bool) -> None:
    one, other = (Proxy("t", "a", version, np.ones((rows, size), np.float32)) for version, rows, size in (left, right))
    assert similarity.comparable(one, other) is expected
    assert similarity.comparable(other, one) is expected


@pytest.mark.parametrize("dimension", [DIMENSION, 16], ids=["of one dimension", "of another dimension"])
def test_two_in_view_at_once_under_two_embedders_teach_nothing(dimension: int) -> None:
    first = tracklet("1", "a", 5, 15, look(1))
    second = seen_by(tracklet("2", "b", 8, 18, look(2)), "v2", dimension)
    state, _ = run(State(), rules(AB), [first, second], 30)
    assert state.calibrations == {}
    state, _ = run(State(), rules(AB), [first, tracklet("2", "b", 8, 18, look(2))], 30)
    assert state.calibrations[version_key("v1", "a--b")].impostor.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("how", ["restart", "within a run"])
@pytest.mark.parametrize("dimension", [DIMENSION, 24], ids=["one dimension", "another dimension"])
def test_a_new_embedder_begins_with_the_prior_and_a_rollback_finds_the_old_one(how: str, dimension: int) -> None:
    world = stream(3, vehicles=140)
    half = world.tracklets[len(world.tracklets) // 2].exit_time_s
    seen = [one if one.exit_time_s <= half else seen_by(one, "v2", dimension) for one in world.tracklets]
    start = seen[0].exit_time_s
    before, facts = run(State(), world.rules, [one for one in seen if one.exit_time_s <= half], half, start)
    learned = before.calibrations[version_key("v1", ALL_PAIRS)]
    assert learned.genuine.sum() > 20
    assert not [key for key in before.calibrations if key.startswith("v2")]
    state = restarted(before) if how == "restart" else before
    end = seen[-1].exit_time_s + 150
    after, said = run(state, world.rules, [one for one in seen if one.exit_time_s > half], end, half)
    versions = {one.id: one.embedding_version for one in seen}
    for match in confirmed(facts + said):
        assert versions[match.from_.track] == versions[match.to.track] == match.embedding_version
    late = [match for match in confirmed(said) if match.embedding_version == "v2"]
    assert len(late) > 15
    assert sum(world.parents[match.to.track] == match.from_.track for match in late) >= 0.85 * len(late)
    # nothing of version 1 is in version 2, and version 1 is as it was, apart from what it decided itself afterwards
    expected, _ = run(State(), world.rules, [one for one in seen if one.exit_time_s > half], end, half)
    ours = after.calibrations[version_key("v2", ALL_PAIRS)]
    assert ours.genuine.sum() == pytest.approx(
        expected.calibrations[version_key("v2", ALL_PAIRS)].genuine.sum(), rel=0.3
    )
    assert after.means[version_key("v2", "centre")].mean.shape == (dimension,)
    assert after.calibrations[version_key("v1", ALL_PAIRS)].genuine.sum() >= learned.genuine.sum() * 0.9
    assert after.means[version_key("v1", "centre")].mean.shape == (DIMENSION,)


def test_the_first_evidence_under_a_new_embedder_is_that_of_the_prior() -> None:
    """56 pairs that version 1 called genuine do not say what a similarity of version 2 means."""
    world = stream(3, vehicles=90)
    taught, _ = run(State(), world.rules, world.tracklets, world.tracklets[-1].exit_time_s + 150)
    now = max(taught.decided_at_s, 5000.0)
    first = seen_by(tracklet("x", "west", now + 5, now + 10, look(1)), "v2")
    second = seen_by(tracklet("y", "centre", now + 22, now + 25, look(1)), "v2")
    state, _ = run(taught, world.rules, [first, second], now + 26, now)
    fresh, _ = run(State(), world.rules, [first, second], now + 26, now)
    (edge,), (expected,) = state.passages[second.id].edges, fresh.passages[second.id].edges
    assert (edge.similarity, edge.appearance) == (expected.similarity, expected.appearance)


def test_a_proxy_of_an_older_version_is_no_evidence() -> None:
    """A vehicle's identity holds a look of version 1; its newest look is of version 2, and only that one counts."""
    where = rules(AB, link("b", "c", 10.0))
    first, second = tracklet("1", "a", 5, 10, look(1)), tracklet("2", "b", 20, 25, look(1))
    state, facts = run(State(), where, [first, second], 60)
    (match,) = confirmed(facts)
    passages = dict(state.passages)
    passages[second.id] = dataclasses.replace(
        passages[second.id], embedding_version="v2", embeddings=seen_by(second, "v2", 16).embeddings
    )
    state = dataclasses.replace(state, passages=passages)
    third = seen_by(tracklet("3", "c", 55, 60, look(1)), "v2", 16)
    _, said = run(state, where, [third], 130, 60)
    assert [one.global_id for one in confirmed(said)] in ([], [match.global_id])


def test_what_old_versions_learned_is_forgotten_and_bounded() -> None:
    state, now = State(), 0.0
    where = rules(AB)
    for number in range(VERSIONS_KEPT + 4):
        pair = [tracklet(f"{number}a", "a", now + 5, now + 10, look(1)),
                tracklet(f"{number}b", "b", now + 20, now + 25, look(1))]  # fmt: skip
        state, _ = run(state, where, [seen_by(one, f"v{number}") for one in pair], now + 120, now)
        now += 120
        assert f"v{number}" in state.versions
        assert len(state.versions) <= VERSIONS_KEPT
        kept = set(state.versions)
        assert {one.embedding_version for one in state.means.values()} == kept
        assert {one.embedding_version for one in state.calibrations.values()} <= kept
    assert set(state.versions) == {f"v{number}" for number in range(4, VERSIONS_KEPT + 4)}


def test_nothing_else_compares_embeddings() -> None:
    """The association compares embeddings in one place, behind `comparable`; what a similarity is has one owner."""
    room = Path(online.__file__).parent
    found = {path.name: path.read_text().count("looks.similarity(") for path in room.glob("*.py")}
    assert {name: count for name, count in found.items() if count} == {"gallery.py": 1}
    assert not [path.name for path in room.glob("*.py") if ".T)" in path.read_text()]
