"""What can be learned from crops, and whether it was, without a label."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

for library in ("faiss", "numba", "torch"):
    pytest.importorskip(library, reason=f"clustering needs {library} (extra `trainer`)")

from trainer import judge  # noqa: E402
from trainer.data.records import Crops  # noqa: E402

UNKNOWN = np.nan


def world(identities, each, noise=0.3, seed=0):
    """Unit rows (N, 32) of identities with `each` crops; in two cameras by turns; a minute between two identities."""
    generator = np.random.default_rng(seed)
    truth = np.repeat(np.arange(identities), each)
    rows = generator.standard_normal((identities, 32))[truth] + noise * generator.standard_normal((len(truth), 32))
    features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return features, crops_of(len(truth), times_s=60.0 * truth + np.arange(len(truth)) % each)


def crops_of(count, times_s=UNKNOWN, tracklets=-1):
    """N crops in two cameras by turns."""
    paths = tuple(Path(str(number)) for number in range(count))
    return Crops(paths, np.arange(count) % 2, np.broadcast_to(times_s, count) * 1.0, np.broadcast_to(tracklets, count))


def untimed(crops):
    return crops_of(len(crops))


def doubts(features, crops):
    return judge.doubts(judge.evidence_of(features, crops))


def test_identities_with_many_crops_can_be_learned_with_times_and_without():
    features, crops = world(40, 12)
    assert doubts(features, crops) == doubts(features, untimed(crops)) == ()


def test_two_crops_each_are_too_few_and_that_is_said():
    features, crops = world(150, 2)
    (reason,) = doubts(features, untimed(crops))
    assert reason == "most clusters hold 2 crops: too few looks at each identity"


def test_strangers_teach_nothing():
    features, crops = world(300, 1)
    assert doubts(features, crops)
    assert doubts(features, untimed(crops))


def test_one_picture_all_over():
    features, crops = world(1, 100, noise=0)
    assert doubts(features, untimed(crops)) == ("all crops look alike: 1 clusters of 100 crops",)
    assert doubts(features, crops)  # its times are all near each other: they say nothing


def test_twenty_crops_are_too_few_whatever_they_show():
    features, crops = world(4, 5)
    assert any("20 crops are too few" in reason for reason in doubts(features, untimed(crops)))


def test_one_camera_is_enough():
    features, crops = world(40, 12)
    one = Crops(crops.paths, np.zeros(len(crops), np.int64), np.full(len(crops), UNKNOWN), crops.tracklets)
    assert doubts(features, one) == ()


def test_company_is_what_plain_loops_find():
    features, crops = world(9, 6, noise=0.8)
    found, expected = [], []
    for i in range(len(crops)):
        others = [j for j in range(len(crops)) if j != i and crops.cameras[j] == crops.cameras[i]]
        near = [abs(crops.times_s[j] - crops.times_s[i]) <= judge.NEAR_S for j in others]
        found.append(near[int(np.argmax([features[i] @ features[j] for j in others]))])
        expected.append(np.mean(near))
    assert judge.company(features, crops) == pytest.approx(np.mean(found) - np.mean(expected))
    tracked = crops_of(len(crops), tracklets=np.arange(len(crops)) // 6)
    assert judge.company(features, tracked) == pytest.approx(judge.company(features, crops))
    assert judge.company(features, untimed(crops)) is None


def test_times_that_mean_nothing_are_no_evidence():
    features, crops = world(150, 2)
    shuffled = np.random.default_rng(0).permutation(crops.times_s)
    assert doubts(features, crops_of(len(crops), times_s=shuffled))


def test_rank_and_cameras():
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((4000, 6)).astype(np.float32)
    assert judge.effective_rank(rows) == pytest.approx(6, abs=0.1)
    assert judge.effective_rank(np.ones((9, 4), np.float32)) == 1
    cameras = np.arange(4000) % 2
    assert judge.camera_share(rows, cameras) < 0.01
    assert judge.camera_share(rows + 100 * cameras[:, None].astype(np.float32), cameras) > 0.99


START = judge.Evidence(
    crops=900, company=0.5, clusters=60, outlier_share=0.2, size_median=8, silhouette=0.5, rank=40, camera_share=0.05
)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rank": 9.0, "silhouette": 0.9}, "collapse"),
        ({"camera_share": 0.4, "silhouette": 0.9}, "cameras apart"),
        ({"company": 0.3, "silhouette": 0.9}, "one passage"),
        ({"silhouette": 0.5}, "no better apart"),
        ({}, "no better apart"),
    ],
)
def test_a_network_that_is_no_better_is_refused_by_name(change, word):
    (reason,) = judge.losses(START, replace(START, **change))
    assert word in reason


def test_a_better_network_passes():
    assert judge.losses(START, replace(START, silhouette=0.6)) == ()
    assert judge.losses(START, replace(START, company=0.7, silhouette=0.45, clusters=20)) == ()
    untimed_start = replace(START, company=None)
    assert judge.losses(untimed_start, replace(untimed_start, silhouette=0.6)) == ()
    assert judge.Evidence.of(untimed_start.as_dict()) == untimed_start


def test_labels_that_get_worse_are_worth_a_warning():
    first = {"silhouette": 0.6, "outlier_share": 0.2}
    assert judge.worsened(first, first) == ()
    assert judge.worsened(first, {"silhouette": 0.5, "outlier_share": 0.4}) == (
        "silhouette 0.60 → 0.50",
        "outliers 20% → 40%",
    )
    assert judge.worsened({}, {}) == ()
