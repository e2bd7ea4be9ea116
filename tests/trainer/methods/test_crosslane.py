"""Our own method: what it adds to O2CAP, and what it falls back to."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")

from proxy_worlds import crops_from, cross_camera_map, linear_network, synthetic_site, train  # noqa: E402

from trainer.clustering.jaccard import JaccardSettings  # noqa: E402
from trainer.clustering.recluster import ClusterSettings  # noqa: E402
from trainer.data.batch import Batch  # noqa: E402
from trainer.data.samplers import ProxySamplerSettings  # noqa: E402
from trainer.labels import LabelSettings  # noqa: E402
from trainer.methods.crosslane import Crosslane, CrosslaneSettings, Out  # noqa: E402
from trainer.methods.o2cap import O2CAP, O2capSettings  # noqa: E402

LABELS = LabelSettings(clustering=ClusterSettings(jaccard=JaccardSettings(k1=8, k2=3), eps_candidates=(0.3, 0.5)))


def method_of(cameras, kind=Crosslane, settings_kind=CrosslaneSettings, **chosen):
    sampler = ProxySamplerSettings(proxies=8, crops=4, steps=60)
    torch.manual_seed(0)
    settings = settings_kind(**{"labels": LABELS, "sampler": sampler, **chosen})
    return kind(linear_network(32), crops_from(cameras), settings, seed=0)


def batch_of(plan, cameras):
    index = torch.from_numpy(plan.batches[0])
    return Batch(index, torch.from_numpy(cameras)[index], torch.from_numpy(plan.labels)[index], ())


def features_with_strays(vectors):
    """Unit rows (N, D) in which the last five crops are like no other."""
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rows[-5:] = np.eye(rows.shape[1])[:5]
    return rows.astype(np.float32)


def test_it_learns_across_cameras():
    vectors, identity, camera = synthetic_site(0, shift=1.5)
    method = method_of(camera)
    before = cross_camera_map(method.network, vectors, identity, camera)
    train(method, vectors, epochs=4)
    assert cross_camera_map(method.network, vectors, identity, camera) > before + 60


def test_a_crop_without_a_cluster_has_a_row_and_is_never_drawn():
    vectors, _, camera = synthetic_site(0, shift=0.5)
    features = features_with_strays(vectors)
    method, without = method_of(camera), method_of(camera, singles=False)
    plan, plan_without = (one.start_epoch(0, lambda: features) for one in (method, without))
    outliers = np.flatnonzero(plan.labels < 0)
    assert {len(features) - 1, len(features) - 2} <= set(outliers)
    assert not np.isin(plan.batches, outliers).any()
    rows, fewer = method.bank.memory.rows, without.bank.memory.rows
    assert len(rows) == len(fewer) + len(outliers)
    torch.testing.assert_close(rows[: len(fewer)], fewer)
    torch.testing.assert_close(rows[len(fewer) :], torch.from_numpy(features[outliers]), atol=1e-6, rtol=0)
    assert np.array_equal(plan.labels, plan_without.labels)


def test_with_the_papers_choices_it_is_o2cap():
    vectors, _, camera = synthetic_site(1, shift=0.5)
    features = features_with_strays(vectors)
    ours = method_of(camera, singles=False, exclude_siblings=False, aggregation="camera_sum")
    paper = method_of(camera, O2CAP, O2capSettings)
    plans = [method.start_epoch(0, lambda: features) for method in (ours, paper)]
    assert np.array_equal(plans[0].batches, plans[1].batches)
    batch = batch_of(plans[0], camera)
    anchors = torch.from_numpy(features)[batch.index].requires_grad_()
    out = Out(anchors)
    first, second = (method.losses(out, batch) for method in (ours, paper))
    for name in ("offline", "online"):
        torch.testing.assert_close(first[name], second[name])


def test_the_own_cluster_is_never_pushed_away_online():
    method = method_of(np.arange(4) % 3, online_positives=1, temperature=0.5)
    rows = torch.nn.functional.normalize(torch.tensor([[1, 0.1, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1.0]]), dim=1)
    state = {"memory": rows, "clusters": torch.tensor([0, 0, 0, 1]), "cameras": torch.tensor([0, 1, 2, 0])}
    method.load_state(state)
    anchor = torch.tensor([[1.0, 0, 0]])
    batch = Batch(torch.zeros(1, dtype=torch.int64), torch.tensor([0]), torch.tensor([0]), ())
    online = method.losses(Out(anchor), batch)["online"]
    own, stranger = (rows[[0, 3]] @ anchor[0] / 0.5).tolist()  # proxies 1 and 2 are siblings of proxy 0
    assert float(online) == pytest.approx(np.log1p(np.exp(stranger - own)), abs=1e-6)


def test_without_cameras_tracks_and_times_it_still_runs():
    vectors, _, camera = synthetic_site(3, shift=0.5)
    features = features_with_strays(vectors)
    method = method_of(np.full(len(camera), -1))
    plan = method.start_epoch(0, lambda: features)
    assert plan.facts["clusters"] >= 2
    assert set(method.bank.cameras.tolist()) == {0}
    batch = batch_of(plan, camera)
    losses = method.losses(Out(torch.from_numpy(features)[batch.index]), batch)
    assert all(torch.isfinite(value) for value in losses.values())


def test_its_state_is_taken_up_again():
    vectors, _, camera = synthetic_site(4, shift=0.5)
    features = features_with_strays(vectors)
    method, other = method_of(camera), method_of(camera)
    method.start_epoch(0, lambda: features)
    other.load_state(method.state())
    for name, part in method.state().items():
        torch.testing.assert_close(other.state()[name], part)
