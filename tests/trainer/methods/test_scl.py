"""SCL's mining, loss, gradient and banks: golden values, plain loops, and what may not change."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from scl_oracles import ranked, step_that_writes_in_backward, terms_of, written  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402

from trainer.memory import sequential  # noqa: E402
from trainer.methods.scl import (  # noqa: E402
    Crowd,
    Out,
    SclSettings,
    coefficients,
    key_logits,
    nearest_keys,
    random_keys,
    ranking_distances,
    same_camera,
    selective_nce,
    stale_gradients,
    with_gradient,
    write_back,
)
from trainer.metrics.camera_term import scores_by_camera_term, with_camera_term  # noqa: E402
from trainer.metrics.retrieval import Truth  # noqa: E402

DOUBLE = torch.float64


def at(*degrees):
    """Unit rows in the plane."""
    angles = torch.tensor(degrees, dtype=DOUBLE).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


FOUR, ALL_FOUR = at(0, 20, 60, 80), torch.tensor([[0, 1, 2, 3]])


def near(found, expected, digits=6):
    torch.testing.assert_close(torch.as_tensor(found, dtype=DOUBLE), torch.tensor(expected, dtype=DOUBLE),
                               atol=0.6 * 10**-digits, rtol=0)  # fmt: skip


def test_a1_coefficients():
    assert coefficients(SclSettings()) == [0.5] + [0.125] * 7
    assert sum(coefficients(SclSettings())) == 1.375


@pytest.mark.parametrize(("weight", "positive", "negatives"), [(0.0, 1, [2, 3]), (0.01, 1, [2, 3]), (0.05, 2, [1, 3])])
def test_a2_mining(weight, positive, negatives):
    whole = at(0, 20, 22, 60, 80, 180)
    stripes = torch.cat([at(0, 20, 22, 50, 90, 180), at(0, 20, 22, 70, 60, 180)], 1)
    crowd = Crowd(whole, stripes, torch.tensor([0, 0, 1, 1, 0, 1]))
    chosen = SclSettings(stripes=2, camera_weight=weight)
    distances = ranking_distances(Crowd(*(part[:1] for part in crowd)), crowd, chosen)
    if weight == 0.05:
        near(distances[0], [0.05, 0.170615, 0.145632, 1.007596, 1.626352, 4])
    assert nearest_keys(torch.tensor([0]), distances, 3, 3).tolist() == [[0, positive, *negatives]]


def test_a3_loss_and_gradient():
    query = at(13).requires_grad_()
    logits = key_logits(query, FOUR, ALL_FOUR, 0.1)
    near(logits[0].detach(), [9.743701, 9.925462, 6.819984, 3.907311])
    near([selective_nce(logits, one).item() for one in torch.eye(2, dtype=DOUBLE)], [0.813585, 0.631824])
    loss = selective_nce(logits, torch.tensor([0.5, 0.875], dtype=DOUBLE))
    loss.backward()
    near(loss.detach(), 0.959638)
    near(query.grad[0], [-0.091599, -0.191432])


def test_a3b_midway_both_keys_cost_the_same():
    logits = key_logits(at(10), FOUR, ALL_FOUR, 0.1)
    for weights, expected in (([1.0, 0.0], 0.710162), ([0.0, 1.0], 0.710162), ([0.5, 0.875], 0.976473)):
        near(selective_nce(logits, torch.tensor(weights, dtype=DOUBLE)), expected)


def test_a4_the_mixture_takes_the_stripes_first_then_the_whole():
    stripes, whole = torch.tensor([[0.0, 2**0.5]], dtype=DOUBLE), at(0)
    one = torch.zeros(1, 1, dtype=torch.int64)
    slot = at(0)
    sequential(slot, stripes, one[0], 0.5)
    near(slot[0], [0.577350, 0.816497])
    for start, expected in ((at(0), [0.888074, 0.459701]), (torch.zeros(1, 2, dtype=DOUBLE), [0.707107, 0.707107])):
        write_back(start, Out(whole, stripes, one), 1, 0.5)
        near(start[0], expected)


def test_a5_banks_move_half_way():
    bank = at(0)
    sequential(bank, at(90), torch.tensor([0]), 0.5)
    near(bank[0], [0.707107, 0.707107])


def test_a6_the_crop_is_not_among_its_random_negatives():
    keys = random_keys(torch.tensor([2, 4]), torch.tensor([5, 2, 1, 3, 0, 4]))
    assert keys.tolist() == [[2, 5, 1, 3, 0, 4], [4, 5, 2, 1, 3, 0]]
    assert random_keys(torch.tensor([9]), torch.tensor([5, 2, 1])).tolist() == [[9, 5, 2]]


def test_first_losses_of_an_empty_mixture():
    logits = key_logits(torch.randn(3, 8), torch.zeros(600, 8), torch.randint(0, 600, (3, 508)), 0.1)
    weights = torch.tensor(coefficients(SclSettings()))
    near(selective_nce(logits, weights[:1]), 3.1152, 4)
    near(selective_nce(logits, weights), 8.5669, 4)


def test_faithful_gradient_of_the_whole_is_stale():
    """The authors' gradient of the whole at 10°, stripes √2 long at 40°: clean [.0003, −.2394]."""
    out = Out(at(10), 2**0.5 * at(40), ALL_FOUR)
    weights, query = torch.tensor([0.5, 0.875], dtype=DOUBLE), at(10).requires_grad_()
    selective_nce(key_logits(query, FOUR, ALL_FOUR, 0.1), weights).backward()
    near(query.grad[0] / 2, [0.0003, -0.2394], 4)
    near(stale_gradients(FOUR, out, weights, SclSettings())[1][0] / 2, [0.1188, -0.2794], 4)


def problem(seed, crops=40, batch=6, dimension=8, stripes=4):
    """Banks, features of a batch, and cameras; camera −1 among them, camera 3 with one crop."""
    generator = torch.Generator().manual_seed(seed)

    def unit(rows):
        return normalize(torch.randn(rows, dimension, generator=generator, dtype=DOUBLE), dim=1)

    def striped(rows):
        parts = torch.randn(rows, stripes, dimension // stripes, generator=generator, dtype=DOUBLE)
        return normalize(parts, dim=2).flatten(1)

    cameras = torch.randint(-1, 3, (crops,), generator=generator)
    cameras[0] = 3
    own = torch.randperm(crops, generator=generator)[:batch]
    banks = Crowd(unit(crops), striped(crops), cameras)
    return banks, Crowd(unit(batch), striped(batch), cameras[own]), own, unit(crops)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [3, 20, 39])
def test_mining_is_the_plain_loop(seed, count):
    banks, crops, own, _ = problem(seed)
    chosen = SclSettings(stripes=4, camera_weight=0.3, whole_share=0.4)
    for positives in {0, 1, min(7, count), count}:
        keys = nearest_keys(own, ranking_distances(crops, banks, chosen), positives, count)
        for number, crop in enumerate(own.tolist()):
            expected = ranked([part[number] for part in crops], banks, crop, chosen)[:count]
            first, rest = keys[number].split([1 + positives, count - positives])
            assert first.tolist() == [crop, *expected[:positives]]
            assert sorted(rest.tolist()) == sorted(expected[positives:])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(9, 30), st.integers(1, 40))
def test_keys_hold_the_crop_once_and_nobody_twice(seed, crops, wanted):
    banks, batch, own, _ = problem(seed, crops)
    count = min(wanted, crops - 1)
    distances = ranking_distances(batch, banks, SclSettings(stripes=4))
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(crops))[: count + 1]
    nearest, random = nearest_keys(own, distances, 1, count), random_keys(own, shuffled)
    for keys in (nearest, random):
        assert keys.shape == (len(own), count + 1)
        assert torch.equal(keys[:, 0], own)
        assert all(len(set(row)) == count + 1 for row in keys.tolist())
    shifted = distances + torch.arange(len(own))[:, None]
    assert torch.equal(nearest_keys(own, shifted, count, count), nearest_keys(own, distances, count, count))


def test_one_camera_or_none_changes_no_ranking():
    banks, crops, own, _ = problem(3)
    orders = []
    for number in (0, -1):
        one, all_of_one = (part._replace(cameras=torch.full_like(part.cameras, number)) for part in (crops, banks))
        orders.append(nearest_keys(own, ranking_distances(one, all_of_one, SclSettings(stripes=4)), 30, 30))
    plain = ranking_distances(crops, banks, SclSettings(stripes=4, camera_weight=0))
    assert all(torch.equal(order, nearest_keys(own, plain, 30, 30)) for order in orders)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("positives", [0, 1, 5])
def test_a_step_is_the_plain_loop_clean_and_faithful(seed, positives):
    banks, crops, own, mixture = problem(seed)
    chosen = SclSettings(stripes=4, positives=5)
    keys = nearest_keys(own, ranking_distances(crops, banks, chosen), 5, 20)
    out = Out(crops.whole.requires_grad_(), crops.stripes.requires_grad_(), keys)
    weights = torch.tensor(coefficients(chosen), dtype=DOUBLE)[: 1 + positives]

    def loss_of(rows):
        return selective_nce(key_logits(rows, mixture, keys, 0.1), weights)

    for rows in (out.stripes, out.whole):
        loss = loss_of(rows)
        expected = sum(terms_of(rows, mixture, keys, weights, 0.1))
        torch.testing.assert_close(loss, expected)
        found, plain = (torch.autograd.grad(value, rows)[0] for value in (loss, expected))
        torch.testing.assert_close(found, plain)
        assert torch.autograd.gradcheck(loss_of, (rows,))
    detached = Out(*(part.detach() for part in out))
    stripes, whole, after = step_that_writes_in_backward(mixture, detached, weights, chosen)
    gradients = stale_gradients(mixture, detached, weights, chosen)
    torch.testing.assert_close(chosen.stripe_loss * gradients[0], stripes)
    torch.testing.assert_close((1 - chosen.stripe_loss) * gradients[1], whole)
    moved = mixture.clone()
    write_back(moved, detached, 1 + positives, 0.5)
    torch.testing.assert_close(moved, written(mixture, detached, 1 + positives))
    torch.testing.assert_close(moved, after)
    untouched = torch.ones(len(mixture), dtype=torch.bool)
    untouched[keys[:, : 1 + positives].flatten()] = False
    assert torch.equal(moved[untouched], mixture[untouched])
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(len(moved), dtype=DOUBLE))


def test_a_value_with_a_gradient_of_its_own():
    rows = torch.randn(3, 2, requires_grad=True)
    value, gradient = rows.square().sum(), torch.randn(3, 2)
    result = with_gradient(value, rows, gradient)
    result.backward()
    assert result.item() == value.item()
    assert torch.equal(rows.grad, gradient)


def test_fixed_point_of_the_mixture():
    """With g ⟂ l and l √8 long, the row settles 38.6° from g."""
    row, keys = torch.zeros(1, 2, dtype=DOUBLE), torch.zeros(1, 1, dtype=torch.int64)
    for _ in range(60):
        write_back(row, Out(at(0), math.sqrt(8) * at(90), keys), 1, 0.5)
    near(row[0], [0.781, 0.624], 3)


def test_the_camera_term_of_the_test():
    query, gallery = np.array([0, -1, 1]), np.array([0, 1, -1, 0])
    expected = [[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert same_camera(torch.from_numpy(query), torch.from_numpy(gallery)).tolist() == np.array(expected, bool).tolist()
    blocks = [np.array([[4, 1, 0, -1e-8]], np.float32), np.ones((2, 4), np.float32)]
    found = np.concatenate(list(with_camera_term(blocks, query, gallery, 0.05)))
    np.testing.assert_allclose(found, [[2.05, 1, 0, 0.05], [1] * 4, [1, 1.05, 1, 1]])


def test_both_test_numbers():
    """The right crop of the other camera lies behind a wrong one of the query's camera, until that is pushed back."""
    query = at(0).numpy().astype(np.float32), Truth(np.array([7]), np.array([0]))
    gallery = at(10, 12, 170).numpy().astype(np.float32), Truth(np.array([8, 7, 7]), np.array([0, 1, 1]))
    scores = scores_by_camera_term(query, gallery, 0.05)
    assert [(name, score.R1) for name, score in scores.items()] == [("plain", 0.0), ("camera term 0.05", 100.0)]
    unknown = gallery[0], Truth(gallery[1].identities, np.full(3, -1))
    plain, same = scores_by_camera_term(query, unknown, 0.05).values()
    assert plain == same
