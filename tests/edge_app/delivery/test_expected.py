"""Counts by probability: tiny worlds by hand, and against sums over the real assignment's marginals."""

import numpy as np
import pytest

from edge_app.associate.assign import marginals
from edge_app.delivery.counting import Counted, Link, Table
from edge_app.delivery.expected import MOST_CLASSES, beside, expected_on, expected_trips

A_TO_B = Link("a--b", "a", "b", 60.0)
PATIENCE_S = {"a": 100.0, "b": 100.0, "c": 100.0}


def passage(name: str, entry_s: float, *came: tuple[str, float], class_name: str = "car", **more) -> Counted:
    """`a1` is of camera a; it is in view for five seconds."""
    return Counted(name, name[0], class_name, entry_s, entry_s + 5, "left", "right", True, came=came, **more)


def table(*passages: Counted) -> Table:
    made = Table()
    for one in passages:
        made.put(one)
    return made


def trips(made: Table, *begin: str, now_s: float = 1e9):
    found = expected_trips([made.passages[name] for name in begin], made, PATIENCE_S, now_s)
    return {ends: {name: n for name, (n, *_) in each.items()} for ends, each in found.items()}


def test_a_link_by_hand() -> None:
    made = table(passage("a1", 0), passage("a2", 10), passage("b1", 30, ("a1", 0.9)), passage("b2", 45, ("a2", 0.5)))
    fields = expected_on(A_TO_B, list(made.passages.values()), made)
    n, low, high = fields["expected"]["car"]
    half = 1.96 * np.sqrt(0.9 * 0.1 + 0.5 * 0.5)
    assert (n, low, high) == (pytest.approx(1.4), pytest.approx(1.4 - half, abs=0.01), 2.0)
    assert fields["expected_median_s"] == pytest.approx(26.4, abs=0.5)  # 25 s by 0.9 and 30 s by 0.5


def test_one_exit_counts_once_whoever_it_became() -> None:
    """Two who may have been it, one of whom was."""
    made = table(passage("a1", 0), passage("b1", 30, ("a1", 0.5)), passage("b2", 32, ("a1", 0.5)))
    assert expected_on(A_TO_B, [made.passages["a1"]], made)["expected"]["car"] == (1.0, 1.0, 1.0)
    assert trips(made, "a1", "b1", "b2") == {("a", "b"): {"car": 1.0}, ("b", "b"): {"car": 1.0}}


def test_a_chain_by_hand() -> None:
    made = table(passage("a1", 0), passage("b1", 30, ("a1", 0.9)), passage("c1", 60, ("b1", 0.8)))
    found = trips(made, "a1")
    assert found["a", "c"]["car"] == pytest.approx(0.72, abs=0.03)
    assert found["a", "b"]["car"] == pytest.approx(0.18, abs=0.03)
    assert found["a", "a"]["car"] == pytest.approx(0.10, abs=0.01), "it stayed"
    assert sum(each["car"] for each in found.values()) == pytest.approx(1.0)
    assert trips(made, "b1")["b", "c"]["car"] == pytest.approx(0.08, abs=0.03), "who was not seen before"


def test_what_may_still_go_on_is_not_counted() -> None:
    made = table(passage("a1", 0), passage("b1", 30, ("a1", 1.0)))
    assert trips(made, "a1", now_s=100.0) == {}
    assert trips(made, "a1", now_s=110.0) == {}, "its end may go on until 135"
    assert trips(made, "a1", now_s=136.0) == {("a", "b"): {"car": 1.0}}


def test_only_decisions_are_known_of_what_an_older_release_decided() -> None:
    made = table(passage("a1", 0), passage("b1", 30, from_track="a1"))
    assert trips(made, "a1", "b1") == {("a", "b"): {"car": 1.0}}


@pytest.mark.parametrize("seed", range(5))
def test_the_drawn_trips_add_up_to_the_marginals(seed: int) -> None:
    """The assignment says how probably each pair is one; the draws say the same, though nobody is taken twice."""
    rng = np.random.default_rng(seed)
    p, _ = marginals(rng.normal(0, 2, (8, 7)))
    before = [passage(f"a{i}", 3.0 * i) for i in range(7)]
    after = [
        passage(f"b{j}", 40 + 3.0 * j, *((f"a{i}", float(p[j, i])) for i in range(7) if p[j, i] >= 0.002))
        for j in range(8)
    ]
    made = table(*before, *after)
    expected = expected_on(A_TO_B, before, made)["expected"]["car"]
    assert expected[0] == pytest.approx(p.sum(), abs=0.1)
    found = trips(made, *(one.id for one in before))
    assert found["a", "b"]["car"] == pytest.approx(expected[0], abs=0.35)
    assert found["a", "b"]["car"] + found["a", "a"]["car"] == pytest.approx(7.0, abs=0.02)


def test_the_interval_holds_what_was_drawn() -> None:
    """Worlds are drawn by the probabilities that are told; 19 of 20 lie between low and high, or nearly."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 60)
    made = table(
        *(passage(f"a{i}", 3.0 * i) for i in range(60)),
        *(passage(f"b{i}", 3.0 * i + 30, (f"a{i}", float(p[i]))) for i in range(60)),
    )
    begin = [made.passages[f"a{i}"] for i in range(60)]
    truth = (rng.random((2000, 60)) < p).sum(axis=1)
    for _, low, high in (
        expected_on(A_TO_B, begin, made)["expected"]["car"],
        expected_trips(begin, made, PATIENCE_S, 1e9)["a", "b"]["car"],
    ):
        assert 0.9 <= np.mean((truth >= low) & (truth <= high)) <= 1.0


def test_the_order_in_which_it_became_known_changes_nothing() -> None:
    """Two have one travel time, and other probabilities."""
    ones = [passage("a1", 0), passage("a2", 4), passage("b1", 30, ("a1", 0.6)), passage("b2", 34, ("a2", 0.5))]
    one, other = table(*ones), table(*ones[::-1])
    assert trips(one, "a1", "a2") == trips(other, "a2", "a1")
    assert expected_on(A_TO_B, ones, one) == expected_on(A_TO_B, ones[::-1], other)


def test_classes_are_counted_each_and_the_rarest_together() -> None:
    many = [passage(f"a{i}", i, class_name=f"kind {i // 2}") for i in range(2 * MOST_CLASSES + 6)]
    fields = expected_on(A_TO_B, many, table(*many))["expected"]
    assert (len(fields), fields["other"]) == (MOST_CLASSES + 1, (0.0, 0.0, 0.0))


def test_rows_stand_beside_what_was_found() -> None:
    pairs = [{"origin": "a", "destination": "b", "counts": {"car": 3}}]
    assert beside(pairs, {("a", "b"): {"car": (3.5, 3, 4)}, ("a", "a"): {"bus": (0.2, 0, 1)}}) == [
        {"origin": "a", "destination": "a", "counts": {}, "expected": {"bus": (0.2, 0, 1)}},
        {"origin": "a", "destination": "b", "counts": {"car": 3}, "expected": {"car": (3.5, 3, 4)}},
    ]


def test_the_names_that_a_run_gave_change_nothing() -> None:
    def named(run: str) -> dict:
        names = {name: f"{run}/{name}" for name in ("a1", "a2", "b1", "b2")}
        return trips(
            table(
                Counted(names["a1"], "a", "car", 0, 5, "left", "right", True),
                Counted(names["a2"], "a", "car", 0, 6, "left", "right", True),
                Counted(names["b1"], "b", "car", 30, 35, "left", "right", True,
                        came=((names["a2"], 0.45), (names["a1"], 0.4))),
                Counted(names["b2"], "b", "car", 30, 36, "left", "right", True, came=((names["a1"], 0.45),)),
            ),
            names["a1"], names["a2"], names["b1"], names["b2"],
        )  # fmt: skip

    assert named("1") == named("2") == named("zz")
