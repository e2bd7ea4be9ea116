"""Camera-aware proxies: the papers' worked example, invariants, the released code's numbers."""

import numpy as np
import pytest

from trainer.clustering.camera import split_by_camera
from trainer.errors import DataError

CLUSTERS = np.array([0, 0, 0, 1, 1, 0, -1, 1, 2, 2])
CAMERAS = np.array([0, 1, 0, 0, 2, 2, 1, 0, 1, 1])


def test_worked_example():
    proxies = split_by_camera(CLUSTERS, CAMERAS)
    assert proxies.labels.tolist() == [0, 1, 0, 3, 4, 2, -1, 3, 5, 5]


def test_a_proxy_never_mixes_cameras_or_clusters():
    generator = np.random.default_rng(0)
    clusters, cameras = generator.integers(-1, 30, 500), generator.integers(0, 6, 500)
    proxies = split_by_camera(clusters, cameras)
    kept = clusters >= 0
    np.testing.assert_array_equal(proxies.labels < 0, ~kept)
    np.testing.assert_array_equal(proxies.clusters[proxies.labels[kept]], clusters[kept])
    np.testing.assert_array_equal(proxies.cameras[proxies.labels[kept]], cameras[kept])
    assert len(proxies) == len(set(zip(clusters[kept].tolist(), cameras[kept].tolist(), strict=True)))
    order = generator.permutation(500)
    np.testing.assert_array_equal(split_by_camera(clusters[order], cameras[order]).labels, proxies.labels[order])


def test_only_outliers_make_no_proxies():
    proxies = split_by_camera(np.full(4, -1), np.full(4, -1))
    assert len(proxies) == 0
    assert (proxies.labels == -1).all()


def test_a_clustered_crop_without_camera_is_refused():
    with pytest.raises(DataError, match=r"2 clustered crops have no camera number \(the first is crop 1\)"):
        split_by_camera(np.array([0, 0, 1, -1]), np.array([0, -1, -1, -1]))


def test_numbers_of_the_released_code(shared_data):
    file = shared_data.parent / "golden" / "o2cap_step.npz"
    if not file.is_file():
        pytest.skip(f"the released code's numbers are not at {file}")
    golden = np.load(file)
    proxies = split_by_camera(golden["image_clusters"], golden["image_cameras"])
    np.testing.assert_array_equal(proxies.labels, golden["image_proxies"])
    np.testing.assert_array_equal(proxies.clusters, golden["proxy_clusters"])
    np.testing.assert_array_equal(proxies.cameras, golden["proxy_cameras"])
