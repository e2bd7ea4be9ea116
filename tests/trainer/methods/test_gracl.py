"""GRACL: golden values, plain loops, invariants and whole runs."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
for library in ("faiss", "numba", "onnx", "tensorboard", "hypothesis"):
    pytest.importorskip(library, reason=f"the trainer needs {library}")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tiny_crops import write_market  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402

from trainer import checkpoint, config, run  # noqa: E402
from trainer.data.batch import Batch  # noqa: E402
from trainer.memory import Memory, label_means  # noqa: E402
from trainer.methods.cluster_contrast import cluster_nce  # noqa: E402
from trainer.methods.gracl import (  # noqa: E402
    Gracl,
    GraclSettings,
    Out,
    inter_relations,
    inter_to_proxies,
    intra_relations,
    lowest,
)
from trainer.runlog import read_log  # noqa: E402


def at(*degrees):
    """Unit rows (n, 2) float64 at these angles."""
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angles.cos(), angles.sin()], 1)


FEATURES, LABELS = at(-12, 0, 14, 70, 85, 95), torch.tensor([0, 0, 0, 1, 1, 1])  # the outlier at 200° has no say


def close(found, expected, tolerance=1e-6):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), atol=tolerance, rtol=0)


def test_c1_relations():
    inter, intra = inter_relations(FEATURES, LABELS), intra_relations(FEATURES, LABELS)
    close(inter, [-0.091689, 0.114007, 0.347065, 0.346795, 0.096952, -0.074364])
    close(intra, [0.938471, 0.974222, 0.934545, 0.936117, 0.975367, 0.945558])


def test_c2_proxies():
    assert lowest(inter_relations(FEATURES, LABELS), LABELS).tolist() == [0, 5]
    assert lowest(intra_relations(FEATURES, LABELS), LABELS).tolist() == [2, 3]


def method(inter, intra, **changes):
    """A GRACL with these proxies and without a network."""
    network = SimpleNamespace(dimension=inter.shape[1], neck=SimpleNamespace(weight=inter))
    made = Gracl(network, None, GraclSettings(**changes), seed=0)
    made.inter.rows, made.intra.rows = inter.clone(), intra.clone()
    return made


def batch_of(labels):
    return Batch(torch.arange(len(labels)), torch.zeros_like(labels), labels, ())


def test_c3_losses():
    made = method(at(-12, 95).float(), at(14, 70).float(), temperature=0.5, inter_weight=1, intra_weight=1)
    losses = made.losses(Out(at(5).float()), batch_of(torch.tensor([0])))
    close(losses["inter"], 0.137755, 2e-6)
    close(losses["intra"], 0.279893, 2e-6)
    close(sum(losses.values()), 0.417648, 2e-6)


def test_c4_update():
    labels = LABELS[:3]
    close(inter_to_proxies(FEATURES[:3], labels, at(-12, 95)), [-0.292372, -0.087156, 0.156434])
    close(intra_relations(FEATURES[:3], labels), [0.938471, 0.974222, 0.934545])
    made = method(at(-12, 95).float(), at(14, 70).float())
    made.after_step(Out(FEATURES[:3].float()), batch_of(labels))
    close(made.inter.rows, at(-12, 95).tolist())
    close(made.intra.rows, [[0.970296, 0.241922], at(70)[0].tolist()])


def test_hardest_looks_away_from_the_proxy_and_takes_another_crop():
    made = method(at(-12, 95).float(), at(14, 70).float(), update="hardest")
    made.after_step(Out(FEATURES[:3].float()), batch_of(LABELS[:3]))
    close(made.intra.rows[0], normalize(0.1 * at(14) + 0.9 * at(-12), dim=1)[0].tolist())


@st.composite
def problems(draw, least_clusters=1):
    """Unit features (n, D) float64 and labels, every label present, clusters of one crop among them."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=least_clusters, max_size=6))
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    features = normalize(torch.randn(sum(sizes), draw(st.integers(2, 5)), generator=generator).double(), dim=1)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return features, labels[torch.randperm(len(labels), generator=generator)]


def slow_relations(similarity, labels):
    """r_inter and r_intra from all pairs, crop by crop."""
    inter, intra = [], []
    for i, own in enumerate(labels.tolist()):
        outside = [float(similarity[i, j]) for j in range(len(labels)) if labels[j] != own]
        inter.append(sum(outside) / max(len(outside), 1))
        mates = [float(similarity[i, j]) for j in range(len(labels)) if labels[j] == own and j != i]
        intra.append(sum(mates) / len(mates) if mates else 1.0)
    return torch.tensor([inter, intra], dtype=torch.float64)


def slow_pick(relations, labels, guard=0.0):
    """One crop per label; the member at numpy's percentile and those above may be chosen."""
    rounded, picks = relations.round(decimals=5), []
    for k in range(int(labels.max()) + 1):
        members = sorted(torch.nonzero(labels == k)[:, 0].tolist(), key=lambda i: (float(rounded[i]), i))
        skip = int(np.ceil(round(guard * (len(members) - 1), 9)))
        picks.append(members[skip])
    return picks


@given(problem=problems(), guard=st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_relations_and_picks_are_the_loops(problem, guard):
    features, labels = problem
    inter, intra = inter_relations(features, labels), intra_relations(features, labels)
    torch.testing.assert_close(torch.stack([inter, intra]), slow_relations(features @ features.T, labels))
    assert torch.isfinite(torch.stack([inter, intra])).all()
    assert lowest(intra, labels, guard).tolist() == slow_pick(intra, labels, guard)


@given(problem=problems(), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_crops_does_not_matter(problem, seed):
    features, labels = problem
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    for relation in (inter_relations, intra_relations):
        torch.testing.assert_close(relation(features[order], labels[order]), relation(features, labels)[order])


@given(problem=problems(least_clusters=2))
@settings(max_examples=30, deadline=None)
def test_the_update_is_the_loop(problem):
    features, labels = problem
    count = int(labels.max()) + 3  # two proxies without crops in the batch
    inter, intra = (normalize(torch.randn(count, features.shape[1]).double(), dim=1) for _ in range(2))
    made = method(inter, intra)
    made.after_step(Out(features), batch_of(labels))
    near = {"atol": 1e-6, "rtol": 0}  # the memory takes float32
    mates = slow_relations(features @ features.T, labels)[1].round(decimals=5)
    for k in range(count):
        members = torch.nonzero(labels == k)[:, 0].tolist()
        if not members:
            assert torch.equal(made.inter.rows[k], inter[k])
            assert torch.equal(made.intra.rows[k], intra[k])
            continue
        away = {i: (features[i] @ torch.cat([inter[:k], inter[k + 1 :]]).T) for i in members}
        away = {i: float(similarity.mean().round(decimals=5)) for i, similarity in away.items()}
        b, c = min(members, key=lambda i: (away[i], i)), min(members, key=lambda i: (float(mates[i]), i))
        torch.testing.assert_close(made.inter.rows[k], normalize(0.1 * inter[k] + 0.9 * features[b], dim=0), **near)
        torch.testing.assert_close(made.intra.rows[k], normalize(0.1 * intra[k] + 0.9 * features[c], dim=0), **near)
    torch.testing.assert_close(made.inter.rows.norm(dim=1), torch.ones(count).double(), **near)


@given(problem=problems(least_clusters=2))
@settings(max_examples=20, deadline=None)
def test_two_banks_of_centroids_give_the_loss_of_cluster_contrast(problem):
    features, labels = (part.float() if part.is_floating_point() else part for part in problem)
    centroids = normalize(label_means(features, labels, int(labels.max()) + 1), dim=1)
    total = sum(method(centroids, centroids).losses(Out(features), batch_of(labels)).values())
    torch.testing.assert_close(total, cluster_nce(features, Memory(centroids, 0.05, 0.1), labels))


def test_gradients_are_those_of_finite_differences(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)  # the loss is float32 by design; here float64
    made = method(at(-12, 95, 180), at(14, 70, 200), temperature=0.5)
    batch = batch_of(torch.tensor([0, 1, 2, 0]))
    features = at(5, 80, 170, 30).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda rows: sum(made.losses(Out(rows), batch).values()), features)


def parsed(root, cache, **changes):
    method = {
        "name": "gracl",
        "labels": {"clustering": {"jaccard": {"k1": 8, "k2": 3}, "dbscan": {"eps": 0.6, "min_samples": 2}}},
        "sampler": {"clusters": 2, "crops": 4, "steps": 4},
        "augment": {"pad_px": 1, "erase": 0.2},
    }
    values = {
        "data": {"root": str(root), "cache": str(cache), "input": {"width_px": 16, "height_px": 32}},
        "model": {"backbone": "osnet_x0_25", "ghost_group": 4, "pooling": "average"},
        "method": {**method, **changes},
        "epochs": 2,
        "device": "cpu",
        "checkpoint_steps": 3,
    }
    return config.parse(values, "test")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="default"),
        pytest.param({"guard": 0.1, "update": "hardest"}, id="hardest", marks=pytest.mark.long),
        pytest.param({"update": "sequential"}, id="sequential", marks=pytest.mark.long),
    ],
)
def test_a_run_and_the_same_run_resumed_inside_an_epoch(changes, tmp_path, monkeypatch):
    chosen = parsed(write_market(tmp_path / "crops"), tmp_path / "cache", **changes)
    run.start(chosen, tmp_path / "whole", quiet=True)
    for line in read_log(tmp_path / "whole", "epoch"):
        assert 0 <= line["intra_proxies_not_core"] <= 1
        assert line["clusters"] >= 2
        assert -1 <= line["intra_proxies_relation"] <= 1
    save = checkpoint.save

    def save_and_stop(path, state):
        save(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run.start(chosen, tmp_path / "stopped", quiet=True)
    monkeypatch.undo()
    run.start(chosen, tmp_path / "stopped", resume=True, quiet=True)
    whole, stopped = (checkpoint.load(tmp_path / name / "last.ckpt") for name in ("whole", "stopped"))
    assert all(torch.equal(whole.network[name], stopped.network[name]) for name in whole.network)
    assert all(torch.equal(whole.method[name], stopped.method[name]) for name in ("inter", "intra"))
