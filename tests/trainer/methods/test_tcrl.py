"""TCRL: golden values, plain loops and invariants."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
for library in ("faiss", "numba", "hypothesis"):
    pytest.importorskip(library, reason=f"the trainer needs {library}")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tcrl_oracles import slow_hcl, slow_pcl, slow_weights  # noqa: E402
from torch.nn.functional import cross_entropy, normalize  # noqa: E402

from trainer.data.batch import Batch  # noqa: E402
from trainer.methods.tcrl import TCRL, Out, TcrlSettings, crop_weights, hcl, refreshed  # noqa: E402

FORMS = ("instances", "mean")


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
    close(crop_weights(similarity, classes, 0.8), [1.123052, 1.144583, 0.732366, 0.998413, 0.998413, 1.003174])
    close(crop_weights(similarity, classes, 0.05), [1.273275, 1.725363, 0.001362, 0.974318, 0.974318, 1.051364])
    for weight, sharp, soft in (
        (None, 0.592708, 0.266476),
        (1.0, 0.463400, 0.239081),
        (0.8, 0.434079, 0.232871),
        (0.1, 0.026473, 0.146989),
        (0.05, 0.000807, 0.142261),
    ):
        for temperature, expected in ((0.05, sharp), (0.5, soft)):
            made = method(clusters, features, features, classes, weight_temperature=weight, temperature=temperature)
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
    for i, label in enumerate(batch.label.tolist()):
        for j, other in enumerate(made.classes.tolist()):
            positive[i, j] = other == label
            negative[i, j] = other not in (label, -1)
    return positive, negative


@given(world=worlds(), form=st.sampled_from(FORMS))
@settings(max_examples=120, deadline=None)
def test_terms_are_the_loops(world, form):
    (clusters, whole, part), classes, index, out = world
    made = method(clusters, whole, part, classes, hcl=form, hcl_part=0.5, temperature=0.3)
    batch = batch_of(made, index)
    positive, negative = masks(made, batch)
    terms = made.losses(out, batch)
    for name, features, rows, weight in (("whole", out.whole, whole, 1.0), ("part", out.part, part, 0.5)):
        fresh = normalize(0.1 * rows[index] + 0.9 * features, dim=1)
        close(terms[f"hcl_{name}"], weight * slow_hcl(features, rows, positive, negative, form, 0.3))
        close(terms[f"pcl_{name}"], slow_pcl(fresh, clusters, batch.label.tolist(), 0.3))


@given(world=worlds(), temperature=st.sampled_from([0.05, 1.0, float("inf")]))
@settings(max_examples=40, deadline=None)
def test_weights_are_the_loop_and_average_one(world, temperature):
    (clusters, whole, part), classes, index, out = world
    labels = classes[index]
    similarity = (out.whole * clusters[labels]).sum(1)
    found = crop_weights(similarity, labels, temperature)
    torch.testing.assert_close(found, slow_weights(similarity, labels, temperature))
    assert (found >= 0).all()
    for label in labels.unique():
        close(found[labels == label].mean(), 1.0)
    if temperature == float("inf"):
        plain = cross_entropy(out.whole @ clusters.T / 0.05, labels)
        made = method(clusters, whole, part, classes, weight_temperature=None)
        torch.testing.assert_close(made.losses(out, batch_of(made, index))["wrccl"], plain)


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
    first, second = (hcl(out.whole, made.whole, own, ~own, form) for form in FORMS)
    torch.testing.assert_close(first, second)


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


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_finite_differences(form):
    made = method(at(10, 95), at(5, 30, 70, 99), at(0, 40, 80, 130), [0, 0, 1, -1], temperature=0.5, hcl=form)
    made.settings = made.settings.model_copy(update={"weight_temperature": None})  # w is a constant by design
    batch = batch_of(made, [0, 2, 1, 0])
    inputs = at(20, 60, 80, 3).requires_grad_(True), at(10, 50, 70, -8).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda *rows: sum(made.losses(Out(*rows), batch).values()), inputs)


def test_a_lonely_cluster_without_negatives_has_no_hcl_and_finite_gradients():
    for form in FORMS:
        made = method(at(10), at(5, 9), at(5, 9), [0, 0], hcl=form)
        features = at(20, 8).requires_grad_(True)
        terms = made.losses(Out(features, features), batch_of(made, [0, 1]))
        sum(terms.values()).backward()
        assert torch.isfinite(features.grad).all()
        close(terms["hcl_whole"].detach(), 0.0)


def test_banks_are_found_by_the_number_among_all_crops():
    """Crop 0 is an outlier: the place among the clustered crops is not the number."""
    made = method(at(10, 95), at(0, 10, 90, 99), at(0, 10, 90, 99), [-1, 0, 1, 1])
    before = made.whole.rows.clone()
    made.after_step(Out(at(33, 44), at(33, 44)), batch_of(made, [1, 3]))
    moved = np.flatnonzero((made.whole.rows != before).any(1).numpy())
    assert moved.tolist() == [1, 3]
