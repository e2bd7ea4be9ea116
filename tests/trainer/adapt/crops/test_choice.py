"""What is trained on, what is judged by, what outlives the window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.adapt.crops import trained_on
from trainer.adapt.crops.choice import Known, choose, reservoir
from trainer.adapt.settings import DAY_S, KeepSettings
from trainer.errors import DataError

HOUR_S = 3600.0


def known(seed: int, count: int = 600, days: float = 30) -> Known:
    """Passages of three crops each, over `days`."""
    generator = np.random.default_rng(seed)
    passages = np.arange(count) // 3
    entered_s = np.repeat(1.7e9 + np.sort(generator.uniform(0, days * DAY_S, count // 3)), 3)
    return Known(
        ids=np.arange(count) * 2 + 5,
        passages=passages,
        cameras=passages % 4,
        captured_s=entered_s + np.tile([0.0, 1.0, 2.0], count // 3),
        entered_s=entered_s,
        left_s=entered_s + 3,
        control=np.repeat(generator.random(count // 3) < 0.1, 3),
        reservoir=generator.random(count) < 0.3,
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([30, 10_000]))
def test_what_is_judged_was_never_trained_on(seed: int, held_out: float, most: int) -> None:
    crops, keep = known(seed), KeepSettings(window_days=10, held_out=held_out, most=most)
    choice = choose(crops, keep, "town", ())
    trained, judged = crops.passages[choice.trained], crops.passages[choice.judged]
    assert not set(trained) & set(judged)
    assert not crops.control[choice.trained].any()
    begin_s = crops.captured_s.max() - 10 * DAY_S
    assert (crops.reservoir[choice.trained] | (crops.captured_s[choice.trained] >= begin_s)).all()
    hours = np.floor(crops.entered_s / HOUR_S).astype(int)
    assert not np.isin(hours[choice.trained], choice.held_hours).any()
    young = crops.captured_s >= begin_s
    expected = young & np.isin(crops.passages, crops.passages[np.isin(hours, choice.held_hours)])
    late = np.floor(crops.left_s / HOUR_S).astype(int) != hours  # few: the other hour decides as well
    np.testing.assert_array_equal(np.isin(np.arange(600), choice.judged)[~late], expected[~late])
    assert np.count_nonzero(crops.captured_s[choice.trained] >= begin_s) <= most
    assert np.bincount(trained[crops.captured_s[choice.trained] >= begin_s], minlength=1).max() in (0, 1, 2, 3)


def test_a_control_crop_makes_its_passage_one_and_an_hour_is_held_for_ever() -> None:
    crops = known(1)
    control = np.zeros(600, np.bool_)
    control[301] = True
    crops = Known(crops.ids, crops.passages, crops.cameras, crops.captured_s, crops.entered_s, crops.left_s, control,
                  np.ones(600, np.bool_))  # fmt: skip
    keep = KeepSettings(window_days=1, held_out=0.2)
    choice = choose(crops, keep, "town", ())
    assert not set(choice.trained) & {300, 301, 302}
    half = Known(*(getattr(crops, name)[:300] for name in Known.__slots__))
    assert set(choose(half, keep, "town", ()).held_hours) <= set(choice.held_hours)
    assert choose(crops, keep, "city", ()).held_hours != choice.held_hours
    share = len(choice.held_hours) / len(np.unique(np.floor(crops.entered_s / HOUR_S)))
    assert share == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize(("share", "group"), [(0.1, 10), (0.333, 3), (0.5, 2), (0.8, 2)])
def test_a_site_of_minutes_has_something_held_out_soon(share: float, group: int) -> None:
    """Whenever it begins, and in no fixed rhythm: a rhythm could hold out the same time of every day."""
    crops, held_s = known(2, count=9000, days=0.5), 300.0
    choice = choose(crops, KeepSettings(held_out=share, held_out_s=held_s), "town", ())
    held, first = np.array(choice.held_hours), int(crops.entered_s.min() // held_s)
    assert np.diff(held).max() < 2 * group
    assert held[0] - first < 2 * group
    assert len(set(np.diff(held).tolist())) > 1
    assert len(held) / len(np.unique(crops.entered_s // held_s)) == pytest.approx(share, abs=0.08)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([3600.0, 900.0, 5000.0]))
def test_what_was_ever_trained_on_does_not_judge(seed: int, lower: float, hour_s: float) -> None:
    """Held out less, and then more, or in other hours: what a round in between was trained on is known to its model."""
    crops = known(seed)
    first = choose(crops, KeepSettings(window_days=10, held_out=lower), "town", ())
    again = choose(crops, KeepSettings(window_days=10, held_out=lower), "town", first.spans)
    np.testing.assert_array_equal(again.judged, first.judged)  # its own spans change nothing: it may be broken off
    raised = KeepSettings(window_days=30, held_out=0.6, held_out_s=hour_s)
    assert set(choose(crops, raised, "town", ()).judged) & set(first.trained)  # else this test shows nothing
    then = choose(crops, raised, "town", first.spans)
    assert not set(then.judged) & set(first.trained)
    held = np.array(then.held_hours) * hour_s
    for begin_s, end_s in first.spans:
        assert not ((held < end_s) & (held + hour_s > begin_s)).any()
    assert f"{then.known_hours} hours would be held out, but were trained on before" in then.sentences[0]
    assert first.sentences == []


def test_spans_are_kept_as_long_as_the_crops_of_their_time(tmp_path) -> None:
    assert trained_on.read(tmp_path) == ()
    trained_on.add(tmp_path, [(20.0, 30.0), (0.0, 10.0)])
    trained_on.add(tmp_path, [(10.0, 12.0), (25.0, 26.0)])
    assert trained_on.read(tmp_path) == ((0.0, 12.0), (20.0, 30.0))
    trained_on.add(tmp_path, [(40.0, 50.0)], before_s=13.0)
    assert trained_on.read(tmp_path) == ((20.0, 30.0), (40.0, 50.0))
    (tmp_path / trained_on.FILE).write_text("[]")
    with pytest.raises(DataError, match="put it back"):
        trained_on.read(tmp_path)


def test_nothing_chooses_nothing() -> None:
    none = Known(*(np.zeros(0, kind) for kind in (int, int, int, float, float, float, bool, bool)))
    choice = choose(none, KeepSettings(), "town", ())
    assert (len(choice.trained), len(choice.judged), choice.held_hours) == (0, 0, ())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 300))
def test_the_reservoir_is_level(seed: int, room: int) -> None:
    """No group could have one more without a larger one, or too many."""
    generator = np.random.default_rng(seed)
    labels = np.minimum(generator.geometric(0.2, 300) - 2, 12)
    cameras, captured_s = generator.integers(0, 3, 300), generator.uniform(0, 1e6, 300)
    kept = reservoir(labels, cameras, captured_s, room)
    assert len(kept) == len(set(kept)) <= room
    groups = labels * 3 + cameras
    sizes = {group: int((groups == group).sum()) for group in set(groups)}
    shares = {group: int((groups[kept] == group).sum()) for group in sizes}
    most = max(shares.values())
    assert all(shares[group] == min(sizes[group], most) for group in sizes)
    if room < 300:
        assert sum(min(size, most + 1) for size in sizes.values()) > room


def test_a_group_is_kept_evenly_over_its_time() -> None:
    captured_s = np.random.default_rng(0).permutation(1000).astype(float)
    kept = reservoir(np.zeros(1000, np.int64), np.zeros(1000, np.int64), captured_s, 10)
    assert np.diff(np.sort(captured_s[kept])).tolist() == [100] * 9
