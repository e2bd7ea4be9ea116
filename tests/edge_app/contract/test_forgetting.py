"""What can be asked to be forgotten, and who is the same vehicle."""

from __future__ import annotations

import pytest

from edge_app.contract.errors import SelectionError
from edge_app.contract.forgetting import Selection, same_vehicle, selection_of


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((None, None, None, None), "expected --identity, or --camera"),
        (("g1", "east", None, None), "--identity stands alone"),
        ((None, None, "yesterday", None), "--since yesterday: expected a time with its zone"),
        ((None, None, "2026-01-31T12:00:00", None), "expected a time with its zone"),
        ((None, None, "2026-01-31T12:00:00Z", "2026-01-30T12:00:00Z"), "is later than"),
    ],
)
def test_what_cannot_be_asked(asked, said) -> None:
    with pytest.raises(SelectionError, match=said):
        selection_of(*asked)
    assert selection_of(None, "east", "2023-11-14T22:13:20Z", None) == Selection(None, "east", 1_700_000_000.0)


def test_every_mistake_is_said_at_once():
    with pytest.raises(SelectionError) as error:
        selection_of("g1", "east", "yesterday", None)
    assert len(error.value.problems) == 2


def test_a_selection_meets_what_overlaps_it():
    some = Selection(camera="east", since_s=10, until_s=20)
    assert some.met("east", 0, 10)
    assert some.met("east", 20, 30)
    assert not some.met("east", 0, 9)
    assert not some.met("west", 12, 13)
    assert not Selection("g1").met("east", 12, 13)
    assert some.told() == {
        "identity": None, "camera": "east", "since": "1970-01-01T00:00:10.000Z", "until": "1970-01-01T00:00:20.000Z"
    }  # fmt: skip


def test_the_same_vehicle_is_followed_both_ways_and_round_in_circles():
    links = [("b", "a"), ("c", "b"), ("d", "c"), ("a", "d"), ("y", "x")]
    assert same_vehicle(["c"], links) == {"a", "b", "c", "d"}
    assert same_vehicle(["z"], links) == {"z"}
    assert same_vehicle([], links) == frozenset()
