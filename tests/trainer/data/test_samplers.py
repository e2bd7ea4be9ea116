"""The batches of an epoch."""

import numpy as np
import pytest

from trainer.data.samplers import SamplerSettings, one_pass, plan_batches, steps_of


def world():
    """Clusters of 5 (2 cameras), 6 (1 camera), 1 and 6 (6 cameras) crops, and 3 outliers."""
    labels = np.repeat([0, 1, 2, 3, -1], [5, 6, 1, 6, 3])
    cameras = np.concatenate([[0, 0, 0, 1, 1], [2] * 6, [0], np.arange(6), [0, 0, 0]])
    return labels, cameras


def test_d6_a_pass_gives_thirteen_crops():
    labels, cameras = world()
    groups = [np.flatnonzero(labels == number) for number in range(4)]
    crops = one_pass(groups, cameras, SamplerSettings(clusters=2, crops=4), np.random.default_rng(0))
    assert len(crops) == 13
    assert np.bincount(labels[crops]).tolist() == [4, 4, 1, 4]


@pytest.mark.parametrize("seed", range(5))
def test_further_crops_come_from_other_cameras(seed):
    labels, cameras = world()
    groups = [np.flatnonzero(labels == 3)]
    first, *others = one_pass(groups, cameras, SamplerSettings(clusters=2, crops=4), np.random.default_rng(seed))
    assert len({first, *others}) == 4  # five crops on other cameras: no repetition
    assert all(cameras[other] != cameras[first] for other in others)
    lonely = one_pass(
        [np.flatnonzero(labels == 1)], cameras, SamplerSettings(clusters=2, crops=4), np.random.default_rng(seed)
    )
    assert len(set(lonely.tolist())) == 4  # one camera only: others of the same camera


def test_batches_are_full_have_no_outliers_and_repeat_for_a_seed():
    labels, cameras = world()
    settings = SamplerSettings(clusters=2, crops=4, steps=7, other_cameras=False)
    batches = plan_batches(labels, cameras, settings, np.random.default_rng(3))
    assert batches.shape == (7, 8)
    assert (labels[batches] >= 0).all()
    assert np.array_equal(batches, plan_batches(labels, cameras, settings, np.random.default_rng(3)))


def test_fewer_clusters_than_a_batch_needs_still_fill_it():
    labels, cameras = world()
    batches = plan_batches(labels, cameras, SamplerSettings(clusters=16, crops=4, steps=3), np.random.default_rng(0))
    assert batches.shape == (3, 64)


def test_no_cluster_at_all():
    with pytest.raises(ValueError, match="no cluster"):
        plan_batches(np.full(5, -1), np.zeros(5, int), SamplerSettings(), np.random.default_rng(0))


def test_steps_follow_the_crops():
    assert [steps_of("crops", crops, 64) for crops in (20, 175, 6094, 100_000)] == [10, 10, 96, 1563]
    assert steps_of(7, 6094, 64) == 7
    settings = SamplerSettings(clusters=2, crops=2, steps="crops")
    labels = np.arange(100) % 5
    assert len(plan_batches(labels, labels, settings, np.random.default_rng(0))) == 25
