"""What CAP, O2CAP and Crosslane share, the bank, and their own association loss and sum over cameras, against worked
numbers and plain loops."""

import math
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")

import proxy_oracles as oracles  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from trainer.clustering.camera import split_by_camera  # noqa: E402
from trainer.errors import DataError  # noqa: E402
from trainer.memory import sequential  # noqa: E402
from trainer.methods import cap, crosslane, o2cap  # noqa: E402
from trainer.proxies import (  # noqa: E402
    ProxySettings,
    bank_from,
    bank_of,
    empty_bank,
    need_cameras,
    proxy_facts,
)

CPU = torch.device("cpu")
FEW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 10**6)
ASSOCIATION = {  # of logits, positives and a count
    "cap": cap.offline_nce,
    "o2cap": lambda logits, positives, count: o2cap.association_nce(logits, positives, logits, count),
    "crosslane": lambda logits, positives, count: crosslane.association_nce(logits, positives, logits, count),
}
PAPERS = pytest.mark.parametrize("paper", list(ASSOCIATION))
SUMS = pytest.mark.parametrize("over_cameras", [cap.over_cameras, o2cap.over_cameras, crosslane.over_cameras])


def offline(paper, problem, count):
    """(B,) by the vectorised code."""
    siblings = problem.clusters[problem.labels][:, None] == problem.clusters
    return ASSOCIATION[paper](problem.logits, siblings, count)


def test_b_rows_are_normalised_means():
    features = np.array([[1, 0], [0.6, 0.8], [0, 1], [1, 0]], np.float32)
    proxies = split_by_camera(np.array([0, 0, 1, -1]), np.array([3, 3, 7, 9]))
    bank = bank_of(features, proxies, ProxySettings(), CPU)
    torch.testing.assert_close(bank.memory.rows, torch.tensor([[0.8944, 0.4472], [0, 1]]), atol=5e-5, rtol=0)
    assert bank.clusters.tolist() == [0, 1]
    assert bank.cameras.tolist() == [0, 1]  # cameras without proxies have no number
    assert (bank.memory.temperature, bank.memory.momentum) == (0.07, 0.2)


def test_b_one_update_per_crop_with_the_weight_of_the_old_row():
    rows, two = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    both, first = torch.zeros(2, dtype=torch.int64), rows.clone()
    sequential(first, two[:1], both[:1], 0.2)
    torch.testing.assert_close(first[0], torch.tensor([0.7282, 0.6854]), atol=5e-5, rtol=0)
    for order, expected in (([0, 1], [0.1536, 0.9881]), ([1, 0], [0.5353, 0.8447])):
        moved = rows.clone()
        sequential(moved, two[order], both, 0.2)
        torch.testing.assert_close(moved[0], torch.tensor(expected), atol=5e-5, rtol=0)
        assert torch.equal(moved[1], rows[1])
    for momentum, expected in ((1.0, rows[0]), (0.0, two[1])):
        moved = rows.clone()
        sequential(moved, two, both, momentum)
        torch.testing.assert_close(moved[0], expected)


@given(SEEDS)
@FEW
def test_b_rows_stay_unit_and_a_row_is_its_own_fixed_point(seed):
    problem = oracles.random_problem(seed)
    moved, still = problem.rows.clone(), problem.rows.clone()
    sequential(moved, problem.features, problem.labels, 0.2)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(len(moved), dtype=torch.float64))
    sequential(still, problem.rows[problem.labels], problem.labels, 0.2)
    torch.testing.assert_close(still, problem.rows)


def test_siblings_and_neighbours_of_the_worked_example():
    clusters, cameras = np.array([0, 0, 0, 1, 1, 0, -1, 1, 2, 2]), np.array([0, 1, 0, 0, 2, 2, 1, 0, 1, 1])
    proxies = split_by_camera(clusters, cameras)
    features = np.tile(np.array([[0.6, 0.8]], np.float32), (10, 1))
    bank = bank_of(features, proxies, ProxySettings(), CPU)
    ask = torch.tensor([0, 4, 5])
    assert [row.nonzero()[:, 0].tolist() for row in bank.siblings(ask)] == [[0, 1, 2], [3, 4], [5]]
    assert [row.nonzero()[:, 0].tolist() for row in bank.beside(ask)] == [[0, 3], [2, 4], [1, 5]]
    facts = proxy_facts(proxies, np.array([0, 1, 2, 5, 5, 5, 5, 5, 5, 8]))
    positives = pytest.approx((9 + 4 + 1) / 6)
    floor = pytest.approx((3 * np.log(3) + 2 * np.log(2)) / 6)
    assert facts == {"proxies": 6.0, "empty_cameras": 2.0, "offline_positives": positives, "offline_floor": floor}


def test_the_bank_survives_a_checkpoint():
    state = bank_of(
        np.eye(3, dtype=np.float32), split_by_camera(np.array([0, 0, 1]), np.array([1, 4, 4])), ProxySettings(), CPU
    ).state()
    again = bank_from(state, ProxySettings(), CPU).state()
    assert all(torch.equal(again[name], value) for name, value in state.items())
    assert len(empty_bank(5, ProxySettings(), CPU).memory.rows) == 0


def test_unknown_cameras_are_refused_at_once():
    with pytest.raises(DataError, match=r"2 of 3 crops have no camera number \(the first is crop 1\)"):
        need_cameras(np.array([0, -1, -1]))
    need_cameras(np.array([4, 0]))


@PAPERS
@given(SEEDS, st.integers(1, 9), st.integers(1, 6), st.sampled_from([0, 1, 3, 50]))
@FEW
def test_offline_is_the_plain_loop(paper, seed, clusters, cameras, count):
    problem = oracles.random_problem(seed, clusters, cameras)
    expected = [
        oracles.nce(problem.logits[crop], *oracles.offline_sets(problem, crop, count))
        for crop in range(len(problem.labels))
    ]
    torch.testing.assert_close(offline(paper, problem, count), torch.stack(expected))


@PAPERS
@given(SEEDS, st.integers(1, 9), st.integers(1, 6))
@FEW
def test_e_properties_of_the_loss(paper, seed, clusters, cameras):
    problem = oracles.random_problem(seed, clusters, cameras)
    siblings = problem.clusters[problem.labels][:, None] == problem.clusters
    losses = [offline(paper, problem, count) for count in (0, 1, 3, 50)]
    assert (losses[0] >= siblings.sum(1).log() - 1e-12).all()
    assert all((more >= less - 1e-12).all() for less, more in pairwise(losses))

    order = torch.randperm(len(problem.rows), generator=torch.Generator().manual_seed(seed))
    place = order.argsort()
    other = oracles.Problem(
        problem.features, place[problem.labels], problem.rows[order], problem.clusters[order], problem.cameras[order]
    )
    torch.testing.assert_close(offline(paper, other, 3), losses[2])

    logits = problem.logits.requires_grad_(True)
    ASSOCIATION[paper](logits, siblings, 1).sum().backward()
    torch.testing.assert_close(logits.grad.sum(1), torch.zeros(len(logits), dtype=torch.float64), atol=1e-9, rtol=0)
    hardest = logits.detach().masked_fill(siblings, -torch.inf).argmax(1)
    chosen = siblings | torch.nn.functional.one_hot(hardest, len(problem.rows)).bool()
    assert (logits.grad[~chosen] == 0).all()


@PAPERS
def test_e_one_positive_and_all_negatives_are_cross_entropy(paper):
    logits = oracles.random_problem(3, clusters=9, cameras=1).logits
    labels = torch.arange(len(logits)) % 9
    positives = torch.nn.functional.one_hot(labels, 9).bool()
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(ASSOCIATION[paper](logits, positives, 50), expected)


@PAPERS
def test_e_floors(paper):
    for size, floor in ((1, 0), (2, 0.693), (3, 1.099), (4, 1.386), (6, 1.792)):
        logits = torch.zeros(1, size, dtype=torch.float64)  # one cluster: no negative anywhere
        loss = ASSOCIATION[paper](logits, torch.ones(1, size, dtype=torch.bool), 50)
        assert float(loss) == pytest.approx(math.log(size)) == pytest.approx(floor, abs=6e-4)


@pytest.mark.parametrize("count", [0, 2, 50])
@PAPERS
def test_gradients_are_finite_differences(paper, count):
    problem = oracles.random_problem(5, batch=4)
    siblings = problem.clusters[problem.labels][:, None] == problem.clusters

    def loss(features):
        logits = features @ problem.rows.T / 0.07
        losses = ASSOCIATION[paper](logits, siblings, count)
        return cap.over_cameras(losses, problem.cameras[problem.labels], "camera_sum")

    assert torch.autograd.gradcheck(loss, problem.features.clone().requires_grad_(True))


@pytest.mark.parametrize("paper", [o2cap, crosslane])
def test_a_proxy_of_minus_infinity_is_no_negative(paper):
    logits, positives = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[True, False, False]])
    ranking = torch.tensor([[0.0, -torch.inf, 1.0]])
    expected = math.log(math.exp(1) + math.exp(3)) - 1
    assert float(paper.association_nce(logits, positives, ranking, 50)) == pytest.approx(expected)


@SUMS
def test_f_sum_over_cameras(over_cameras):
    losses, cameras = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 1])
    assert float(over_cameras(losses, cameras, "camera_sum")) == pytest.approx(5.5)
    assert float(over_cameras(losses, cameras, "batch_mean")) == pytest.approx(7 / 3)
    one = torch.rand(32, generator=torch.Generator().manual_seed(0))
    assert float(over_cameras(one, torch.zeros(32), "camera_sum")) == pytest.approx(float(one.mean()))
    shares = torch.ones(32).requires_grad_(True)
    over_cameras(shares, torch.tensor([0] * 20 + [5] * 8 + [9] * 4), "camera_sum").backward()
    assert shares.grad[[0, 20, 28]].tolist() == pytest.approx([0.05, 0.125, 0.25])


@SUMS
@given(SEEDS, st.integers(1, 20), st.integers(1, 6))
@FEW
def test_f_sum_over_cameras_is_the_plain_loop(over_cameras, seed, batch, cameras):
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(batch, generator=generator, dtype=torch.float64)
    chosen = torch.randint(cameras, (batch,), generator=generator)
    expected = oracles.over_cameras(list(losses), chosen.tolist())
    torch.testing.assert_close(over_cameras(losses, chosen, "camera_sum"), expected)


@pytest.mark.parametrize("rule", ["camera_sum", "batch_mean"])
@SUMS
def test_m_no_crop_at_all(over_cameras, rule):
    nothing = cap.offline_nce(torch.zeros(0, 7), torch.zeros(0, 7, dtype=torch.bool), 50)
    assert float(over_cameras(nothing, torch.zeros(0), rule)) == 0
