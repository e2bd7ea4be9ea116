"""mAP, CMC and mINP against plain loops, worked numbers and scikit-learn."""

import numpy as np
import pytest

from trainer.errors import DataError
from trainer.metrics.retrieval import Truth, score, score_queries, squared_distances


def plain_query(distances, identity, camera, gallery):
    """AP, first rank, INP of one query by loops; wrong entries stand before right ones at equal distance."""
    entries = []
    for distance, other, seen_by in zip(distances, gallery.identities, gallery.cameras, strict=True):
        if other == identity and seen_by == camera and camera >= 0:
            continue
        entries.append((distance, other == identity))
    entries.sort(key=lambda entry: (entry[0], entry[1]))
    ranks = [rank for rank, (_, right) in enumerate(entries, start=1) if right]
    if not ranks:
        return None
    precisions = []
    for rank in ranks:
        level = entries[rank - 1][0]
        shown = [right for distance, right in entries if distance <= level]  # the whole tie is shown at once
        precisions.append(sum(shown) / len(shown))
    return sum(precisions) / len(precisions), ranks[0], len(ranks) / ranks[-1]


def random_problem(seed, levels=None):
    generator = np.random.default_rng(seed)
    queries, crops = int(generator.integers(1, 40)), int(generator.integers(1, 120))
    people, cameras = int(generator.integers(1, 15)), int(generator.integers(1, 5))
    query = Truth(generator.integers(0, people, queries), generator.integers(-1, cameras, queries))
    gallery = Truth(generator.integers(0, people, crops), generator.integers(-1, cameras, crops))
    distances = generator.random((queries, crops)).astype(np.float32)
    if levels:
        distances = np.floor(distances * levels).astype(np.float32)
    return distances, query, gallery


@pytest.mark.parametrize("levels", [None, 10, 3, 1])
@pytest.mark.parametrize("seed", range(12))
def test_scores_are_those_of_plain_loops(seed, levels):
    distances, query, gallery = random_problem(seed, levels)
    found = score_queries([distances[:7], distances[7:]], query, gallery)
    for place in range(len(query)):
        expected = plain_query(distances[place], query.identities[place], query.cameras[place], gallery)
        if expected is None:
            assert not found.valid[place]
            assert np.isnan(found.average_precision[place])
            continue
        assert found.average_precision[place] == pytest.approx(expected[0])
        assert found.first_rank[place] == expected[1]
        assert found.inverse_penalty[place] == pytest.approx(expected[2])


@pytest.mark.parametrize("levels", [None, 4])
def test_average_precision_is_that_of_scikit_learn(levels):
    metrics = pytest.importorskip("sklearn.metrics", reason="the oracle needs scikit-learn (extra `trainer`)")
    generator = np.random.default_rng(0)
    distances = generator.random((20, 50)).astype(np.float32)
    if levels:
        distances = np.floor(distances * levels).astype(np.float32)
    query = Truth(generator.integers(0, 5, 20), np.full(20, -1))
    gallery = Truth(generator.integers(0, 5, 50), np.full(50, -1))
    found = score_queries([distances], query, gallery).average_precision
    expected = [
        metrics.average_precision_score(gallery.identities == identity, -row)
        for identity, row in zip(query.identities, distances, strict=True)
    ]
    np.testing.assert_allclose(found, expected)


def single(right, distances=None):
    """Scores of one query; `right` marks the gallery in order of distance."""
    right = np.array(right)
    distances = np.arange(len(right)) if distances is None else np.array(distances)
    query, gallery = Truth(np.array([1]), np.array([0])), Truth(np.where(right, 1, 2), np.full(len(right), 1))
    return score([distances[None].astype(np.float32)], query, gallery)


def test_worked_numbers():
    scores = single([True, False, True, False, True])
    assert scores.mAP == pytest.approx(75.5556, abs=1e-4)
    assert (scores.R1, scores.R5, scores.mINP) == (100, 100, pytest.approx(60))
    tied = single([True, True, False, False], [1, 1, 1, 1])
    assert (tied.mAP, tied.R1, tied.R5, tied.mINP) == (50, 0, 100, 50)


def test_a_collapsed_embedding_earns_nothing_from_the_order_of_the_files():
    query, gallery = Truth(np.arange(10), np.zeros(10, int)), Truth(np.arange(10), np.ones(10, int))
    scores = score([np.zeros((10, 10), np.float32)], query, gallery)
    assert (scores.mAP, scores.R1, scores.R10, scores.mINP) == (pytest.approx(10), 0, 100, pytest.approx(10))


def test_a_query_without_a_right_entry_is_counted_and_left_out():
    query = Truth(np.array([1, 9]), np.array([0, 0]))
    gallery = Truth(np.array([1, 2]), np.array([1, 1]))
    scores = score([np.array([[0, 1], [0, 1]], np.float32)], query, gallery)
    assert (scores.mAP, scores.queries, scores.queries_without_match, scores.gallery) == (100, 1, 1, 2)


def test_only_the_same_known_camera_is_junk():
    distances = np.array([[0, 1, 2]], np.float32)
    gallery = Truth(np.array([1, 2, 1]), np.array([0, 0, 1]))
    assert score([distances], Truth(np.array([1]), np.array([0])), gallery).mAP == 50  # first entry removed
    assert score([distances], Truth(np.array([1]), np.array([-1])), gallery).mAP == pytest.approx(100 * (1 + 2 / 3) / 2)


def test_no_query_with_a_right_entry_is_an_error_that_says_where_to_look():
    query, gallery = Truth(np.array([1, 2]), np.array([0, 0])), Truth(np.array([1, 2]), np.array([0, 0]))
    with pytest.raises(DataError, match="none of the 2 queries has a right entry among the 2 gallery crops"):
        score([np.zeros((2, 2), np.float32)], query, gallery)


def test_distances_come_in_blocks_and_are_squared_euclidean():
    generator = np.random.default_rng(0)
    query, gallery = generator.standard_normal((2, 9, 5)).astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    blocks = list(squared_distances(query, gallery, block=4))
    assert [len(block) for block in blocks] == [4, 4, 1]
    expected = ((query[:, None] - gallery[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "expected distances of 2 queries"),
        ([np.zeros((1, 2), np.float32)], "expected distances of 2 queries, at least one, got 1"),
        ([np.zeros((2, 3), np.float32)], r"a block of distances \(2, 3\) does not fit"),
        ([np.full((2, 2), np.nan, np.float32)], "nan"),
    ],
)
def test_distances_that_do_not_fit_are_refused(blocks, message):
    truth = Truth(np.array([1, 2]), np.array([0, 1]))
    with pytest.raises(DataError, match=message):
        score(blocks, truth, truth)


def test_labels_of_different_length_are_refused():
    with pytest.raises(DataError, match="one entry per crop"):
        Truth(np.zeros(3, int), np.zeros(2, int))
