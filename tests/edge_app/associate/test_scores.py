from __future__ import annotations

import numpy as np
import pytest

from edge_app.associate import scores
from edge_app.associate.settings import SimilarityPrior

PRIOR = SimilarityPrior()


def test_evidence_rises_with_similarity_and_is_bounded() -> None:
    empty = scores.new_calibration("", "v1")
    curve = scores.evidence_curve(empty, empty, PRIOR)
    assert (np.diff(curve) >= 0).all()
    assert np.abs(curve).max() <= scores.LIMIT
    assert scores.evidence(0.9, curve) > 1 > -1 > scores.evidence(0.1, curve)


def test_a_pair_of_cameras_learns_its_own_scale() -> None:
    """Front against rear: the same vehicle is only 0.45 alike. After enough pairs, 0.45 speaks for a match."""
    site = pair = scores.new_calibration("", "v1")
    rng = np.random.default_rng(1)
    for _ in range(200):
        pair = scores.learn_similarity(pair, float(rng.normal(0.45, 0.05)), 1.0)
        pair = scores.learn_similarity(pair, float(rng.normal(0.1, 0.1)), 0.0)
    before = scores.evidence(0.45, scores.evidence_curve(site, site, PRIOR))
    after = scores.evidence(0.45, scores.evidence_curve(pair, site, PRIOR))
    assert before < 0.5
    assert after > 2.0


def test_doubtful_pairs_teach_both_sides() -> None:
    taught = scores.learn_similarity(scores.new_calibration("p", "v1"), 0.5, 0.25)
    assert taught.genuine.sum() == pytest.approx(0.25)
    assert taught.impostor.sum() == pytest.approx(0.75)


def test_combined_evidence_knows_its_looks_are_correlated() -> None:
    assert scores.combine([]) == 0.0
    assert scores.combine([2.0]) == 2.0
    assert 2.0 < scores.combine([2.0, 2.0]) < 4.0
    assert scores.combine([100.0]) == scores.LIMIT


def test_a_prior_worth_many_observations_outlasts_what_a_small_site_teaches() -> None:
    """The same few people, again and again, teach that two people are this much alike."""
    taught = untaught = scores.new_calibration("a--b", "v1")
    for value in np.linspace(0.4, 0.7, 300):
        taught = scores.learn_similarity(taught, float(value), genuine=0.0)
    shift = {}
    for observations in (12.0, 100_000.0):
        prior = SimilarityPrior(observations=observations)
        before = scores.evidence(0.55, scores.evidence_curve(untaught, untaught, prior))
        after = scores.evidence(0.55, scores.evidence_curve(taught, taught, prior))
        shift[observations] = before - after
    assert shift[12.0] > 0.5
    assert 0 <= shift[100_000.0] < 0.05


def test_what_was_learned_in_one_place_lifts_nothing_elsewhere() -> None:
    """Impostors seen at 0.4 to 0.7 make the far tail no evidence, and 0.55 less evidence than before."""
    taught = untaught = scores.new_calibration("a--b", "v1")
    for value in np.linspace(0.4, 0.7, 300):
        taught = scores.learn_similarity(taught, float(value), genuine=0.0)
    before, after = (scores.evidence_curve(known, known, PRIOR) for known in (untaught, taught))
    assert scores.evidence(0.55, after) < scores.evidence(0.55, before)
    assert scores.evidence(0.85, after) > scores.evidence(0.85, before)
    assert (np.diff(after) >= 0).all()
