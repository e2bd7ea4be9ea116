import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_app.health.told import Told, same_reason

OPENING = ("offline", "not opened yet")
OK = ("ok", None)
DEAD = ("offline", "connection refused")
SILENT = ("stalled", "connected, but no frame for 3 s")


def told_of(script: list[tuple[float, tuple]], step_s: float = 0.5) -> list[tuple[float, tuple]]:
    """(when, what) was told of a camera that is in each condition for so many seconds."""
    told, now_s, said = Told(*OPENING), 100.0, []
    for seconds, condition in script:
        for _ in range(round(seconds / step_s)):
            if told.see(condition, now_s):
                said.append((now_s - 100.0, told.condition))
            now_s += step_s
    return said


def test_one_outage_is_told_at_once_and_so_is_its_end():
    said = told_of([(2, OPENING), (60, OK), (30, DEAD), (60, OK)])
    assert said == [(2.0, OK), (62.0, DEAD), (92.0, OK)]


def test_a_camera_that_is_dead_for_a_day_is_news_once():
    assert told_of([(1, OPENING), (86400, DEAD)], step_s=5) == [(0.0, DEAD)]


def test_one_bad_condition_takes_the_place_of_another_only_when_it_lasts():
    flicker = [(4, DEAD), (4, SILENT)] * 150
    assert told_of([(60, OK), *flicker]) == [(0.0, OK), (60.0, DEAD)]
    said = told_of([(60, OK), (4, SILENT), (60, DEAD)])
    assert said == [(0.0, OK), (60.0, SILENT), (74.0, DEAD)]


def test_a_camera_that_comes_and_goes_says_so_until_it_stays():
    said = told_of([(60, OK), *[(6, SILENT), (3, OK)] * 130, (300, OK)])
    assert [what for _, what in said[:4]] == [OK, SILENT, OK, ("stalled", f"comes and goes: {SILENT[1]}")]
    back_s, what = said[4]
    assert what == OK
    assert 50 <= back_s - (60 + 9 * 130) <= 300
    assert len(said) == 5


def test_a_camera_that_dies_while_it_comes_and_goes_is_told_dead_in_the_end():
    said = told_of([(60, OK), *[(3, SILENT), (3, OK)] * 5, (900, DEAD)])
    assert said[-1][1] == ("offline", f"comes and goes: {DEAD[1]}")
    assert not any(state == "ok" for _, (state, _) in said[-2:])


def test_changes_are_counted_whether_they_are_told_or_not():
    told = Told(*OPENING)
    for now_s in range(0, 300, 2):
        told.see(OK, now_s)
        told.see(SILENT, now_s + 1)
    assert told.changes == 300


def test_the_last_word_waits_for_nothing():
    told = Told(*SILENT)
    assert told.see(OK, 0.0)
    assert told.see(SILENT, 1.0)
    assert not told.see(DEAD, 2.0)
    assert told.see(DEAD, 3.0, last=True)
    assert told.condition == DEAD
    assert not told.see(DEAD, 4.0, last=True)


def test_only_what_was_measured_makes_no_other_reason():
    assert same_reason("no frame for 3.2 s", "no frame for 417.9 s")
    assert same_reason("camera north: no answer within 4 s", "camera north: no answer within 5 s")
    assert not same_reason("the server answered 404", "the server answered 401")
    assert not same_reason("no frame for 3 s", None)
    told = Told(*OPENING)
    assert [told.see(("offline", f"no answer for {n}.4 s"), n) for n in range(100)] == [True] + [False] * 99


@given(st.lists(st.tuples(st.floats(0.5, 400), st.sampled_from([OK, DEAD, SILENT, ("offline", "lost")])), max_size=80))
def test_however_a_camera_behaves_it_is_news_ten_times_in_twenty_minutes(script):
    at_s = [when for when, _ in told_of(script, step_s=1.0)]
    assert all(later - earlier > 1200 for earlier, later in zip(at_s, at_s[11:], strict=False))
    assert len([when for when in at_s if when <= 1200]) <= 11


@pytest.mark.parametrize(
    ("up_s", "down_s"), [(a, b) for a in (1, 5, 30, 61, 121, 241, 301) for b in (1, 5, 11, 31, 61)]
)
def test_no_rhythm_makes_a_camera_news_more_than_ten_times_in_twenty_minutes(up_s, down_s):
    said = told_of([(up_s, OK), (down_s, DEAD)] * (7200 // (up_s + down_s)))
    at_s = [when for when, _ in said[1:]]  # after it was told to be ok for the first time
    assert all(later - earlier > 1200 for earlier, later in zip(at_s, at_s[10:], strict=False))
