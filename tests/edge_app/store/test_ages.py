"""Ages in the store: over restarts, power cuts, and steps of the wall clock both ways."""

import sqlite3

import pytest
from hands import Hands

from edge_app.contract.envelope import uuid7
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.store.ages import START_S
from edge_app.store.rows import Row, Shed
from edge_app.store.store import Store, StoreSettings

DAY_S = 86400.0
YEARS_S = 25 * 365 * DAY_S
LIMITS = StoreSettings(outbox_max_age_s=7 * DAY_S)


def row(number):
    return Row(uuid7(number, str(number).encode()), "match", "t/match", b"x" * 100)


def gap(shed: Shed):
    return gap_row(Letterhead("demo", "edge-1", "1"), shed, 5.0)


@pytest.fixture
def hands():
    return Hands()


def opened(path, hands):
    return Store(path / "s.db", hands.clock())


@pytest.mark.parametrize("by_s", [YEARS_S, 3600.0, -3600.0, -YEARS_S])
def test_a_clock_that_is_set_sheds_nothing_and_ages_nothing(tmp_path, hands, by_s):
    store = opened(tmp_path, hands)
    store.commit({}, [row(n) for n in range(100)])
    hands.run(60)
    hands.set(by_s)
    assert store.oldest_unsent_s() == pytest.approx(60)
    assert store.shed(LIMITS, gap) is None
    store.commit({}, [row(200)])
    assert store.shed(LIMITS, gap) is None
    assert store.depth() == 101
    store.close()
    store = opened(tmp_path, hands)  # nor over a restart of the application
    assert store.oldest_unsent_s() == pytest.approx(60)
    assert store.shed(LIMITS, gap) is None
    store.close()


def test_what_waited_too_long_is_given_up_however_the_clock_was_set(tmp_path, hands):
    store = opened(tmp_path, hands)
    store.commit({}, [row(1), row(2)])
    hands.set(-YEARS_S)
    hands.run(7 * DAY_S + 1)
    hands.set(YEARS_S)
    store.commit({}, [row(3)])
    shed = store.shed(LIMITS, gap)
    assert shed is not None
    assert (shed.counts, shed.reason) == ({"match": 2}, "too old")
    assert hands.wall_s - shed.first_queued_at_s == pytest.approx(7 * DAY_S + 1)  # told in today's wall time
    store.close()


def test_restarts_of_the_application_count_to_the_second_whatever_the_clock_says(tmp_path, hands):
    hands.synchronised = False
    for number in range(5):
        store = opened(tmp_path, hands)
        store.commit({}, [row(number)])
        hands.run(100)
        store.close()
        hands.run(900)
        hands.set(YEARS_S if number % 2 else -YEARS_S)
    store = opened(tmp_path, hands)
    assert store.oldest_unsent_s() == pytest.approx(5000)
    store.close()


@pytest.mark.parametrize(
    ("trusted_before", "trusted_after", "set_by_s", "slept_s"),
    [
        (True, True, 0.0, 2 * DAY_S),
        (False, True, 0.0, 0.0),
        (True, False, 0.0, 0.0),
        (True, True, -3 * DAY_S, 0.0),  # it lies before the last commit: not plausible
        (True, True, YEARS_S, 0.0),
    ],
)
def test_a_power_cut_counts_when_both_times_are_trusted(
    tmp_path, hands, trusted_before, trusted_after, set_by_s, slept_s
):
    hands.synchronised = trusted_before
    store = opened(tmp_path, hands)
    store.commit({}, [row(1)])
    hands.power_cut(2 * DAY_S)
    store.close()
    hands.set(set_by_s)
    hands.synchronised = trusted_after
    store = opened(tmp_path, hands)
    hands.run(10)
    assert store.oldest_unsent_s() == pytest.approx(max(slept_s, START_S) + 10)
    store.commit({}, [row(2)])
    store.close()
    store = opened(tmp_path, hands)
    assert store.oldest_unsent_s() == pytest.approx(max(slept_s, START_S) + 10)
    store.close()


def test_the_time_in_the_dark_is_counted_when_ntp_answers_later(tmp_path, hands):
    """A start without a battery clock: 1970 at first, and NTP a minute later."""
    store = opened(tmp_path, hands)
    store.commit({}, [row(1)])
    right_s = hands.wall_s
    hands.power_cut(2 * DAY_S)
    store.close()
    hands.synchronised, hands.wall_s = False, 3.0
    store = opened(tmp_path, hands)
    hands.run(60)
    store.commit({}, [row(2)])
    assert store.oldest_unsent_s() == pytest.approx(60 + START_S)
    hands.wall_s, hands.synchronised = right_s + 2 * DAY_S + 60, True
    assert store.oldest_unsent_s() == pytest.approx(60 + START_S)  # suspect until it has held
    hands.run(61)
    assert store.oldest_unsent_s() == pytest.approx(2 * DAY_S + 121, abs=1)
    store.close()


@pytest.mark.parametrize(
    "damaged", ["", "{", "[]", "7", '{"at_s": "x"}', '{"at_s": NaN, "machine": "m", "trusted": 0}', "\x00"]
)
def test_a_damaged_time_begins_anew_and_is_said(tmp_path, hands, caplog, damaged):
    store = opened(tmp_path, hands)
    store.commit({}, [row(1)])
    store.close()
    with sqlite3.connect(tmp_path / "s.db") as other:
        other.execute("UPDATE meta SET value = ? WHERE key = 'age'", (damaged,))
    hands.run(100)
    store = opened(tmp_path, hands)
    assert store.oldest_unsent_s() == 0
    assert "begins to age now" in caplog.text
    store.commit({}, [row(2)])
    store.close()


def test_what_an_earlier_release_queued_in_2001_begins_to_age_now(tmp_path, hands):
    store = opened(tmp_path, hands)
    store.commit({}, [row(n) for n in range(100)])
    store.close()
    with sqlite3.connect(tmp_path / "s.db") as other:
        other.execute("DELETE FROM meta WHERE key = 'age'")
        other.execute("UPDATE outbox SET queued_at_s = 1000000000.0 + id")
    store = opened(tmp_path, hands)
    assert store.shed(LIMITS, gap) is None
    assert store.oldest_unsent_s() == 0
    assert store.depth() == 100
    store.close()
