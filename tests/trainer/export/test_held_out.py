"""Which crops judge an export, and who is who among them."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="clustering needs faiss")
pytest.importorskip("numba", reason="clustering needs numba")

from tiny_crops import write_market

from edge_app.contract.preprocess import InputSpec
from trainer.data.records import Crops
from trainer.errors import DataError
from trainer.export.held_out import ExportCrops, gather, judges, tracks_apart, window
from trainer.export.similarities import certain_similarities
from trainer.export.verify import compare
from trainer.metrics.retrieval import Truth

SPEC = InputSpec(width_px=16, height_px=32)


def unlabelled(cameras: np.ndarray) -> ExportCrops:
    everyone = np.arange(len(cameras))
    truth = Truth(np.full(len(cameras), -1), cameras)
    return ExportCrops(None, None, None, None, truth, everyone, everyone, False)  # type: ignore[arg-type]


def rows_of(identities: np.ndarray, noise: float = 0.05) -> np.ndarray:
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((identities.max() + 1, 24))[identities]
    rows = rows + noise * generator.standard_normal(rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_labelled_test_part_judges(tmp_path):
    crops = gather(write_market(tmp_path / "crops"), None, tmp_path / "cache", SPEC, 20)
    assert len(crops.held) == 18  # two whole identities
    assert crops.labelled
    assert len(np.unique(crops.truth.identities)) == 2
    assert (len(crops.query), len(crops.gallery)) == (6, 12)
    assert len(crops.spare) == len(crops.spare_pixels) == 54
    found = judges(crops, rows_of(crops.truth.identities - crops.truth.identities.min()))
    assert found is not None
    assert not found.pseudo


def test_without_a_test_part_every_fifth_crop_is_held_out(tmp_path):
    write_market(tmp_path / "crops")
    folder = tmp_path / "crops" / "bounding_box_train"
    crops = gather(folder, None, tmp_path / "cache", SPEC, 1000)
    assert (len(crops.held), len(crops.spare)) == (11, 43)
    assert not crops.labelled
    for path in sorted(folder.iterdir())[9:]:
        path.unlink()
    with pytest.raises(DataError, match="at least 10"):
        gather(folder, None, tmp_path / "cache", SPEC, 1000)


def test_whole_tracks_are_held_out(tmp_path):
    """A track of which one crop judges measures no ranges; three of its crops are needed for its thirds."""
    folder = write_market(tmp_path / "crops") / "bounding_box_train"
    names = sorted(path.name for path in folder.iterdir())
    table = tmp_path / "crops.csv"
    rows = [f"crops/bounding_box_train/{name},{name[5:7]},{n}.5,{n // 3}" for n, name in enumerate(names)]
    table.write_text("\n".join(["path,camera,time,tracklet", *rows]))
    crops = gather(table, None, tmp_path / "cache", SPEC, 1000)
    _, sizes = np.unique(crops.held_crops.tracklets, return_counts=True)
    assert (len(crops.held), len(crops.spare), sizes.tolist()) == (12, 42, [3, 3, 3, 3])
    assert not set(crops.held_crops.tracklets) & set(crops.spare.tracklets)
    few = gather(table, None, tmp_path / "cache", SPEC, 7)
    assert len(few.held) == 6  # whole tracks, at most seven crops
    assert len(few.spare) == 42
    said = certain_similarities(few.held_crops, rows_of(np.repeat(np.arange(2), 3)))
    assert said.genuine is not None


def test_few_tracks_are_not_held_out_as_a_whole():
    crops = Crops(tuple(map(Path, "abcdefghijkl")), np.zeros(12, int), np.zeros(12), np.repeat([0, 1], 6))
    assert tracks_apart(crops).tolist() == list(range(12))
    mixed = Crops(crops.paths, crops.cameras, crops.times_s, np.array([4, 4, -1, -1, 4, -1, -1, 9, 9, -1, -1, -1]))
    assert tracks_apart(mixed).tolist() == [0, 0, 2, 3, 0, 4, 5, 1, 1, 6, 7, 8]


@pytest.mark.parametrize("known", [True, False])
def test_clusters_stand_in_for_labels(known):
    identities = np.repeat(np.arange(8), 10)
    rows = rows_of(identities)
    found = judges(unlabelled(np.arange(80) % 2 if known else np.full(80, -1)), rows)
    assert found is not None
    assert found.pseudo
    comparison = compare(rows, rows, found)
    assert comparison.mAP == comparison.mAP_float == 100
    assert comparison.false_match_rate == 1e-3


@pytest.mark.parametrize(
    ("times_s", "expected"),
    [
        ([1.7e9, np.nan, 1.8e9], (1.7e9, 1.8e9)),
        ([np.nan, np.nan, np.nan], None),
        ([0.0, 7_218.0, 45_000.0], None),  # a research set's own clock
    ],
)
def test_the_window_of_the_training_crops_is_one_of_the_calendar(times_s, expected):
    unknown = np.full(3, -1)
    assert window(Crops((Path("a"), Path("b"), Path("c")), unknown, np.array(times_s), unknown)) == expected


def test_nobody_judges_where_nobody_is_seen_again():
    alone = np.arange(30)
    assert judges(unlabelled(alone % 3), rows_of(alone)) is None  # fewer crops than neighbours: all one cluster
    one_camera = np.repeat(np.arange(8), 10)
    assert judges(unlabelled(one_camera), rows_of(one_camera)) is None
