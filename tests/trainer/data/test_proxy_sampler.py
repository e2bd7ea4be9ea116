"""Proxy-balanced batches: every proxy the same number of crops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.samplers import ProxySamplerSettings, one_proxy_pass, plan_proxy_batches


def sized(sizes, outliers=3):
    """Labels of proxies of these sizes, shuffled among outliers."""
    labels = np.repeat(np.arange(-1, len(sizes)), [outliers, *sizes])
    return np.random.default_rng(0).permutation(labels)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_i_a_pass_gives_every_proxy_its_crops_in_a_run(sizes, crops, seed):
    labels = sized(sizes)
    groups = [np.flatnonzero(labels == number) for number in range(len(sizes))]
    runs = one_proxy_pass(groups, crops, np.random.default_rng(seed)).reshape(len(sizes), crops)
    assert (labels[runs] == labels[runs[:, :1]]).all()
    assert sorted(labels[runs[:, 0]].tolist()) == list(range(len(sizes)))
    for run in runs:
        size, different = sizes[labels[run[0]]], len(set(run.tolist()))
        assert different == crops if size >= crops else 1 <= different <= size


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 12), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_i_batches_are_full_and_hold_different_proxies_and_no_outlier(sizes, steps, seed):
    labels, chosen = sized(sizes), ProxySamplerSettings(steps=steps)
    batches = plan_proxy_batches(labels, chosen, np.random.default_rng(seed))
    assert batches.shape == (steps, 32)
    assert (labels[batches] >= 0).all()
    if len(sizes) >= 8:
        assert all(len(set(row)) == 8 for row in labels[batches][:, ::4].tolist())


def test_i_355_proxies_give_44_batches_a_pass_and_each_pass_a_new_order():
    labels = sized([5] * 355)
    groups = [np.flatnonzero(labels == number) for number in range(355)]
    generator = np.random.default_rng(1)
    first, second = one_proxy_pass(groups, 4, generator), one_proxy_pass(groups, 4, generator)
    assert len(first) == len(second) == 1420
    assert not np.array_equal(labels[first], labels[second])
    batches = labels[plan_proxy_batches(labels, ProxySamplerSettings(steps=88), np.random.default_rng(0))]
    assert batches[:44].size == 1408
    for one_pass in (batches[:44], batches[44:]):
        assert len(set(one_pass[:, ::4].reshape(-1).tolist())) == 352  # no proxy twice before the pass is over


def test_i_one_crop_fills_all_slots_of_its_proxy_and_two_share_them():
    labels = np.array([0, 1, 1])
    generator = np.random.default_rng(0)
    runs = [one_proxy_pass([np.array([0]), np.array([1, 2])], 4, generator) for _ in range(4000)]
    lonely = [run[labels[run] == 0] for run in runs]
    assert all((run == 0).all() and len(run) == 4 for run in lonely)
    shares = np.bincount([int((run == 1).sum()) for run in runs], minlength=5) / 4000
    assert shares[2] == pytest.approx(0.514, abs=0.03)
    assert shares[1] + shares[3] == pytest.approx(0.457, abs=0.03)
    assert shares[0] + shares[4] == pytest.approx(0.029, abs=0.01)


def test_steps_follow_the_clustered_crops_where_none_are_given():
    labels = sized([20] * 10, outliers=100)
    free = ProxySamplerSettings(steps=None)
    assert plan_proxy_batches(labels, free, np.random.default_rng(0)).shape == (200 // 32, 32)
    assert plan_proxy_batches(sized([2, 2]), free, np.random.default_rng(0)).shape == (1, 32)  # at least one


def test_the_same_generator_gives_the_same_batches():
    labels = sized([3, 5, 7])
    one, two = (plan_proxy_batches(labels, ProxySamplerSettings(), np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(one, two)


def test_m_outliers_only():
    with pytest.raises(ValueError, match="no cluster"):
        plan_proxy_batches(np.full(5, -1), ProxySamplerSettings(), np.random.default_rng(0))
