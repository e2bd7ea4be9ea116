"""TCRL: golden values, plain loops and invariants."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
for library in ("faiss", "numba", "hypothesis"):
    pytest.importorskip(library, reason=f"the trainer needs {library}")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tcrl_oracles import slow_hcl, slow_pcl, slow_proxies, slow_weights  # noqa: E402
from torch.nn.functional import cross_entropy, normalize  # noqa: E402

from trainer.data.batch import Batch  # noqa: E402
from trainer.methods.tcrl import TCRL, Out, TcrlSettings, crop_weights, fresh_proxies, hcl, refreshed  # noqa: E402

FORMS = ("instances", "mean", "unit_mean", "hardest", "supcon")


@pytest.fixture(autouse=True)
def double_precision(monkeypatch):
    """Banks and logits are float32 by design; here they stay as they are given."""
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)


def at(*degrees):
    """Unit rows (n, 2) float64 at these angles."""
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angles.cos(), angles.sin()], 1)


def close(found, expected, tolerance=1e-6):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), atol=tolerance, rtol=0)


def method(clusters, whole, part, classes, **changes):
    """A TCRL with these banks and without a network."""
    network = SimpleNamespace(dimension=clusters.shape[1], neck=SimpleNamespace(weight=clusters))
    made = TCRL(network, None, TcrlSettings(**changes), seed=0)
    made._remember(clusters, whole, part, torch.as_tensor(classes))
    return made


def batch_of(made, index):
    index = torch.as_tensor(index)
    return Batch(index, torch.zeros_like(index), made.classes[index], ())


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("instances", 0.335946),
        ("mean", 0.335863),
        ("unit_mean", 0.330147),
        ("hardest", 0.347543),
        ("supcon", 1.223881),
    ],
)
def test_b1_hcl(form, expected):
    bank = at(0, 10, 20, 90, 100)
    made = method(at(10, 95), bank, bank, [0, 0, 0, 1, 1], temperature=0.5)
    own = made.classes[None] == 0
    close(hcl(at(15), made.whole, own, ~own, form), expected)
    chosen = method(at(10, 95), bank, bank, [0, 0, 0, 1, 1], temperature=0.5, hcl=form)
    terms = chosen.losses(Out(at(15), at(15)), batch_of(chosen, [1]))
    close(terms["hcl_whole"], expected)
    close(terms["hcl_part"], expected)


def test_b2_wrccl():
    classes = torch.tensor([0, 0, 0, 1, 1, 1])
    features, clusters = at(0, 10, 60, 90, 100, 95), at(10, 95)
    similarity = (features * clusters[classes]).sum(1)
    close(similarity, [0.984808, 1, 0.642788, 0.996195, 0.996195, 1])
    one = [1.100658, 1.117507, 0.781835, 0.998731, 0.998731, 1.002538]
    tenth = [1.365638, 1.589698, 0.044664, 0.987236, 0.987236, 1.025527]
    close(crop_weights(similarity, classes, 1.0), one)
    close(crop_weights(similarity, classes, 0.1), tenth)
    for temperature, expected in ((None, 0.592708), (1.0, 0.463400), (0.1, 0.026473)):
        made = method(clusters, features, features, classes, weight_temperature=temperature)
        close(made.losses(Out(features, features), batch_of(made, range(6)))["wrccl"], expected)


def test_b3_pcl_of_instances():
    row, clusters = at(5), at(10, 95)
    for label, expected in ((0, 0.234762), (1, 1.564267)):
        made = method(clusters, row, row, [label], temperature=0.5)
        fresh = refreshed(at(25), made.part, torch.tensor([0]))
        close(fresh, at(23.029257).tolist())
        close(fresh, [[0.920305, 0.391201]])
        close(made.clusters.logits(fresh), [[1.948510, 0.619005]])
        terms = made.losses(Out(at(25), at(25)), batch_of(made, [0]))
        close(terms["pcl_part"], expected)
        close(terms["pcl_whole"], expected)


def test_b3b_pcl_reaches_the_features():
    made = method(at(10, 95), at(5), at(5), [1])
    feature = at(25).requires_grad_(True)
    loss = made.losses(Out(at(25), feature), batch_of(made, [0]))["pcl_part"]
    close(loss.detach(), 13.295051)
    loss.backward()
    close(feature.grad, [[8.328705, -19.593375]], 2e-6)


def test_b4_pcl_of_proxies():
    bank = at(-10, 20, 80, 120)
    classes = torch.tensor([0, 0, 1, 1])
    made = method(at(10, 95), bank, bank, classes, temperature=0.5, pcl="proxy")
    proxies = fresh_proxies(bank, made.part, torch.arange(4), classes)  # rows that stay what they were
    close(proxies, at(5, 100).tolist())
    logits = made.clusters.logits(proxies)
    close(logits, [[1.992389, 0], [0, 1.992389]])
    close(cross_entropy(logits, torch.tensor([0, 1])), 0.127838)
    close(made.losses(Out(bank, bank), batch_of(made, range(4)))["pcl_part"], 0.127838)


def test_b5_updates():
    made = method(torch.eye(2).double(), at(0, 50), at(0, 50), [0, 1])
    made.after_step(Out(at(90), at(90)), batch_of(made, [0]))
    for bank in (made.whole, made.part):
        close(bank.rows[0], [0.110432, 0.993884])
        assert torch.equal(bank.rows[1:], at(50))
    made = method(torch.eye(2).double(), at(0, 20), at(0, 20), [0, 0])
    made.after_step(Out(at(0, 20), at(0, 20)), batch_of(made, [0, 1]))
    close(made.clusters.rows[0], [0.987716, 0.156259])


@st.composite
def worlds(draw):
    """Banks, labels with outliers, and a batch in which crops repeat; sometimes one cluster, or clusters of one."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    outliers = draw(st.integers(0, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def unit(count):
        return normalize(torch.randn(count, 3, generator=generator).double(), dim=1)

    classes = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    classes = torch.cat([classes, -torch.ones(outliers, dtype=torch.int64)])
    classes = classes[torch.randperm(len(classes), generator=generator)]
    clustered = torch.nonzero(classes >= 0)[:, 0]
    batch = clustered[torch.randint(0, len(clustered), (draw(st.integers(1, 8)),), generator=generator)]
    banks = unit(len(sizes)), unit(len(classes)), unit(len(classes))
    return banks, classes, batch, Out(unit(len(batch)), unit(len(batch)))


def masks(made, batch):
    """Positive and negative (B, N) bool, crop by crop."""
    shape = len(batch.index), len(made.classes)
    positive, negative = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    for i, (crop, label) in enumerate(zip(batch.index.tolist(), batch.label.tolist(), strict=True)):
        for j, other in enumerate(made.classes.tolist()):
            positive[i, j] = other == label and (made.settings.own_row or j != crop)
            negative[i, j] = other != label and (other >= 0 or made.settings.outliers == "negatives")
    return positive, negative


@given(
    world=worlds(),
    form=st.sampled_from(FORMS),
    pcl=st.sampled_from(["instance", "proxy", "symmetric"]),
    own_row=st.booleans(),
    outliers=st.sampled_from(["left_out", "negatives"]),
)
@settings(max_examples=120, deadline=None)
def test_terms_are_the_loops(world, form, pcl, own_row, outliers):
    (clusters, whole, part), classes, index, out = world
    options = {"own_row": own_row, "outliers": outliers, "temperature": 0.3}
    made = method(clusters, whole, part, classes, hcl=form, pcl=pcl, hcl_part=0.5, **options)
    batch = batch_of(made, index)
    positive, negative = masks(made, batch)
    terms = made.losses(out, batch)
    for name, features, rows, weight in (("whole", out.whole, whole, 1.0), ("part", out.part, part, 0.5)):
        fresh = normalize(0.1 * rows[index] + 0.9 * features, dim=1)
        near = weight * slow_hcl(features, rows, positive, negative, form, 0.3)
        across = slow_pcl(fresh, rows, clusters, (index, batch.label, classes, negative, 0.3), pcl)
        close(terms[f"hcl_{name}"], near)
        close(terms[f"pcl_{name}"], across)


@given(world=worlds(), temperature=st.sampled_from([0.05, 1.0, float("inf")]))
@settings(max_examples=40, deadline=None)
def test_weights_are_the_loop_and_average_one(world, temperature):
    (clusters, whole, part), classes, index, out = world
    labels = classes[index]
    similarity = (out.whole * clusters[labels]).sum(1)
    for groups in (labels, torch.zeros_like(labels)):
        found = crop_weights(similarity, groups, temperature)
        torch.testing.assert_close(found, slow_weights(similarity, groups, temperature))
        assert (found >= 0).all()
        for group in groups.unique():
            close(found[groups == group].mean(), 1.0)
    if temperature == float("inf"):
        plain = cross_entropy(out.whole @ clusters.T / 0.05, labels)
        for weighting in ("label", "agreement", "batch", "soft_target", "update"):
            made = method(clusters, whole, part, classes, weight_temperature=None, weighting=weighting)
            torch.testing.assert_close(made.losses(out, batch_of(made, index))["wrccl"], plain)


def test_the_other_weightings():
    classes, features, parts, clusters = [0, 0, 1], at(0, 60, 90), at(20, 10, 95), at(10, 95)
    labels = torch.tensor(classes)
    made = {
        name: method(clusters, features, parts, classes, weighting=name)
        for name in ("agreement", "soft_target", "update")
    }
    out, batch = Out(features, parts), batch_of(made["update"], range(3))
    logits = features @ clusters.T / 0.05
    losses = cross_entropy(logits, labels, reduction="none")
    near, both = ((rows * clusters[labels]).sum(1) for rows in (features, features + parts))
    agreement = slow_weights(both / 2, labels, 0.1)
    close(made["agreement"].losses(out, batch)["wrccl"], (agreement * losses).mean().item())
    hard = slow_weights(near, labels, 0.1).clamp(max=1)[:, None]
    target = hard * torch.eye(2, dtype=torch.float64)[labels] + (1 - hard) * logits.softmax(1)
    close(made["soft_target"].losses(out, batch)["wrccl"], -(target * logits.log_softmax(1)).sum(1).mean().item())
    close(made["update"].losses(out, batch)["wrccl"], losses.mean().item())
    made["update"].after_step(out, batch)
    weights = slow_weights(near, labels, 0.1)
    mean = (weights[:2, None] * features[:2]).sum(0) / weights[:2].sum()
    torch.testing.assert_close(made["update"].clusters.rows[0], normalize(0.1 * clusters[0] + 0.9 * mean, dim=0))


@given(world=worlds(), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_neither_the_order_of_the_rows_nor_outliers_matter(world, seed):
    (clusters, whole, part), classes, index, out = world
    made = method(clusters, whole, part, classes)
    expected = made.losses(out, batch_of(made, index))
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    moved = method(clusters, whole[order], part[order], classes[order])
    moved.whole.rows[moved.classes < 0] = at(123)[0, 0]
    place = torch.argsort(order)[index]
    found = moved.losses(out, batch_of(moved, place))
    torch.testing.assert_close(found, expected)


@given(world=worlds())
@settings(max_examples=30, deadline=None)
def test_one_positive_makes_the_forms_one(world):
    (clusters, whole, _), classes, index, out = world
    made = method(clusters, whole, whole, torch.arange(len(classes)))
    own = index[:, None] == made.classes
    values = [hcl(out.whole, made.whole, own, ~own, form) for form in ("instances", "mean", "hardest")]
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


def test_without_momentum_pcl_is_plain_contrast_and_banks_have_no_gradient():
    made = method(at(10, 95), at(5, 70), at(5, 70), [0, 1], crop_momentum=0.0)
    made.part.rows.requires_grad_(True)
    made.clusters.rows.requires_grad_(True)
    features = at(25, 60).requires_grad_(True)
    loss = made.losses(Out(at(25, 60), features), batch_of(made, [0, 1]))["pcl_part"]
    close(loss.detach(), cross_entropy(at(25, 60) @ at(10, 95).T / 0.05, torch.tensor([0, 1])).item())
    loss.backward()
    assert (features.grad != 0).all()
    assert made.part.rows.grad is None
    assert made.clusters.rows.grad is None


@pytest.mark.parametrize("pcl", ["instance", "proxy", "symmetric"])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_finite_differences(form, pcl):
    made = method(at(10, 95), at(5, 30, 70, 99), at(0, 40, 80, 130), [0, 0, 1, -1], temperature=0.5, hcl=form, pcl=pcl)
    made.settings = made.settings.model_copy(update={"weight_temperature": None})  # w is a constant by design
    batch = batch_of(made, [0, 2, 1, 0])
    inputs = at(20, 60, 80, 3).requires_grad_(True), at(10, 50, 70, -8).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda *rows: sum(made.losses(Out(*rows), batch).values()), inputs)


def test_a_lonely_cluster_without_negatives_has_no_hcl_and_finite_gradients():
    for form in FORMS:
        made = method(at(10), at(5, 9), at(5, 9), [0, 0], hcl=form, own_row=False, pcl="symmetric")
        features = at(20, 8).requires_grad_(True)
        terms = made.losses(Out(features, features), batch_of(made, [0, 1]))
        sum(terms.values()).backward()
        assert torch.isfinite(features.grad).all()
        close(terms["hcl_whole"].detach(), 0.0)


@given(world=worlds())
@settings(max_examples=30, deadline=None)
def test_proxies_are_the_loop(world):
    (clusters, whole, part), classes, index, out = world
    made = method(clusters, whole, part, classes)
    found = fresh_proxies(out.part, made.part, index, classes)
    torch.testing.assert_close(found, slow_proxies(out.part, part, index, classes))


def test_banks_are_found_by_the_number_among_all_crops():
    """Crop 0 is an outlier: the place among the clustered crops is not the number."""
    made = method(at(10, 95), at(0, 10, 90, 99), at(0, 10, 90, 99), [-1, 0, 1, 1])
    before = made.whole.rows.clone()
    made.after_step(Out(at(33, 44), at(33, 44)), batch_of(made, [1, 3]))
    moved = np.flatnonzero((made.whole.rows != before).any(1).numpy())
    assert moved.tolist() == [1, 3]
