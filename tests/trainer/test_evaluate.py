"""Protocols and camera policies."""

import numpy as np
import pytest

from trainer.errors import DataError
from trainer.evaluate import (
    EvaluationSettings,
    camera_policy,
    evaluate_fixed,
    evaluate_random,
    random_gallery,
)
from trainer.metrics.retrieval import Truth


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def crops(identities, noise, seed=0):
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((identities.max() + 1, 16))
    return unit(centres[identities] + noise * generator.standard_normal((len(identities), 16)))


IDENTITIES = np.repeat(np.arange(12), 4)
CAMERAS = np.tile(np.arange(4), 12)


def test_the_market_protocol_and_its_sentence():
    truth = Truth(IDENTITIES, CAMERAS)
    features = crops(IDENTITIES, 0.1)
    report = evaluate_fixed(features, features, truth, truth, EvaluationSettings())
    assert (report.mAP, report.R1, report.mINP) == (100, 100, 100)
    assert (report.camera_policy, report.protocol, report.queries, report.gallery) == ("cross_camera", "market", 48, 48)
    assert "same identity and same camera removed" in report.sentence()
    assert {"mAP", "R1", "R5", "R10", "mINP", "queries", "gallery", "camera_policy"} <= report.as_dict().keys()


def test_cameras_can_be_ignored_and_the_report_says_so():
    query, gallery = Truth(IDENTITIES, np.zeros(48, int)), Truth(IDENTITIES, np.zeros(48, int))
    features = crops(IDENTITIES, 0.1)
    with pytest.raises(DataError, match="none of the 48 queries has a right entry"):  # one camera: all is removed
        evaluate_fixed(features, features, query, gallery, EvaluationSettings())
    report = evaluate_fixed(features, features, query, gallery, EvaluationSettings(ignore_cameras=True))
    assert (report.mAP, report.camera_policy) == (100, "ignored")
    assert "ignored on request" in report.sentence()


def test_unknown_cameras_remove_nothing():
    unknown, known = Truth(IDENTITIES, np.full(48, -1)), Truth(IDENTITIES, CAMERAS)
    assert camera_policy(unknown, known, EvaluationSettings()) == "unknown"
    assert camera_policy(known, known, EvaluationSettings(ignore_cameras=True)) == "ignored"
    assert camera_policy(unknown, unknown, EvaluationSettings(ignore_cameras=True)) == "unknown"


def test_the_vehicleid_protocol_draws_one_gallery_crop_of_each_identity():
    truth = Truth(IDENTITIES, np.full(48, -1))
    features = crops(IDENTITIES, 0.9)
    report = evaluate_random(features, truth, EvaluationSettings(repetitions=5), np.random.default_rng(0))
    assert (report.gallery, report.queries, report.repetitions) == (12, 36, 5)
    assert (report.protocol, report.camera_policy) == ("vehicleid", "unknown")
    assert 20 < report.R1 < 100
    again = evaluate_random(features, truth, EvaluationSettings(repetitions=5), np.random.default_rng(0))
    assert report == again


def test_the_vehicleid_mean_is_that_of_plain_repetitions():
    truth = Truth(IDENTITIES, np.full(48, -1))
    features, generator = crops(IDENTITIES, 0.9), np.random.default_rng(3)
    ranks = []
    for _ in range(3):
        gallery = random_gallery(IDENTITIES, generator)
        for query in sorted(set(range(48)) - set(gallery.tolist())):
            order = np.argsort(-features[gallery] @ features[query])
            ranks.append(1 + IDENTITIES[gallery][order].tolist().index(IDENTITIES[query]))
    report = evaluate_random(features, truth, EvaluationSettings(repetitions=3), np.random.default_rng(3))
    first = 100 * np.mean(np.array(ranks) == 1)
    assert pytest.approx(first) == report.R1
    assert report.mAP == pytest.approx(100 * np.mean(1 / np.array(ranks)))


def test_random_galleries_are_fair():
    generator = np.random.default_rng(0)
    counts = np.zeros(4)
    for _ in range(400):
        rows = random_gallery(np.array([3, 3, 3, 8]), generator)
        assert rows[-1] == 3
        counts[rows] += 1
    assert counts[:3].min() > 90


@pytest.mark.parametrize("identities", [[], [4, 4, 4], [1, 2, 3]])
def test_vehicleid_needs_two_identities_and_two_crops_of_one(identities):
    identities = np.array(identities, np.int64)
    features = unit(np.ones((len(identities), 4)))
    with pytest.raises(DataError, match="expected at least two identities"):
        evaluate_random(features, Truth(identities, identities), EvaluationSettings(), np.random.default_rng(0))


def test_features_of_another_data_set_are_refused():
    truth, features = Truth(IDENTITIES, CAMERAS), crops(IDENTITIES, 0.1)
    with pytest.raises(DataError, match="47 query and 48 gallery features do not belong to 48 query"):
        evaluate_fixed(features[:47], features, truth, truth, EvaluationSettings())


def test_re_ranking_is_said_and_helps_on_clusters():
    for library in ("faiss", "numba", "torch"):
        pytest.importorskip(library, reason=f"re-ranking needs {library} (extra `trainer`)")
    identities = np.repeat(np.arange(20), 12)
    truth, features = Truth(identities, np.tile(np.arange(6), 40)), crops(identities, 1.0)
    plain = evaluate_fixed(features, features, truth, truth, EvaluationSettings())
    reranked = evaluate_fixed(features, features, truth, truth, EvaluationSettings(rerank=True))
    assert reranked.mAP > plain.mAP + 3
    assert reranked.reranked
    assert "re-ranked" in reranked.sentence()
