"""Memory rows: golden values, the plain loop, and what an update may not touch."""

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")

from torch.nn.functional import cross_entropy, normalize  # noqa: E402

from trainer.memory import Memory, hardest, label_means, mean, sequential  # noqa: E402

TWO = torch.tensor([[0.6, 0.8], [0.0, 1.0]], dtype=torch.float64)
FIRST = torch.zeros(2, dtype=torch.int64)


def start():
    return torch.tensor([[1.0, 0.0]], dtype=torch.float64)


def test_d1_sequential_updates():
    rows = start()
    sequential(rows, TWO[:1], FIRST[:1], 0.1)
    torch.testing.assert_close(rows[0], torch.tensor([0.664364, 0.747409], dtype=torch.float64), atol=1e-6, rtol=0)
    sequential(rows, TWO[1:], FIRST[:1], 0.1)
    torch.testing.assert_close(rows[0], torch.tensor([0.068000, 0.997685], dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("rule", "features", "expected"),
    [
        (sequential, TWO, [0.068000, 0.997685]),
        (mean, TWO, [0.415494, 0.909596]),
        (mean, normalize(TWO.mean(0, keepdim=True), dim=1), [0.410709, 0.911766]),
        (hardest, TWO, [0.110432, 0.993884]),
    ],
)
def test_d1b_the_rules_differ(rule, features, expected):
    rows = start()
    rule(rows, features, FIRST[: len(features)], 0.1)
    torch.testing.assert_close(rows[0], torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_d2_logits_loss_and_gradient():
    memory = Memory(torch.eye(2), temperature=0.05, momentum=0.1)
    query = torch.tensor([[0.8, 0.6]], requires_grad=True)
    logits = memory.logits(query)
    torch.testing.assert_close(logits, torch.tensor([[16.0, 12.0]]))
    losses = [cross_entropy(logits, torch.tensor([label])) for label in (0, 1)]
    torch.testing.assert_close(losses[0].item(), 0.018149928, atol=1e-6, rtol=0)
    torch.testing.assert_close(losses[1].item(), 4.018149928, atol=1e-6, rtol=0)
    losses[0].backward()
    torch.testing.assert_close(query.grad, torch.tensor([[-0.359724, 0.359724]]), atol=1e-5, rtol=0)


def problem(seed):
    generator = torch.Generator().manual_seed(seed)
    rows = normalize(torch.randn(9, 5, generator=generator, dtype=torch.float64), dim=1)
    features = normalize(torch.randn(32, 5, generator=generator, dtype=torch.float64), dim=1)
    labels = torch.randint(0, 7, (32,), generator=generator)
    return rows, features, labels


@pytest.mark.parametrize("seed", range(5))
def test_updates_are_the_plain_loops(seed):
    rows, features, labels = problem(seed)
    one_by_one, picked, averaged = rows.clone(), rows.clone(), rows.clone()
    for feature, label in zip(features, labels.tolist(), strict=True):
        one_by_one[label] = normalize(0.2 * one_by_one[label] + 0.8 * feature, dim=0)
    for label in labels.unique().tolist():
        members = features[labels == label]
        chosen = members[(members @ rows[label]).argmin()]
        picked[label] = normalize(0.2 * rows[label] + 0.8 * chosen, dim=0)
        averaged[label] = normalize(0.2 * rows[label] + 0.8 * members.mean(0), dim=0)
    for rule, expected in ((sequential, one_by_one), (hardest, picked), (mean, averaged)):
        found = rows.clone()
        rule(found, features, labels, 0.2)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(9, dtype=torch.float64))
        assert torch.equal(found[7:], rows[7:])  # no crop of the batch has these labels


def test_gradients_are_those_of_detached_rows():
    rows, features, labels = (part.float() if part.is_floating_point() else part for part in problem(1))
    features.requires_grad_(True)
    memory = Memory(rows.clone(), 0.05, 0.1)
    cross_entropy(memory.logits(features), labels).backward()
    plain = features.detach().clone().requires_grad_(True)
    cross_entropy(plain @ rows.T / 0.05, labels).backward()
    assert torch.equal(features.grad, plain.grad)
    assert torch.equal(memory.rows, rows)


def test_rows_that_move_before_backward_are_an_error_and_not_a_wrong_gradient():
    rows, features, labels = (part.float() if part.is_floating_point() else part for part in problem(1))
    features.requires_grad_(True)
    for rule in ("sequential", "hardest", "mean"):
        memory = Memory(rows.clone(), 0.05, 0.1)
        loss = cross_entropy(memory.logits(features), labels)
        memory.update(features, labels, rule)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


class WritingProduct(torch.autograd.Function):
    """f·M whose backward moves row 0 of M, as the released codes do it."""

    @staticmethod
    def forward(ctx, features, rows):
        ctx.rows = rows
        ctx.save_for_backward(features)
        return features @ rows.T

    @staticmethod
    def backward(ctx, gradient):
        result = gradient @ ctx.rows
        ctx.rows[0] = normalize(0.1 * ctx.rows[0] + 0.9 * ctx.saved_tensors[0][0], dim=0)
        return result, None


def test_the_trap_of_two_calls_on_one_bank():
    """The call that was made first, whose backward is last, must see the rows as they were."""
    bank, first, second = torch.eye(2), torch.tensor([[0.6, 0.8]]), torch.tensor([[0.8, 0.6]])

    def gradients(product):
        queries = [query.clone().requires_grad_(True) for query in (first, second)]
        sum(cross_entropy(product(query), FIRST[:1]) for query in queries).backward()
        return [query.grad for query in queries]

    memory, written = Memory(bank.clone(), 1.0, 0.1), bank.clone()
    exact = gradients(lambda query: query @ bank.T)
    found, wrong = gradients(memory.logits), gradients(lambda query: WritingProduct.apply(query, written))
    assert all(torch.equal(one, other) for one, other in zip(found, exact, strict=True))
    assert torch.equal(wrong[1], exact[1])
    assert (wrong[0] - exact[0]).norm() > 0.1


def test_label_means():
    means = label_means(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 0, 2]), 3)
    assert means.tolist() == [[2.0, 0.0], [0.0, 0.0], [0.0, 5.0]]
