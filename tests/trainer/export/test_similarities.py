"""What a bundle says of its embedder's similarities."""

from pathlib import Path

import numpy as np
import pytest

from trainer.data.records import Crops
from trainer.export.similarities import certain_similarities, tracks_of


def crops_of(tracklets: list[int], cameras: list[int], times_s: list[float]) -> Crops:
    paths = tuple(Path(f"{number}.png") for number in range(len(tracklets)))
    return Crops(paths, np.array(cameras), np.array(times_s, np.float64), np.array(tracklets))


def rows_of(vehicles: list[int], noise: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = np.eye(16)[vehicles] + noise * rng.standard_normal((len(vehicles), 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_tracks_are_in_order_of_time_and_only_of_known_crops():
    crops = crops_of([7, 3, 7, 3, -1, 7, 9], [0, 1, 0, 1, 0, 0, -1], [3.0, 1.0, 2.0, 5.0, 1.0, 9.0, 4.0])
    rows = np.arange(7, dtype=np.float32)[:, None]
    first, second = tracks_of(crops, rows)
    assert (first.camera, first.entered_at_s, first.left_at_s, first.embeddings[:, 0].tolist()) == ("1", 1, 5, [1, 3])
    assert (second.camera, second.entered_at_s, second.left_at_s) == ("0", 2, 9)
    assert second.embeddings[:, 0].tolist() == [2, 0, 5]


def test_a_vehicle_is_more_alike_than_two():
    """Twenty vehicles, two at a time, five crops each."""
    vehicles = [number % 10 for number in range(20) for _ in range(5)]
    tracklets = [number for number in range(20) for _ in range(5)]
    times = [10.0 * (number // 2) + crop for number in range(20) for crop in range(5)]
    said = certain_similarities(crops_of(tracklets, [0] * 100, times), rows_of(vehicles))
    assert said.not_known == ""
    assert said.genuine is not None
    assert said.impostor is not None
    assert (said.genuine.pairs, said.impostor.pairs) == (20, 10)
    assert said.genuine.p01 > 0.9
    assert said.impostor.p99 < 0.3
    assert said.genuine.p01 <= said.genuine.mean <= said.genuine.p99


@pytest.mark.parametrize(
    ("crops", "reason"),
    [
        (crops_of([-1] * 4, [0] * 4, [1.0, 2.0, 3.0, 4.0]), "no tracks with times"),
        (crops_of([1] * 4, [0] * 4, [np.nan] * 4), "no tracks with times"),
        (crops_of([1, 1, 2, 2], [0] * 4, [1.0, 3.0, 2.0, 4.0]), "no track has three crops; no camera saw two"),
        (crops_of([1] * 4, [0] * 4, [1.0, 2.0, 3.0, 4.0]), "not known: no camera saw two"),
    ],
)
def test_what_is_not_known_is_said(crops, reason):
    said = certain_similarities(crops, rows_of([0, 0, 0, 0]))
    assert reason in said.not_known
    assert said.impostor is None
