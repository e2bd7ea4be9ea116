"""CAP and O2CAP as whole methods: they learn across cameras, and small sites do not break them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")

from proxy_worlds import crops_from, cross_camera_map, linear_network, synthetic_site, train  # noqa: E402

from trainer.clustering.dbscan import DbscanSettings  # noqa: E402
from trainer.clustering.jaccard import JaccardSettings  # noqa: E402
from trainer.clustering.recluster import ClusterSettings  # noqa: E402
from trainer.data.samplers import ProxySamplerSettings  # noqa: E402
from trainer.errors import DataError  # noqa: E402
from trainer.labels import LabelSettings  # noqa: E402
from trainer.methods.cap import CAP, CapSettings  # noqa: E402
from trainer.methods.o2cap import O2CAP, O2capSettings  # noqa: E402

METHODS = pytest.mark.parametrize("kind", [CAP, O2CAP])


def method_of(kind, cameras, *, k1=20, eps=0.5, min_samples=4, steps=60):
    clusters = ClusterSettings(
        jaccard=JaccardSettings(k1=k1, k2=6 if k1 == 20 else 3), dbscan=DbscanSettings(eps=eps, min_samples=min_samples)
    )
    common = {"labels": LabelSettings(clustering=clusters), "sampler": ProxySamplerSettings(steps=steps)}
    settings = O2capSettings(**common) if kind is O2CAP else CapSettings(offline_from_epoch=1, **common)
    torch.manual_seed(0)
    return kind(linear_network(32), crops_from(cameras), settings, seed=0)


@METHODS
def test_n_learns_across_cameras_and_less_with_shuffled_cameras(kind):
    vectors, identity, camera = synthetic_site(0, shift=1.5)
    gains = {}
    for name, given in (("true", camera), ("shuffled", np.random.default_rng(9).permutation(camera))):
        method = method_of(kind, given)
        before = cross_camera_map(method.network, vectors, identity, camera)
        train(method, vectors, epochs=4)
        gains[name] = cross_camera_map(method.network, vectors, identity, camera) - before
    assert gains["true"] > 60
    assert gains["shuffled"] < gains["true"] - 30


@METHODS
def test_facts_of_an_epoch(kind):
    vectors, _, camera = synthetic_site(0, identities=12, shift=0.3)
    camera = camera * 3  # numbers with gaps
    method = method_of(kind, camera, steps=2)
    (facts,) = train(method, vectors, epochs=1)
    assert {"clusters", "outlier_share", "proxies", "empty_cameras", "offline_positives"} <= facts.keys()
    assert (facts["clusters"], facts["proxies"], facts["empty_cameras"], facts["offline_positives"]) == (12, 48, 0, 4)
    assert facts.get("online_strangers", 0) == 0


@METHODS
@pytest.mark.parametrize(("identities", "cameras", "crops"), [(3, 1, 8), (2, 2, 6), (3, 3, 4), (20, 4, 4)])
def test_m_few_proxies_and_few_cameras(kind, identities, cameras, crops):
    """One camera, two cameras for three positives, fewer than 53 proxies, fewer proxies than a batch."""
    vectors, _, camera = synthetic_site(1, identities=identities, cameras=cameras, crops=crops, shift=0.2)
    method = method_of(kind, camera, k1=cameras * crops, steps=3)
    facts = train(method, vectors, epochs=2)
    assert facts[0]["proxies"] == identities * cameras
    assert all(torch.isfinite(weight).all() for weight in method.network.parameters())


@METHODS
def test_m_a_camera_without_proxies_and_proxies_of_one_crop(kind):
    vectors, _, camera = synthetic_site(2, identities=6, cameras=3, crops=4, shift=0.2)
    camera = camera.copy()
    camera[[0, 30]] = 7  # the one crop of its cluster that camera 7 sees
    strange = 9 * np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    vectors, camera = np.concatenate([vectors, strange]), np.append(camera, [11, 11, 11])
    method = method_of(kind, camera, k1=12, eps=0.45, steps=3)  # at 0.5 exactly, a stranger is a neighbour
    facts = train(method, vectors, epochs=1)
    assert facts[0]["proxies"] == 6 * 3 + 2
    assert facts[0]["empty_cameras"] == 1
    assert facts[0]["outlier_share"] == pytest.approx(3 / 75)


@METHODS
@pytest.mark.parametrize(
    ("eps", "min_samples", "message"), [(0.01, 9, "found 0 clusters"), (0.999, 1, "found 1 cluster")]
)
def test_m_all_outliers_and_one_cluster_are_a_clear_error(kind, eps, min_samples, message):
    vectors, _, camera = synthetic_site(3, identities=3, cameras=2, crops=4)
    method = method_of(kind, camera, k1=24, eps=eps, min_samples=min_samples)
    with pytest.raises(DataError, match=message):
        train(method, vectors, epochs=1)


@METHODS
def test_crops_without_cameras_are_refused_before_anything_runs(kind):
    with pytest.raises(DataError, match=r"4 of 4 crops have no camera number .* name the cameras, or train a method"):
        method_of(kind, np.full(4, -1))
