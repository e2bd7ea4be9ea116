"""CAP: worked numbers, plain loops, gradients, when its parts begin, and that a checkpoint knows."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")

import proxy_oracles as oracles  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from proxy_worlds import batch_of, crops_from, linear_network  # noqa: E402

from trainer.methods.cap import CAP, CapSettings, Out, intra_nce, over_cameras  # noqa: E402

FEW = settings(max_examples=40, deadline=None)


def intra(problem):
    beside = problem.cameras[problem.labels][:, None] == problem.cameras
    return intra_nce(problem.logits, beside, problem.labels)


def method_of(problem, epoch, **changes):
    """The method in this epoch, with this problem's bank."""
    method = CAP(linear_network(problem.rows.shape[1]), crops_from(np.zeros(4)), CapSettings(**changes), 0)
    bank = {"memory": problem.rows.float(), "clusters": problem.clusters, "cameras": problem.cameras}
    method.load_state({**bank, "epoch": epoch})
    return method


def test_c_intra_loss_of_the_worked_example():
    angles = torch.deg2rad(torch.tensor([10, 0, 40, 25, 75, 90, 35, 20], dtype=torch.float64))
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    cameras = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    problem = oracles.Problem(rows[:1], torch.tensor([0]), rows[1:], torch.zeros(7), cameras)
    assert float(intra(problem)) == pytest.approx(9.28e-6, abs=5e-9)


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 6))
@FEW
def test_intra_is_the_plain_loop_and_moves_the_own_camera_only(seed, clusters, cameras):
    problem = oracles.random_problem(seed, clusters, cameras)
    expected = torch.stack([oracles.intra(problem, crop) for crop in range(len(problem.labels))])
    torch.testing.assert_close(intra(problem), expected)
    beside = problem.cameras[problem.labels][:, None] == problem.cameras
    logits = problem.logits.requires_grad_(True)
    intra_nce(logits, beside, problem.labels).sum().backward()
    assert (logits.grad[~beside] == 0).all()
    torch.testing.assert_close(logits.grad.sum(1), torch.zeros(len(logits), dtype=torch.float64), atol=1e-9, rtol=0)


def test_gradients_are_finite_differences():
    problem = oracles.random_problem(7, batch=4)

    def loss(features):
        moved = problem._replace(features=features)
        return over_cameras(intra(moved), problem.cameras[problem.labels], "camera_sum")

    assert torch.autograd.gradcheck(loss, problem.features.clone().requires_grad_(True))


@pytest.mark.parametrize("rule", ["camera_sum", "batch_mean"])
def test_losses_of_the_method_are_the_plain_loops(rule):
    problem = oracles.random_problem(21, clusters=9, cameras=5, batch=16)
    cameras = problem.cameras[problem.labels]
    near = [oracles.intra(problem, crop) for crop in range(16)]
    far = [oracles.nce(problem.logits[crop], *oracles.offline_sets(problem, crop, 4)) for crop in range(16)]
    aggregate = {
        "camera_sum": lambda losses: oracles.over_cameras(losses, cameras.tolist()),
        "batch_mean": lambda losses: sum(losses) / 16,
    }[rule]
    method = method_of(problem, 5, hard_negatives=4, aggregation=rule)
    found = method.losses(Out(problem.features.float()), batch_of(problem.labels, cameras))
    assert float(found["intra"]) == pytest.approx(float(aggregate(near)), rel=1e-5)
    assert float(found["offline"]) == pytest.approx(0.5 * float(aggregate(far)), rel=1e-5)


def test_association_across_cameras_begins_when_told():
    problem = oracles.random_problem(1)
    out, batch = Out(problem.features.float()), batch_of(problem.labels, problem.cameras[problem.labels])
    terms = {epoch: list(method_of(problem, epoch).losses(out, batch)) for epoch in (0, 4, 5, 49)}
    assert terms == {0: ["intra"], 4: ["intra"], 5: ["intra", "offline"], 49: ["intra", "offline"]}
    assert list(method_of(problem, 0, offline_from_epoch=0).losses(out, batch)) == ["intra", "offline"]
    whole, half = (method_of(problem, 9, offline_weight=weight).losses(out, batch)["offline"] for weight in (1.0, 0.5))
    assert float(half) == pytest.approx(float(whole) / 2)


def test_memories_move_after_the_step_only_and_state_comes_back():
    problem = oracles.random_problem(2)
    method, before = method_of(problem, 6), problem.rows.float()
    out, batch = (
        Out(problem.features.float().requires_grad_(True)),
        batch_of(problem.labels, problem.cameras[problem.labels]),
    )
    sum(method.losses(out, batch).values()).backward()
    assert torch.equal(method.bank.memory.rows, before)
    method.after_step(out, batch)
    expected = before.clone()
    for feature, label in zip(out.features.detach(), problem.labels.tolist(), strict=True):
        expected[label] = torch.nn.functional.normalize(0.2 * expected[label] + 0.8 * feature, dim=0)
    torch.testing.assert_close(method.bank.memory.rows, expected)
    again = method_of(problem, 0)
    again.load_state(method.state())
    assert torch.equal(again.bank.memory.rows, method.bank.memory.rows)
    assert again.epoch == 6
    assert again.losses(out, batch) == method.losses(out, batch)


def test_settings_are_the_papers():
    chosen = CapSettings()
    assert (chosen.temperature, chosen.momentum, chosen.hard_negatives) == (0.07, 0.2, 50)
    assert (chosen.sampler.batch, chosen.sampler.steps, chosen.augment.erase_area) == (32, None, (0.02, 0.2))
    clustering = chosen.labels.clustering
    assert (clustering.jaccard.k1, clustering.jaccard.k2) == (20, 6)
    assert (clustering.dbscan.eps, clustering.dbscan.min_samples) == (0.5, 4)
