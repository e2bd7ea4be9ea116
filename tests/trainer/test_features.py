"""features.npz and labels.npz: round trip, refusal, no half files."""

import errno

import numpy as np
import pytest

from trainer.errors import DataError, WorldError
from trainer.features import FeatureTable, load_features, load_labels, save_features, save_labels


def test_round_trip(tmp_path):
    table = FeatureTable(
        features=np.eye(3, 4, dtype=np.float32),
        cameras=np.array([0, 1, -1]),
        identities=np.array([5, 5, 6]),
        paths=np.array(["a.jpg", "bé.jpg", "c.jpg"]),
    )
    save_features(tmp_path / "features.npz", table)
    found = load_features(tmp_path / "features.npz")
    for name in ("features", "cameras", "identities", "paths"):
        np.testing.assert_array_equal(getattr(found, name), getattr(table, name))
    save_labels(tmp_path / "labels.npz", np.array([0, -1, 0]))
    assert load_labels(tmp_path / "labels.npz").tolist() == [0, -1, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.npz", "labels.npz"]


def test_only_features_are_required(tmp_path):
    np.savez(tmp_path / "f.npz", features=np.ones((2, 2)))
    found = load_features(tmp_path / "f.npz")
    assert found.features.dtype == np.float32
    assert found.cameras is found.identities is found.paths is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones(3)}, r"expected an array `features` .*got \['x'\]"),
        ({"features": np.ones(3)}, r"features have shape \(3,\), expected \(N, D\)"),
        ({"features": np.ones((3, 2), int)}, "features are int64, expected float32"),
        ({"features": np.ones((3, 2)), "cameras": np.zeros(2, int)}, r"cameras have shape \(2,\), expected \(3,\)"),
        ({"features": np.ones((3, 2)), "identities": np.zeros(3)}, "identities are float64, expected whole numbers"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_features(tmp_path / "f.npz")


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_features(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match=r"not an \.npz file of plain arrays, or damaged"):
        load_features(tmp_path / "text.npz")
    np.savez(tmp_path / "good.npz", features=np.ones((50, 50)))
    data = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="damaged"):
        load_features(tmp_path / "half.npz")
    np.save(tmp_path / "single.npy", np.ones(3))
    with pytest.raises(DataError, match=r"not an \.npz file"):
        load_features(tmp_path / "single.npy")
    np.savez(tmp_path / "evil.npz", features=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="plain arrays"):
        load_features(tmp_path / "evil.npz")
    np.savez(tmp_path / "labels.npz", labels=np.ones((2, 2), int))
    with pytest.raises(DataError, match="expected an array `labels`"):
        load_labels(tmp_path / "labels.npz")


def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch):
    save_labels(tmp_path / "labels.npz", np.array([1, 2]))

    def full(stream):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trainer.features.os.fsync", full)
    with pytest.raises(WorldError, match=r"labels.npz: cannot be written: No space left on device"):
        save_labels(tmp_path / "labels.npz", np.array([3, 4]))
    assert load_labels(tmp_path / "labels.npz").tolist() == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["labels.npz"]
