"""What `edge-app check` says of the collection."""

from pathlib import Path

import pytest

from edge_app.collection.settings import CollectionSettings
from edge_app.collection.told import told, unseen_persons
from edge_app.errors import StoreError


def test_what_is_kept_where_and_how_much(tmp_path: Path) -> None:
    settings = CollectionSettings(enabled=True, folder=tmp_path / "deep" / "spool")
    said = told(settings, ("car", "person"))
    assert said.startswith(
        "of a passage at most 4 crops, of 10% of them all; none in which a person is found; at most 200 MB in 24 hours "
        f"and 2,000 MB for 7 days; {tmp_path}/deep/spool will be made, "
    )
    assert not settings.folder.exists(), "looking makes nothing"
    settings.folder.mkdir(parents=True)
    (settings.folder / "a.tar").write_bytes(bytes(3_000_000))
    assert "spool holds 1 shards, 3 MB; " in told(settings, ("car", "person"))


@pytest.mark.parametrize(("persons", "classes", "unseen"), [
    ("never", ("car", "person"), False), ("never", ("car",), True), ("blur", ("car",), True), ("keep", ("car",), False),
])  # fmt: skip
def test_a_detector_that_does_not_know_persons(tmp_path: Path, persons, classes, unseen) -> None:
    settings = CollectionSettings(persons=persons, folder=tmp_path)
    assert (unseen_persons(settings, classes) is not None) == unseen
    assert ("is not noticed" in told(settings, classes)) == unseen
    assert "is not noticed" not in told(settings, None), "nothing is said of a detector that could not be opened"


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "spool"):
        with pytest.raises(StoreError, match=r"collection\.folder .*; choose another one"):
            told(CollectionSettings(folder=folder), ())
