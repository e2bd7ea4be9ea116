"""Tracks as the items of a clustering: together, apart, and in time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the graph needs torch")
pytest.importorskip("faiss", reason="clustering needs faiss")
pytest.importorskip("numba", reason="clustering needs numba")

from trainer.clustering.dbscan import DbscanSettings
from trainer.clustering.jaccard import Graph, JaccardSettings, Rows
from trainer.clustering.quality import adjusted_rand, track_consistency
from trainer.clustering.recluster import ClusterSettings, cluster
from trainer.clustering.tracks import Tracks, cluster_tracks, seen_together, tracks_of
from trainer.clustering.ways import Way, windows
from trainer.data.records import Crops
from trainer.labels import LabelSettings, clusters

CHOSEN = ClusterSettings(jaccard=JaccardSettings(k1=8, k2=3), eps_candidates=(0.3, 0.4, 0.5, 0.6, 0.7))


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def town(seed: int, vehicles: int, noise: float, every_s: float = 20):
    """Vehicles that pass camera 0, then 1, then 2, four crops each time; each camera has a view of its own on them.
    Features (N, D), crops, identities (N,)."""
    generator = np.random.default_rng(seed)
    looks, views = generator.standard_normal((vehicles, 16)), generator.standard_normal((3, 16))
    entered_s = np.sort(generator.uniform(0, every_s * vehicles, vehicles))
    features, cameras, times_s, identities = [], [], [], []
    for vehicle in range(vehicles):
        now_s = entered_s[vehicle]
        for camera in range(3):
            view = looks[vehicle] + 0.8 * views[camera] + noise * generator.standard_normal(16)
            for crop in range(4):
                features.append(view + 0.3 * generator.standard_normal(16))
                cameras.append(camera)
                times_s.append(1.7e9 + now_s + crop)
                identities.append(vehicle)
            now_s += generator.uniform(60, 90)
    crops = Crops(
        (None,) * len(features), np.array(cameras), np.array(times_s), np.repeat(np.arange(len(features) // 4), 4)
    )
    return unit(np.array(features)), crops, np.array(identities)


def test_tracks_are_means_with_a_beginning_and_an_end() -> None:
    rows = unit(np.random.default_rng(0).standard_normal((6, 4)))
    tracklets, cameras = np.array([7, -1, 7, 3, -1, 3]), np.array([0, 1, 0, 2, 1, 2])
    times_s = np.array([5.0, 1.0, 4.0, 2.0, np.nan, np.nan])
    tracks = tracks_of(rows, tracklets, cameras, times_s)
    assert tracks.of_crop.tolist() == [1, 2, 1, 0, 3, 0]
    means = unit(np.array([rows[3] + rows[5], rows[0] + rows[2], rows[1], rows[4]]))
    np.testing.assert_allclose(tracks.features, means, atol=1e-6)
    assert tracks.cameras.tolist() == [2, 0, 1, 1]
    np.testing.assert_array_equal(tracks.begins_s, [np.nan, 4, 1, np.nan])
    np.testing.assert_array_equal(tracks.ends_s, [np.nan, 5, 1, np.nan])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000))
def test_pairs_seen_together_are_those_of_a_loop(seed: int) -> None:
    generator, count = np.random.default_rng(seed), 40
    cameras = generator.integers(-1, 3, count)
    begins_s = 1.7e9 + generator.integers(0, 30, count).astype(float)
    ends_s = begins_s + generator.integers(0, 12, count)
    begins_s[generator.random(count) < 0.1] = np.nan
    ends_s[np.isnan(begins_s)] = np.nan
    part = np.sort(generator.integers(0, 4, count))  # a chain through each part connects it
    chained = np.append(False, part[1:] == part[:-1])
    starts = np.concatenate([[0], np.cumsum(chained)])
    columns = (np.flatnonzero(chained) - 1).astype(np.int32)
    graph = Graph(Rows(starts, columns, np.full(len(columns), 0.5, np.float32)), 0.6)
    tracks = Tracks(np.arange(count), np.zeros((count, 2), np.float32), cameras, begins_s, ends_s)
    found = {(int(min(pair)), int(max(pair))) for pair in zip(*seen_together(tracks, graph), strict=True)}
    assert found == {
        (a, b)
        for a in range(count)
        for b in range(a + 1, count)
        if part[a] == part[b] and cameras[a] == cameras[b] >= 0
        and begins_s[a] <= ends_s[b] and begins_s[b] <= ends_s[a]
    }  # fmt: skip


def test_crops_of_a_track_share_a_label_and_nobody_is_twice_in_one_view() -> None:
    """Vehicles come in pairs of look-alikes, side by side. Pairs of crops that must stay apart are not enough: the
    look-alike on the next camera joins them."""
    features, crops, _ = town(1, vehicles=120, noise=0.3)
    order = np.arange(len(features)).reshape(120, 12)
    order[1::2] = order[::2]
    noise = 0.05 * np.random.default_rng(1).standard_normal(features.shape)
    features, times_s = unit(features[order.ravel()] + noise), crops.times_s[order.ravel()]
    crops = Crops(crops.paths, crops.cameras, times_s, crops.tracklets)
    found = []
    for form in (LabelSettings(camera_centred=True, keep_apart=True), LabelSettings(camera_centred=True, tracks=True)):
        labels = clusters(features, crops, form.model_copy(update={"clustering": CHOSEN, "transits": True})).labels
        found.append(track_consistency(labels, crops.cameras, crops.times_s, crops.tracklets))
    assert found[0].impossible_clusters > 0.1
    assert (found[1].split_tracks, found[1].impossible_clusters) == (0, 0)
    assert 60 < labels.max() < 240


def test_each_thing_a_site_knows_makes_clusters_better() -> None:
    """Mean agreement with the truth over three towns: crops, tracks, their times, and ways that are written down."""
    ways = (Way(from_camera=0, to_camera=1, min_s=50, max_s=100), Way(from_camera=1, to_camera=2, min_s=50, max_s=100))
    plain = LabelSettings(clustering=CHOSEN, camera_centred=True)
    known = {"tracks": True}, {"tracks": True, "transits": True}, {"tracks": True, "transits": True, "ways": ways}
    forms = [plain, *(plain.model_copy(update=update) for update in known)]
    scores = np.zeros(len(forms))
    for seed in (2, 3, 4):
        features, crops, identities = town(seed, vehicles=150, noise=0.7)
        scores += [adjusted_rand(clusters(features, crops, form).labels, identities) / 3 for form in forms]
    assert (np.diff(scores) > (0.1, 0.05, 0.01)).all(), scores


def test_times_of_several_ways_add_up() -> None:
    ways = [
        Way(from_camera=0, to_camera=1, min_s=7, max_s=45),
        Way(from_camera=1, to_camera=3, min_s=12, max_s=75),
        Way(from_camera=0, to_camera=2, min_s=10, max_s=60),
        Way(from_camera=2, to_camera=3, min_s=7, max_s=45),
        Way(from_camera=3, to_camera=0, min_s=12, max_s=75),
    ]
    found = windows(ways)
    assert found[0, 1] == (7, 45)
    assert found[0, 3] == (17, 120)  # by 1: 19 to 120, by 2: 17 to 105
    assert found[1, 2] == (34, 210)
    assert (1, 1) not in found
    assert (2, 1) in found
    assert windows(()) == {}
    with pytest.raises(ValueError, match="must be more than"):
        Way(from_camera=0, to_camera=1, min_s=9, max_s=9)


def test_a_cluster_needs_its_crops() -> None:
    features, crops, _ = town(5, vehicles=30, noise=1.0)
    tracks = tracks_of(features, crops.tracklets, crops.cameras, crops.times_s)
    few, many = (
        cluster_tracks(tracks, CHOSEN.model_copy(update={"dbscan": DbscanSettings(min_samples=least)}))
        for least in (1, 9)
    )
    assert (few.labels >= 0).all()
    assert np.bincount(many.labels[many.labels >= 0]).min() >= 9
    assert len(many.trials) >= 5


def test_a_fit_bounds_the_neighbours_of_few_tracks() -> None:
    """Fifteen tracks of sixty crops; the limits of finer clusters were chosen for crops."""
    features, crops, _ = town(6, vehicles=5, noise=0.2)
    settings = LabelSettings(clustering=CHOSEN, tracks=True, fit=True)
    found = clusters(features, crops, settings)
    assert (found.settings.jaccard.k1, found.settings.jaccard.k2) == (3, 3)
    assert {trial.eps for trial in found.trials} >= set(CHOSEN.eps_candidates)


def test_ways_still_count_where_the_range_of_eps_is_widened() -> None:
    features, crops, _ = town(7, vehicles=30, noise=0.7)
    ways = {(0, 1): (50.0, 100.0), (1, 2): (50.0, 100.0)}
    narrow = CHOSEN.model_copy(update={"eps_candidates": (0.1, 0.15), "dbscan": DbscanSettings(min_samples=6)})
    known = crops.cameras, None, crops.times_s
    found = cluster(features, narrow, *known, ways=ways)
    assert max(found.settings.eps_candidates) > 0.15
    again, without = (cluster(features, found.settings, *known, ways=each) for each in (ways, None))
    np.testing.assert_array_equal(found.labels, again.labels)
    assert found.transits is not None
    assert again.transits is not None
    assert without.transits is not None
    np.testing.assert_array_equal(found.transits.ratios, again.transits.ratios)
    assert not np.array_equal(found.transits.ratios, without.transits.ratios)
