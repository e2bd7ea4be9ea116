"""Identities cannot reach training: no type it gets has them, no module of it knows the type that does."""

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from trainer.data.records import Crops, Dataset, FixedTest, Labelled, Row, crops_of, labelled_of
from trainer.errors import DataError

TRAINER = Path(__file__).resolve().parents[3] / "trainer"
# Everything that learns. Evaluation, reports, the command line and the readers may know identities.
LEARNING = ("train.py", "memory.py", "losses.py", "extract.py", "methods", "models", "clustering", "data/samplers.py")
FORBIDDEN = {"Labelled", "Truth", "identities", "labelled_of", "labelled_train"}


def test_crops_have_no_identity():
    assert {field.name for field in dataclasses.fields(Crops)} == {"paths", "cameras", "times_s", "tracklets"}
    assert {field.name: field.type for field in dataclasses.fields(Dataset)}["train"] == "Crops"


def test_what_learns_never_names_an_identity():
    files = [
        file
        for place in LEARNING
        for file in ([TRAINER / place] if place.endswith(".py") else (TRAINER / place).rglob("*.py"))
    ]
    files = [file for file in files if file.exists()]
    assert files
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        used = {getattr(node, field, None) for node in ast.walk(tree) for field in ("id", "attr", "name", "arg")}
        assert not used & FORBIDDEN, f"{file.relative_to(TRAINER)} uses {used & FORBIDDEN}"


def test_rows_become_crops_in_order_of_their_paths():
    rows = [Row(Path("b.jpg"), identity=1, camera=2), Row(Path("a.jpg"), identity=5, time_s=3.0, tracklet=9)]
    labelled = labelled_of(rows)
    assert labelled.identities.tolist() == [5, 1]
    assert crops_of(rows).paths == labelled.crops.paths == (Path("a.jpg"), Path("b.jpg"))
    assert labelled.crops.tracklets.tolist() == [9, -1]
    assert labelled.take(np.array([False, True])).crops.cameras.tolist() == [2]
    assert labelled.crops.take(np.array([1, 0])).paths == (Path("b.jpg"), Path("a.jpg"))


def test_columns_of_other_lengths_are_refused():
    crops = crops_of([Row(Path("a.jpg"))])
    with pytest.raises(DataError, match=r"identities has shape \(2,\), expected \(1,\)"):
        Labelled(crops, np.zeros(2, np.int64))
    with pytest.raises(DataError, match=r"Crops.cameras has shape \(2,\), expected \(1,\)"):
        Crops(crops.paths, np.zeros(2, np.int64), crops.times_s, crops.tracklets)


def test_an_empty_data_set_is_refused():
    nothing = crops_of([])
    with pytest.raises(DataError, match="neither training nor test pictures"):
        Dataset("nothing", nothing, None)
    one = labelled_of([Row(Path("a.jpg"), identity=1)])
    assert Dataset("test only", nothing, FixedTest(one, one)).test is not None
