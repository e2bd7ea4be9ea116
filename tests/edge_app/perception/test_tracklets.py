"""Tracklets from tables of tiny worlds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_app.errors import StoreError
from edge_app.perception.finished import TrackletSettings, Zone, displacement, diverse, frame_edge
from edge_app.perception.tracklets import TrackletBuilder
from edge_app.types import Frame, Tracklet, Tracks, View

EPOCH_S = 1_790_000_000.0
NAMES = ("person", "car", "truck")
ID = "n1/a/7/1"
FRAME = Frame("a", EPOCH_S, None, 800, 600)


def builder(zones: dict[str, Zone] | None = None, **changes) -> TrackletBuilder:
    made = TrackletBuilder("n1", NAMES, {"a": zones or {}}, TrackletSettings(**changes))
    made.use_embedder("v1", 4)
    return made


def observe(
    made: TrackletBuilder, k: int, box: tuple[float, ...], index: int = 1, score: float = 0.9, track=ID
) -> None:
    arrays = np.array([box], np.float32), np.array([score], np.float32), np.array([index])
    made.observe(FRAME, Tracks("a", EPOCH_S + k / 10, (track,), *arrays))


def rightwards(k: int) -> tuple[float, ...]:
    return (10.0 + 20 * k, 200.0, 90.0 + 20 * k, 280.0)


def unit(*values: float) -> np.ndarray:
    row = np.array(values, np.float32)
    return row / np.linalg.norm(row)


def give(made: TrackletBuilder, quality: float, row: np.ndarray, track: str = ID) -> None:
    made.add_views([View(track, "a", EPOCH_S, np.zeros(4, np.float32), quality, None)], row[None])


def test_a_passage_becomes_a_tracklet() -> None:
    made = builder()
    for k in range(35):
        observe(made, k, rightwards(k))
    give(made, 0.5, unit(1, 0, 0, 0))
    found = made.close([ID])[0]
    assert (found.id, found.node, found.camera, found.class_name) == (ID, "n1", "a", "car")
    assert found.entry_time_s == EPOCH_S
    assert found.exit_time_s == pytest.approx(EPOCH_S + 3.4)
    assert found.time_sigma_s == pytest.approx(0.05)  # 0.1 s / √12 is less than the floor
    assert (found.entry_zone, found.exit_zone) == ("left", "right")
    assert found.heading_rad == pytest.approx(0.0)
    assert (found.embeddings.shape, found.embedding_version) == ((1, 4), "v1")
    assert found.qualities.tolist() == [0.5]
    assert found.path_boxes.shape == (35, 4)
    assert made.open_tracks == 0
    assert made.close([ID]) == []


def test_without_views_there_are_no_embeddings() -> None:
    made = builder()
    for k in range(9):
        observe(made, k, rightwards(k))
    found = made.flush()[0]
    assert (found.embeddings.shape, found.qualities.shape) == ((0, 4), (0,))


def test_short_tracks_are_dropped_and_counted() -> None:
    made = builder(minimum_observations=4, minimum_duration_s=0.35)
    for count, track in ((3, "x"), (4, "y"), (5, "z")):
        for k in range(count):
            observe(made, k, rightwards(k), track=track)
    assert [found.id for found in made.flush()] == ["z"]
    assert made.dropped == 2


def test_class_is_voted_by_score() -> None:
    made = builder()
    for k, (index, score) in enumerate([(1, 0.5), (1, 0.5), (2, 0.9), (2, 0.9), (1, 0.5)]):
        observe(made, k, rightwards(k), index, score)
    assert made.flush()[0].class_name == "truck"


@pytest.mark.parametrize(
    ("step", "heading"),
    [((30, 0), 0.0), ((0, 30), math.pi / 2), ((-30, 0), math.pi), ((20, -20), -math.pi / 4), ((0.5, 0), math.nan)],
)
def test_heading(step: tuple[float, float], heading: float) -> None:
    made = builder()
    for k in range(10):
        observe(made, k, (300.0 + step[0] * k, 250.0 + step[1] * k, 380.0 + step[0] * k, 330.0 + step[1] * k))
    found = made.flush()[0].heading_rad
    assert found == pytest.approx(heading, nan_ok=True)


@pytest.mark.parametrize(
    ("box", "outwards", "edge"),
    [
        ((0, 200, 90, 280), (0, 0), "left"),
        ((700, 200, 799, 280), (0, 0), "right"),
        ((300, 5, 380, 90), (0, 0), "top"),
        ((300, 500, 380, 600), (0, 0), "bottom"),
        ((300, 200, 380, 280), (9, 0), "inside"),
        ((0, 520, 90, 600), (-5, 1), "left"),  # a corner: the motion decides
        ((0, 520, 90, 600), (-1, 5), "bottom"),
        ((10, 520, 90, 599), (0, 0), "bottom"),  # no motion: the closest
    ],
)
def test_frame_edge(box, outwards, edge) -> None:
    assert frame_edge(box, (800, 600), outwards, 0.06) == edge


def test_zones_come_before_edges() -> None:
    zones = {"slip road": Zone(polygon=((0, 0.3), (0.2, 0.3), (0.2, 0.7), (0, 0.7)))}
    made = builder(zones)
    for k in range(35):
        observe(made, k, rightwards(k))
    found = made.flush()[0]
    assert (found.entry_zone, found.exit_zone) == ("slip road", "right")


def test_a_box_that_the_frame_cuts_off_is_in_the_zone_at_the_border() -> None:
    made = builder({"stop line": Zone(polygon=((0, 0.5), (1, 0.5), (1, 1), (0, 1)))})
    for k in range(35):
        observe(made, k, (300, 400, 400, 600))
    assert made.flush()[0].exit_zone == "stop line"


def test_zones_are_polygons_in_shares_of_the_frame() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Zone(polygon=((0, 0), (1, 0), (0, 300)))
    with pytest.raises(ValidationError):
        Zone(polygon=((0, 0), (1, 0)))


def test_long_paths_are_thinned_and_keep_their_ends() -> None:
    made = builder()
    for k in range(5000):
        observe(made, k, (k / 10, 200.0, k / 10 + 80, 280.0))
    found = made.flush()[0]
    assert len(found.path_times_s) <= 64
    assert (np.diff(found.path_times_s) > 0).all()
    assert found.path_times_s[0] == EPOCH_S
    assert found.path_times_s[-1] == EPOCH_S + 499.9
    np.testing.assert_allclose(found.path_boxes[-1], [499.9, 200, 579.9, 280])
    assert found.exit_time_s - found.entry_time_s == pytest.approx(499.9)


def test_displacement_is_between_both_ends() -> None:
    boxes = np.array([[0, 0, 2, 2]] * 5 + [[6, -4, 8, -2]] * 5, np.float64)
    assert displacement(boxes) == (6.0, -4.0)
    assert displacement(boxes[:1]) == (0.0, 0.0)


def diverse_loop(rows: list[np.ndarray], qualities: list[float], most: int) -> list[int]:
    allowed = [i for i, quality in enumerate(qualities) if quality >= max(qualities) / 2]
    chosen = [max(allowed, key=lambda i: (qualities[i], -i))]
    while len(chosen) < min(most, len(allowed)):

        def gain(i: int) -> float:
            nearest = max(float(np.dot(rows[i].astype(np.float64), rows[j].astype(np.float64))) for j in chosen)
            return qualities[i] * (1.05 - min(max(nearest, -1), 1))

        left = [i for i in allowed if i not in chosen]
        chosen.append(max(left, key=lambda i: (round(gain(i), 12), -i)))
    return chosen


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_diverse_is_the_plain_loop(count: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [unit(*rng.normal(size=6)) for _ in range(count)]
    qualities = rng.random(count).tolist()
    assert diverse(rows, qualities, most) == diverse_loop(rows, qualities, most)


def test_diverse_prefers_new_looks_over_copies_and_drops_poor_ones() -> None:
    front, side = unit(1, 0, 0, 0), unit(0, 1, 0, 0)
    rows = [front, front, front, side, unit(0, 0, 1, 0)]
    assert diverse(rows, [0.8, 0.9, 0.85, 0.6, 0.2], 2) == [1, 3]
    assert diverse(rows, [0.8, 0.9, 0.85, 0.6, 0.2], 8) == [1, 3, 2, 0]  # the last is below half the best
    assert diverse([], [], 8) == []


def test_only_so_many_embeddings_are_kept_while_open() -> None:
    made = builder()
    rng = np.random.default_rng(0)
    for k in range(100):
        observe(made, k, rightwards(0))
        give(made, 0.5 + k / 1000, unit(*rng.normal(size=4)))
    found = made.flush()[0]
    assert found.embeddings.shape == (8, 4)
    assert found.qualities.min() > 0.5 + 66 / 1000
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, rtol=1e-6)


def test_how_far_each_camera_has_been_seen() -> None:
    made = builder()
    for k, track in ((0, "x"), (5, "y"), (9, "x")):
        observe(made, k, rightwards(k), track=track)
    assert made.seen_until(EPOCH_S + 1) == {"a": EPOCH_S + 0.5}  # y was last seen then, and may have left
    made.close(["y"])
    assert made.seen_until(EPOCH_S + 1) == {"a": EPOCH_S + 0.9}
    made.flush()
    assert made.seen_until(EPOCH_S + 1) == {}


def test_views_of_unknown_tracks_are_ignored() -> None:
    made = builder()
    give(made, 0.5, unit(1, 0, 0, 0), track="n1/a/7/99")
    assert made.open_tracks == 0


def test_embeddings_of_two_versions_are_never_mixed() -> None:
    made = builder()
    for k in range(9):
        observe(made, k, rightwards(k))
    give(made, 0.5, unit(1, 0, 0, 0))
    made.use_embedder("v2", 3)
    give(made, 0.6, unit(0, 1, 0))
    found = made.flush()[0]
    assert (found.embeddings.tolist(), found.embedding_version) == ([[1, 0, 0, 0]], "v1")


def test_tracks_of_two_versions_end_as_passages_of_their_own_also_after_a_restart() -> None:
    made = builder()
    for k in range(9):
        for lane in range(3):
            left, top, right, bottom = rightwards(k)
            observe(made, k, (left, top + 90 * lane, right, bottom + 90 * lane), track=f"n1/a/7/{lane + 1}")
    give(made, 0.5, unit(1, 0, 0, 0), "n1/a/7/1")
    made.use_embedder("v2", 3)
    give(made, 0.6, unit(0, 1, 0), "n1/a/7/2")
    again = builder()
    again.restore(made.snapshot())
    again.use_embedder("v3", 2)
    give(again, 0.9, unit(1, 0), "n1/a/7/1")
    found = again.flush()
    assert [one.embedding_version for one in found] == ["v1", "v2", "v3"]
    assert [one.embeddings.tolist() for one in found] == [[[1, 0, 0, 0]], [[0, 1, 0]], []]
    assert [one.embeddings.shape for one in found] == [(1, 4), (1, 3), (0, 2)]


def assert_same(first: Tracklet, second: Tracklet) -> None:
    for name in Tracklet.__slots__:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def test_going_on_from_a_snapshot_is_going_on() -> None:
    rng = np.random.default_rng(2)
    one, other = builder(), builder()
    for k in range(400):
        if k == 170:
            other.restore(one.snapshot())
            other.use_embedder("v1", 4)
        for track, row in (("x", unit(*rng.normal(size=4))), ("y", unit(*rng.normal(size=4)))):
            box = tuple(rng.uniform([0, 0, 300, 300], [300, 300, 600, 600]))
            index, quality = int(rng.integers(3)), rng.random()
            for made in (one, other) if k >= 170 else (one,):
                observe(made, k, box, index, quality, track)
                if k % 9 == 0:
                    give(made, quality, row, track)
    for first, second in zip(one.flush(), other.flush(), strict=True):
        assert_same(first, second)


def test_a_damaged_snapshot_is_refused_and_changes_nothing() -> None:
    made = builder()
    for k in range(9):
        observe(made, k, rightwards(k))
    give(made, 0.5, unit(1, 0, 0, 0))
    good = made.snapshot()
    for damaged in (b"", b"{}\n", b"[1]\n", good[:-4], good + b"1234", good.replace(b"tracklets/4", b"tracklets/3")):
        with pytest.raises(StoreError, match="tracklets are unusable"):
            made.restore(damaged)
    assert made.snapshot() == good


def test_a_passage_has_not_ended_while_another_track_goes_on_with_it() -> None:
    """Its crops are kept until then."""
    made = builder()
    for k in range(10):
        observe(made, k, rightwards(k), track="n1/a/7/1")
    for k in range(11, 20):
        observe(made, k, rightwards(k), track="n1/a/7/2")
    assert made.close(["n1/a/7/1"]) == []
    assert made.pieces == 1
    assert made.names() == {"n1/a/7/1", "n1/a/7/2"}
    (found,) = made.close(["n1/a/7/2"])
    assert (found.id, found.entry_time_s, found.exit_time_s) == ("n1/a/7/1", EPOCH_S, EPOCH_S + 1.9)
    assert made.names() == frozenset()
