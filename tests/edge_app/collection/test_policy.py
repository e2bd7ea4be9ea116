"""Tables of tiny worlds: who is drawn, which views are kept, what a passage is worth, and what a day may cost."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from edge_app.collection.policy import (
    DAY_S,
    Bucket,
    Candidate,
    Ledger,
    capacity_bytes,
    decide,
    diverse,
    doubt,
    is_control,
    part_bytes,
    refilled,
    worth_of,
)
from edge_app.collection.settings import CollectionSettings
from edge_app.contract.crop import Verdict

SETTINGS = CollectionSettings(enabled=True, daily_bytes=10_000_000)
SURE = Verdict(state="matched", posterior=0.99, runner_up=0.005)
NOON_S = 1_700_049_600.0  # 12:00 UTC


def look(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0, 0], np.float32)


def passage(name: str = "n/a/1/1", views=((0.9, 0.0),), **changes) -> Candidate:
    """`views`: quality and direction in degrees of each look; None where it has no embedding."""
    candidate = Candidate(
        passage=name,
        camera="a",
        class_name="car",
        entered_at_s=NOON_S,
        verdict=SURE,
        qualities=[quality for quality, _ in views],
        embeddings=[None if degrees is None else look(degrees) for _, degrees in views],
        bytes=[10_000] * len(views),
        embedding_version="v1",
    )
    return replace(candidate, **changes)


def named(control: bool, n: int, prefix: str = "n/a/1/") -> list[str]:
    names = (f"{prefix}{k}" for k in range(10**6))
    return [
        name for name, _ in zip((x for x in names if is_control(x, "town", 0.1) == control), range(n), strict=False)
    ]


CHOSEN, CONTROL = named(False, 3000), named(True, 2000)


def test_one_passage_in_ten_is_a_control_wherever_and_whenever_it_is_drawn() -> None:
    for prefix in ("n/a/1/", "n/b/1/", "m/a/9f.3/"):
        drawn = [is_control(f"{prefix}{k}", "town", 0.1) for k in range(20_000)]
        assert abs(np.mean(drawn) - 0.1) < 0.0064  # three standard deviations
        runs = np.mean([a and b for a, b in itertools.pairwise(drawn)])
        assert abs(runs - 0.01) < 0.0022  # neighbours know nothing of each other
    assert drawn == [is_control(f"m/a/9f.3/{k}", "town", 0.1) for k in range(20_000)]
    assert drawn != [is_control(f"m/a/9f.3/{k}", "village", 0.1) for k in range(20_000)]


def test_a_control_is_kept_whole_and_whatever_it_shows() -> None:
    dull = passage(CONTROL[0], views=[(0.05, 0.0)] * 9)
    empty = Ledger(buckets={"chosen": Bucket(0.0, 0.0)}, kept={"class car": 10**6, "hour a 12": 10**6})
    assert decide(empty, dull, "town", 0.0, SETTINGS)[1:] == (list(range(9)), "control", "kept")
    dull = replace(dull, passage=CHOSEN[0])
    assert decide(empty, dull, "town", 0.0, SETTINGS)[1:] == ([], "chosen", "budget")


@pytest.mark.parametrize(
    ("views", "most", "expected"),
    [
        ([], 4, []),
        ([(0.5, 0)], 4, [0]),
        ([(0.5, 0), (0.9, 0)], 4, [1]),  # the same look twice: the better one
        ([(0.9, 0), (0.8, 90), (0.7, 45)], 2, [0, 1]),  # the farthest
        ([(0.9, 0), (0.3, 90), (0.8, 45)], 3, [0, 2]),  # poor looks differ without telling anything
        ([(0.9, 0), (0.5, 60), (0.9, 50)], 2, [0, 2]),  # quality counts among those that differ
        ([(0.9, None), (0.8, None), (0.7, None)], 2, [0, 1]),  # without embeddings by quality
        ([(0.9, 0), (0.8, None), (0.6, 90)], 3, [0, 2, 1]),
    ],
)
def test_a_few_diverse_views_the_best_first(views, most, expected) -> None:
    assert diverse(passage(views=views), most) == expected


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict(state="matched", posterior=0.99, runner_up=0.0), 0.0),
        (Verdict(state="matched", posterior=0.6, runner_up=0.3), 0.5),
        (Verdict(state="matched", posterior=0.4, runner_up=0.5), 1.0),
        (Verdict(state="unmatched", posterior=1.0), 0.0),
        (Verdict(state="unmatched", posterior=0.5), 1.0),
        (Verdict(state="undecided"), 0.5),
    ],
)
def test_doubt(verdict, expected) -> None:
    assert doubt(verdict) == pytest.approx(expected)


def test_what_makes_a_passage_worth_keeping() -> None:
    seen = Ledger(kept={"class car": 99, "hour a 12": 99})
    dull = worth_of(passage(), seen, 0.0)
    assert dull < 0.05
    for harder in (
        {"verdict": Verdict(state="matched", posterior=0.5, runner_up=0.4)},
        {"class_name": "ambulance"},
        {"camera": "b"},
        {"entered_at_s": NOON_S + 3600},
    ):
        assert worth_of(passage(**harder), seen, 0.0) > 0.7
    assert worth_of(passage(), seen, 0.9) > 0.85
    assert worth_of(passage(views=[(0.03, 0)], class_name="ambulance"), seen, 0.0) == pytest.approx(0.1)
    assert worth_of(passage(views=[]), seen, 1.0) == 0.0


def test_a_look_that_was_never_seen_is_new_on_any_scale() -> None:
    """Of one embedder all looks are within a degree, of the other within ninety."""
    for spread in (1.0, 90.0):
        ledger, rng = Ledger(), np.random.default_rng(3)
        level = {"chosen": Bucket(0.1 * capacity_bytes("chosen", SETTINGS), 0.0)}
        kept = {"class car": 10**6, "hour a 12": 10**6}
        for name in CHOSEN[:100]:
            ledger = replace(ledger, buckets=level, kept=kept)
            ledger, *_ = decide(ledger, passage(name, [(0.9, rng.uniform(0, spread))]), "town", 0.0, SETTINGS)
        ledger = replace(ledger, buckets=level, kept=kept)
        assert decide(ledger, passage(CHOSEN[200], [(0.9, spread / 2)]), "town", 0.0, SETTINGS)[3] == "price"
        assert decide(ledger, passage(CHOSEN[201], [(0.9, -spread)]), "town", 0.0, SETTINGS)[3] == "kept"
        other = passage(CHOSEN[202], [(0.9, 0)], embedding_version="v2")  # never compared with those of v1
        assert decide(ledger, other, "town", 0.0, SETTINGS)[0].version == "v2"
        assert len(decide(ledger, other, "town", 0.0, SETTINGS)[0].looks) == 1


def spend(ledger: Ledger, names, times_s):
    """Keep passages at these times; (time, bytes) of each that was kept."""
    spent = []
    for name, time_s in zip(names, times_s, strict=False):
        one = passage(name, entered_at_s=NOON_S + time_s, bytes=[20_000])
        ledger, views, _, _ = decide(ledger, one, "town", time_s, SETTINGS)
        spent += [(time_s, 20_000 * len(views))]
    return ledger, spent


@pytest.mark.parametrize(("part", "names"), [("chosen", CHOSEN), ("control", CONTROL)])
def test_no_24_hours_cost_more_than_a_days_bytes(part, names) -> None:
    """Three days in which far more comes than may be kept, in bursts."""
    rng = np.random.default_rng(1)
    times_s = np.sort(np.concatenate([rng.uniform(0, 3 * DAY_S, 1000), rng.normal(1.5 * DAY_S, 900, 1000)]))
    _, spent = spend(Ledger(), names, np.clip(times_s, 0, None).tolist())
    at_s, size = np.array(spent).T
    within = [size[(at_s >= t) & (at_s < t + DAY_S)].sum() for t in at_s]
    assert max(within) <= part_bytes(part, SETTINGS)
    assert size.sum() > 1.5 * part_bytes(part, SETTINGS)  # and it is used


def test_controls_and_chosen_have_their_own_bytes() -> None:
    ledger, _ = spend(Ledger(), CHOSEN, [0.0] * 3000)
    assert "control" not in ledger.buckets
    ledger, spent = spend(ledger, CONTROL, [0.0] * 200)
    assert sum(size for _, size in spent) == pytest.approx(capacity_bytes("control", SETTINGS), abs=20_000)
    assert decide(ledger, passage(CONTROL[500]), "town", 1.0, SETTINGS)[1:] == ([], "control", "budget")


def test_what_is_dull_is_kept_as_long_as_there_is_plenty() -> None:
    """A flood of the same leaves most of the bucket for what is hard; what flows in afterwards is used all the same."""
    ledger, _ = spend(Ledger(), CHOSEN, [0.0] * 3000)
    capacity = capacity_bytes("chosen", SETTINGS)
    assert 0.7 * capacity < ledger.buckets["chosen"].level_bytes < capacity
    hard = passage(CHOSEN[0], verdict=Verdict(state="matched", posterior=0.5, runner_up=0.4))
    assert decide(ledger, hard, "town", 0.0, SETTINGS)[3] == "kept"
    _, spent = spend(ledger, CHOSEN, np.linspace(0, DAY_S, 3000).tolist())
    assert sum(size for _, size in spent) > 0.95 * (part_bytes("chosen", SETTINGS) - capacity)


def test_a_clock_that_jumps_buys_no_second_budget() -> None:
    """Capture times leap by years; the store's time, which the budget is in, does not."""
    ledger, _ = spend(Ledger(), CHOSEN, [100.0] * 3000)
    level = ledger.buckets["chosen"].level_bytes
    ledger, _, _, _ = decide(ledger, passage(CHOSEN[0], entered_at_s=NOON_S + 10**8), "town", 100.0, SETTINGS)
    assert ledger.buckets["chosen"].level_bytes <= level
    assert refilled(Bucket(5.0, 1000.0), "chosen", 900.0, SETTINGS) == Bucket(5.0, 1000.0)


def test_every_camera_and_hour_is_represented_on_a_busy_day() -> None:
    """Camera a is a hundred times as busy as b; both are kept in each hour of the day."""
    ledger, hours = Ledger(), set()
    names = iter(named(False, 6000, "n/x/1/"))
    for minute in range(24 * 60):
        for camera in ["a"] * 4 + (["b"] if minute % 25 == 0 else []):
            time_s = 60.0 * minute
            one = passage(next(names), camera=camera, entered_at_s=NOON_S + time_s, bytes=[40_000])
            ledger, views, _, why = decide(ledger, one, "town", time_s, SETTINGS)
            if views:
                hours.add((camera, minute // 60))
            assert why in ("kept", "price", "budget")
    assert hours == {(camera, hour) for camera in "ab" for hour in range(24)}
