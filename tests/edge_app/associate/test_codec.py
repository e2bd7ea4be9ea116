"""Whatever becomes of the stored values, the association loads what is left of them and goes on."""

from __future__ import annotations

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import Stream, stream

from edge_app.associate import codec, online
from edge_app.associate.facts import Match
from edge_app.associate.state import State
from edge_app.store.parts import Parts, sealed, unsealed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@cache
def played() -> tuple[Stream, State, dict[str, bytes], int]:
    """A stream in the middle: the state, its parts, and how many of its tracklets have been told."""
    world = stream(2, vehicles=60)
    state, told, now = State(), 0, world.tracklets[0].exit_time_s
    while told < 60:
        now += 0.5
        arrived = [one for one in world.tracklets[told:] if one.exit_time_s <= now]
        told += len(arrived)
        state, _ = online.step(state, arrived, now, {}, world.rules)
    parts = {key: value for key, value in codec.changes(State(), state).items() if value is not None}
    assert {key.split("/")[1] for key in parts} == {*codec.GROUPS, "counters"}
    return world, state, parts, told


def goes_on(parts: dict[str, bytes]) -> tuple[Parts, int]:
    """Load it and play the rest: no error, and what is written again can be read again."""
    world, before, _, told = played()
    stored = Parts(parts)
    state = codec.load(stored)
    now, matches = before.decided_at_s, 0
    rest = list(world.tracklets[told : told + 25])
    while rest or now < before.decided_at_s + 90:
        now += 2.0
        arrived, rest = [t for t in rest if t.exit_time_s <= now], [t for t in rest if t.exit_time_s > now]
        state, facts = online.step(state, arrived, now, {}, world.rules)
        matches += sum(isinstance(fact, Match) for fact in facts)
    again = Parts({key: value for key, value in codec.changes(State(), state).items() if value is not None})
    codec.load(again)
    assert again.unreadable == {}
    return stored, matches


def names() -> list[str]:
    """One key of every group, and the counters."""
    parts = played()[2]
    firsts = {key.split("/")[1]: key for key in sorted(parts, reverse=True)}
    return sorted(firsts.values())


def test_a_whole_state_loads_as_it_was() -> None:
    _, state, parts, _ = played()
    stored = Parts(parts)
    loaded = codec.load(stored)
    assert stored.unreadable == {}
    assert list(loaded.passages) == list(state.passages)
    assert codec.changes(loaded, loaded) == {}
    assert {key: value for key, value in codec.changes(State(), loaded).items() if value} == parts


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_byte_changed_or_missing_is_noticed_and_costs_one_value(data: st.DataObject) -> None:
    parts = dict(played()[2])
    key = data.draw(st.sampled_from(names()))
    value = parts[key]
    place = data.draw(st.integers(0, len(value) - 1))
    if data.draw(st.booleans()):
        parts[key] = value[:place]
    else:
        parts[key] = value[:place] + bytes([value[place] ^ data.draw(st.integers(1, 255))]) + value[place + 1 :]
    stored, _ = goes_on(parts)
    assert set(stored.unreadable) == {key}


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_other_json_in_its_place_even_sealed(data: st.DataObject) -> None:
    """As another release, or somebody with an editor, may have written it."""
    parts = dict(played()[2])
    key = data.draw(st.sampled_from(names()))
    body = json.dumps(data.draw(JSON)).encode()
    name = parts[key].split(b" ")[0].decode()
    parts[key] = data.draw(st.sampled_from([body, sealed(name, body), sealed("crosslane.other/1", body)]))
    stored, _ = goes_on(parts)
    assert key in stored.unreadable or key == codec.COUNTERS


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_field_of_a_sealed_value_missing_or_replaced(data: st.DataObject) -> None:
    """The node starts and goes on; a value that lacks a field that it needs is set aside, one with a field more not."""
    parts = dict(played()[2])
    key = data.draw(st.sampled_from(names()))
    name = parts[key].split(b" ")[0].decode()
    value = json.loads(unsealed(parts[key], name))
    field = data.draw(st.sampled_from(sorted(value)))
    if data.draw(st.booleans()):
        del value[field]
    else:
        value[field] = data.draw(JSON)
    parts[key] = sealed(name, json.dumps(value | {"of_a_later_release": 1}).encode())
    goes_on(parts)


def test_a_field_more_is_passed_over_and_a_field_less_takes_its_default() -> None:
    parts = dict(played()[2])
    key = next(key for key in names() if "/passages/" in key)
    value = json.loads(unsealed(parts[key], "crosslane.passage/2"))
    del value["onward"]
    parts[key] = sealed("crosslane.passage/2", json.dumps(value | {"of_a_later_release": [1]}).encode())
    stored = Parts(parts)
    assert codec.load(stored).passages[value["id"]].onward == {}
    assert stored.unreadable == {}
    del value["entry_time_s"]
    parts[key] = sealed("crosslane.passage/2", json.dumps(value).encode())
    stored = Parts(parts)
    assert value["id"] not in codec.load(stored).passages
    assert set(stored.unreadable) == {key}


@pytest.mark.parametrize("group", [*codec.GROUPS, "counters"])
def test_a_whole_group_may_be_lost(group: str) -> None:
    parts = {key: b"lost" if key.split("/")[1] == group else value for key, value in played()[2].items()}
    stored, matches = goes_on(parts)
    assert {key.split("/")[1] for key in stored.unreadable} == {group}
    assert matches > 0


def test_a_value_under_the_name_of_another_and_a_group_that_nobody_knows() -> None:
    parts = dict(played()[2])
    first, second = sorted(key for key in parts if "/passages/" in key)[:2]
    parts[first] = parts[second]
    parts["associate/dreams/1"] = sealed("crosslane.dream/1", b"{}")
    stored, _ = goes_on(parts)
    assert set(stored.unreadable) == {first, "associate/dreams/1"}


@pytest.mark.parametrize("group", ["links", "cameras"])
@pytest.mark.parametrize("tally", [[1.0], [1.0, 2.0, 3.0], [-1.0, 0.0], []])
def test_a_class_whose_tally_is_none_costs_one_value(group: str, tally: list[float]) -> None:
    parts = dict(played()[2])
    key = next(key for key in sorted(parts) if key.startswith(f"{codec.PREFIX}{group}/"))
    raw = json.loads(unsealed(parts[key], codec.GROUPS[group].format))
    parts[key] = sealed(codec.GROUPS[group].format, json.dumps({**raw, "by_class": {"car": tally}}).encode())
    stored, _ = goes_on(parts)
    assert set(stored.unreadable) == {key}


def test_what_a_release_before_classes_had_written_is_read() -> None:
    parts = dict(played()[2])
    for key in [key for key in parts if key.split("/")[1] in ("links", "cameras")]:
        form = codec.GROUPS[key.split("/")[1]].format
        raw = json.loads(unsealed(parts[key], form))
        older = {name: value for name, value in raw.items() if name not in ("by_class", "confusion")}
        parts[key] = sealed(form, json.dumps(older).encode())
    stored, _ = goes_on(parts)
    assert stored.unreadable == {}
