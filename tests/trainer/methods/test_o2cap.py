"""O2CAP: worked numbers, the authors' code on one step, plain loops, gradients, and small sites."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")

import proxy_oracles as oracles  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from proxy_worlds import batch_of, crops_from, linear_network  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402

from trainer.methods.o2cap import (  # noqa: E402
    O2CAP,
    O2capSettings,
    Out,
    association_nce,
    blended,
    online_positives,
    over_cameras,
    strangers,
)
from trainer.proxies import bank_from  # noqa: E402

CPU = torch.device("cpu")
FEW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 10**6)


def turned(*degrees):
    """Unit rows in the plane."""
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angles.cos(), angles.sin()], 1)


ANCHOR = oracles.Problem(
    turned(10),
    torch.tensor([0]),
    turned(0, 40, 25, 75, 90, 35, 20),
    torch.tensor([0, 0, 0, 0, 1, 1, 2]),
    torch.tensor([0, 1, 2, 3, 0, 1, 2]),
)


def online(problem, count, *, k_pos=3, exclude_siblings=False, logits=None):
    """(B,) losses and P (B, M) by the vectorised code; of other logits where given."""
    logits = problem.logits if logits is None else logits
    blend = blended(logits, problem.rows[problem.labels] @ problem.rows.T / 0.07, 0.15)
    positives = online_positives(blend, problem.cameras, k_pos)
    siblings = problem.clusters[problem.labels][:, None] == problem.clusters
    ranking = blend.masked_fill(siblings, -torch.inf) if exclude_siblings else blend
    return association_nce(logits, positives, ranking, count), positives


def offline(problem, count, logits=None):
    logits = problem.logits if logits is None else logits
    siblings = problem.clusters[problem.labels][:, None] == problem.clusters
    return association_nce(logits, siblings, logits, count)


def test_c_similarities_and_blend():
    between = ANCHOR.rows[ANCHOR.labels] @ ANCHOR.rows.T
    cosines = (ANCHOR.logits * 0.07)[0].tolist()
    assert cosines == pytest.approx([0.9848, 0.8660, 0.9659, 0.4226, 0.1736, 0.9063, 0.9848], abs=5e-5)
    blend = blended(ANCHOR.logits * 0.07, between, 0.15)
    expected = [0.9977, 0.7810, 0.9153, 0.2834, 0.0260, 0.8322, 0.9465]
    assert blend[0].tolist() == pytest.approx(expected, abs=5e-5)
    assert online_positives(blend, ANCHOR.cameras, 3)[0].nonzero()[:, 0].tolist() == [0, 5, 6]


@pytest.mark.parametrize(
    ("count", "off", "on"),
    [(0, 3.165847, 1.217880), (1, 3.580318, 1.501783), (2, 3.685175, 1.559407), (50, 3.685178, 1.559510)],
)
def test_c_both_losses(count, off, on):
    assert float(offline(ANCHOR, count)) == pytest.approx(off, abs=1e-6)
    assert float(online(ANCHOR, count)[0]) == pytest.approx(on, abs=1e-6)


def test_c_gradients_with_respect_to_the_similarities():
    far = [0.7933, -2.7716, -0.2386, -3.5700, 0, 1.4221, 4.3647]
    near = [-0.3972, 0.7999, 3.3328, 0.0014, 0, -3.3398, -0.3972]
    for loss, expected in ((offline, far), (lambda *given, **more: online(*given, **more)[0], near)):
        similarities = (ANCHOR.logits * 0.07).requires_grad_(True)
        loss(ANCHOR, 50, logits=similarities / 0.07).sum().backward()
        assert similarities.grad[0].tolist() == pytest.approx(expected, abs=1e-4)
        assert float(similarities.grad.sum()) == pytest.approx(0, abs=1e-9)


def test_d_the_weight_belongs_to_the_crop():
    rows = normalize(torch.tensor([[1, 0, 0], [0.8, 0.6, 0], [0.78, 0, 0.626]], dtype=torch.float64), dim=1)
    anchor = normalize(torch.tensor([[0.85, 0, 0.53]], dtype=torch.float64), dim=1)
    for weight, expected, second in (
        (0.05, [0.7939, 0.7905], 1),
        (0.15, [0.7818, 0.8119], 2),
        (0.0601, None, 1),
        (0.0603, None, 2),
    ):
        blend = blended(anchor @ rows.T, rows[:1] @ rows.T, weight)
        assert expected is None or blend[0, 1:].tolist() == pytest.approx(expected, abs=5e-5)
        positives = online_positives(blend, torch.tensor([0, 1, 2]), 2)
        assert positives[0].nonzero()[:, 0].tolist() == [0, second]


@given(SEEDS, st.integers(1, 9), st.integers(1, 6), st.integers(1, 4), st.booleans())
@FEW
def test_online_is_the_plain_loop(seed, clusters, cameras, k_pos, exclude_siblings):
    problem = oracles.random_problem(seed, clusters, cameras)
    for count in (0, 2, 50):
        losses, positives = online(problem, count, k_pos=k_pos, exclude_siblings=exclude_siblings)
        sets = [
            oracles.online_sets(problem, crop, count, k_pos=k_pos, exclude_siblings=exclude_siblings)
            for crop in range(len(problem.labels))
        ]
        assert [sorted(row.nonzero()[:, 0].tolist()) for row in positives] == [sorted(chosen) for chosen, _ in sets]
        expected = [oracles.nce(problem.logits[crop], *chosen) for crop, chosen in enumerate(sets)]
        torch.testing.assert_close(losses, torch.stack(expected))


@given(SEEDS, st.integers(1, 9), st.integers(1, 6))
@FEW
def test_e_online_properties(seed, clusters, cameras):
    problem = oracles.random_problem(seed, clusters, cameras)
    losses, positives = online(problem, 50)
    usable = min(3, len(problem.cameras.unique()))
    assert (losses >= math.log(usable) - 1e-12).all()
    for crop, row in enumerate(positives):
        chosen = row.nonzero()[:, 0]
        assert len(problem.cameras[chosen].unique()) == len(chosen) == usable
        own = problem.labels[crop]
        rivals = (problem.cameras == problem.cameras[own]) & (torch.arange(len(row)) != own)
        assert bool(row[own]) or float((problem.rows[rivals] @ problem.rows[own]).max()) > 0.9377
    # every negative more makes it harder, and the own cluster among the negatives too
    less, without = online(problem, 2)[0], online(problem, 50, exclude_siblings=True)[0]
    assert (losses >= less - 1e-12).all()
    assert (losses >= without - 1e-12).all()


@pytest.mark.parametrize("exclude_siblings", [False, True])
def test_gradients_are_finite_differences(exclude_siblings):
    problem = oracles.random_problem(11, batch=4)

    def loss(features):
        moved = problem._replace(features=features)
        return over_cameras(
            online(moved, 3, exclude_siblings=exclude_siblings)[0] + offline(moved, 3),
            problem.cameras[problem.labels],
            "camera_sum",
        )

    assert torch.autograd.gradcheck(loss, problem.features.clone().requires_grad_(True))


def method_of(problem, **changes):
    """The method with this problem's bank."""
    method = O2CAP(
        linear_network(problem.rows.shape[1]), crops_from(np.zeros(4, np.int64)), O2capSettings(**changes), 0
    )
    state = {"memory": problem.rows.float(), "clusters": problem.clusters, "cameras": problem.cameras}
    method.load_state(state)
    return method


def test_numbers_of_the_released_code(shared_data):
    """One step: losses, gradients and the memory after it."""
    file = shared_data.parent / "golden" / "o2cap_step.npz"
    if not file.is_file():
        pytest.skip(f"the released code's numbers are not at {file}")
    golden = {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(file).items()}
    labels = golden["image_proxies"][golden["batch_index"]]
    cameras = golden["image_cameras"][golden["batch_index"]]
    method = O2CAP(linear_network(64), crops_from(golden["image_cameras"].numpy()), O2capSettings(), 0)
    names = ("temperature", "momentum_of_old", "instance_weight", "online_positives", "hard_negatives")
    used = method.settings
    assert [golden[name].item() for name in names] == [
        used.temperature, used.momentum, used.instance_weight, used.online_positives, used.hard_negatives
    ]  # fmt: skip
    state = {"memory": golden["memory"], "clusters": golden["proxy_clusters"], "cameras": golden["proxy_cameras"]}
    for terms in (["offline"], ["online"], ["offline", "online"]):
        method.load_state({**state, "memory": state["memory"].clone()})
        features = golden["batch_features"].clone().requires_grad_(True)
        out, batch = Out(features), batch_of(labels, cameras)
        losses = method.losses(out, batch)
        total = sum(losses[name] for name in terms)
        total.backward()
        name = terms[0] if len(terms) == 1 else "total"
        assert total.item() == pytest.approx(golden[f"loss_{name}"].item(), rel=0, abs=1e-5)
        torch.testing.assert_close(features.grad, golden[f"grad_{name}"], atol=1e-5, rtol=1e-5)
        assert torch.equal(method.bank.memory.rows, golden["memory"])  # nothing moves before the step is done
        method.after_step(out, batch)
        torch.testing.assert_close(method.bank.memory.rows, golden["memory_after"], atol=1e-5, rtol=0)


def test_losses_of_the_method_are_the_plain_loops():
    problem = oracles.random_problem(21, clusters=9, cameras=5, batch=16)
    cameras = problem.cameras[problem.labels]
    expected = {"offline": [], "online": [], "without": []}
    for crop in range(16):
        expected["offline"].append(oracles.nce(problem.logits[crop], *oracles.offline_sets(problem, crop, 4)))
        expected["online"].append(oracles.nce(problem.logits[crop], *oracles.online_sets(problem, crop, 4, k_pos=2)))
        sets = oracles.online_sets(problem, crop, 4, k_pos=2, exclude_siblings=True)
        expected["without"].append(oracles.nce(problem.logits[crop], *sets))
    means = {name: float(sum(losses) / 16) for name, losses in expected.items()}
    sums = {name: float(oracles.over_cameras(losses, cameras.tolist())) for name, losses in expected.items()}
    out, batch = Out(problem.features.float()), batch_of(problem.labels, cameras)
    common = {"hard_negatives": 4, "online_positives": 2}
    for rule, wanted in (("camera_sum", sums), ("batch_mean", means)):
        for exclude in (False, True):
            method = method_of(problem, aggregation=rule, exclude_siblings=exclude, **common)
            found = {name: float(value) for name, value in method.losses(out, batch).items()}
            assert found["offline"] == pytest.approx(wanted["offline"], rel=1e-5)
            assert found["online"] == pytest.approx(wanted["without" if exclude else "online"], rel=1e-5)


def test_two_cameras_use_two_positives_and_one_camera_one():
    """The released code takes the hardest negative for the third positive."""
    for cameras in (1, 2):
        problem = oracles.random_problem(3, clusters=6, cameras=cameras)
        usable = len(problem.cameras.unique())
        losses, positives = online(problem, 50, k_pos=3)
        assert (positives.sum(1) == usable).all()
        torch.testing.assert_close(losses, online(problem, 50, k_pos=usable)[0])


def test_share_of_strangers_among_the_online_positives():
    state = {"memory": ANCHOR.rows.float(), "clusters": ANCHOR.clusters, "cameras": ANCHOR.cameras}
    bank = bank_from(state, O2capSettings(), CPU)
    expected = []
    for own in range(7):
        itself = ANCHOR._replace(features=ANCHOR.rows[own : own + 1], labels=torch.tensor([own]))
        expected += [
            bool(ANCHOR.clusters[proxy] != ANCHOR.clusters[own]) for proxy in oracles.online_sets(itself, 0, 0)[0]
        ]
    assert strangers(bank, 3) == pytest.approx(np.mean(expected))
