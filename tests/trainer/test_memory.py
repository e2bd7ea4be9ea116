"""Memory rows: golden values, the plain loop, and what an update may not touch."""

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")

from torch.nn.functional import normalize  # noqa: E402

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
    losses = [torch.nn.functional.cross_entropy(logits, torch.tensor([label])) for label in (0, 1)]
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


def test_gradients_are_those_of_detached_rows_and_rows_do_not_move_before_update():
    rows, features, labels = (part.float() if part.is_floating_point() else part for part in problem(1))
    features.requires_grad_(True)
    memory = Memory(rows.clone(), 0.05, 0.1)
    loss = torch.nn.functional.cross_entropy(memory.logits(features), labels)
    memory.update(features, labels, "sequential")  # between forward and backward: must not matter
    loss.backward()
    plain = features.detach().clone().requires_grad_(True)
    torch.nn.functional.cross_entropy(plain @ rows.T / 0.05, labels).backward()
    assert torch.equal(features.grad, plain.grad)


def test_label_means():
    means = label_means(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 0, 2]), 3)
    assert means.tolist() == [[2.0, 0.0], [0.0, 0.0], [0.0, 5.0]]
