"""SpCL's loss and self-paced filter: golden values and dense oracles; what an epoch draws."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")

from trainer.data.records import Crops  # noqa: E402
from trainer.errors import DataError  # noqa: E402
from trainer.methods.spcl import (  # noqa: E402
    SpCL,
    SpclSettings,
    independence_threshold,
    outliers_alone,
    rely_on,
    set_distance,
    unified_nce,
)
from trainer.models.embedder import ModelSettings, blueprint_of, new_embedder  # noqa: E402


def test_d4_loss():
    memory = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]], dtype=torch.float64)
    classes = torch.tensor([0, 0, 1, 2])
    logits = torch.tensor([[0.6, 0.8]], dtype=torch.float64) @ memory.T / 0.05
    for label, expected in ((0, 0.913031), (1, 0.513032)):
        loss = unified_nce(logits, classes, torch.tensor([label]))
        torch.testing.assert_close(loss.item(), expected, atol=2e-6, rtol=0)


def test_the_loss_does_not_overflow_where_the_formula_does():
    logits = torch.tensor([[400.0, -400.0]])
    assert torch.isfinite(unified_nce(logits, torch.tensor([0, 1]), torch.tensor([1])))


def test_d5_distances_of_sets():
    here = np.array([0, 0, 0, 1, 1])
    np.testing.assert_allclose(set_distance(here, np.array([0, 0, 2, 1, 1])), [1 / 3, 1 / 3, 2 / 3, 0, 0])
    np.testing.assert_allclose(set_distance(here, np.zeros(5, int)), [0.4, 0.4, 0.4, 0.6, 0.6])


@pytest.mark.parametrize("seed", range(5))
def test_distances_of_sets_are_the_dense_ones(seed):
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 6, (2, 40))
    one, two = first[:, None] == first, second[:, None] == second
    expected = 1 - (one & two).sum(1) / (one | two).sum(1)
    np.testing.assert_allclose(set_distance(first, second), expected)


def test_filter_dissolves_dependent_clusters_and_frees_loose_members():
    labels = np.array([0, 0, 0, 1, 1, -1, 2, 2])
    compactness = np.array([0.3, 0.3, 0.6, 0, 0, 0, 0.1, 0.1])
    independence = np.array([0.4, 0.4, 0.4, 0.6, 0.6, 0, 0, 0])
    assert rely_on(labels, compactness, independence, 0.5).tolist() == [0, 0, -1, -1, -1, -1, 1, 1]
    assert outliers_alone(labels).tolist() == [0, 0, 0, 1, 1, 3, 2, 2]


def test_threshold_lets_nine_tenths_pass():
    labels = np.repeat(np.arange(20), 2)
    independence = np.repeat(np.linspace(0, 0.95, 20), 2)
    assert independence_threshold(labels, independence) == pytest.approx(0.9)
    assert independence_threshold(np.array([-1, -1]), np.zeros(2)) == 1.0


def epoch_of(rows: np.ndarray, eps: float = 0.5, **changes) -> tuple[set[int], np.ndarray]:
    """Crops that an epoch draws, and their labels."""
    clustering = {"jaccard": {"k1": 6, "k2": 2}, "dbscan": {"eps": eps, "min_samples": 3}}
    settings = SpclSettings(clustering=clustering, sampler={"clusters": 4, "crops": 2, "steps": 200}, **changes)
    count = len(rows)
    crops = Crops(tuple(Path(f"{n}.png") for n in range(count)), *(np.full(count, -1),) * 3)
    spec = blueprint_of(ModelSettings(backbone="osnet_x0_25"), (32, 16))
    method = SpCL(new_embedder(spec), crops, settings, 0)
    method.start_epoch(0, lambda: rows)
    epoch = method.start_epoch(1, rows[::-1].copy)
    assert method.memory is not None
    filled = rows[::-1] if settings.refill else rows
    np.testing.assert_allclose(method.memory.rows.numpy(), filled, atol=1e-6)
    return set(epoch.batches.ravel().tolist()), epoch.labels


def test_outliers_are_drawn_as_published_or_stand_in_the_memory_only():
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((46, 32))
    rows[:36] = np.repeat(generator.standard_normal((6, 32)), 6, axis=0) + 0.05 * rows[:36]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    drawn, labels = epoch_of(rows)
    assert drawn == set(range(46))
    assert len(np.unique(labels[36:])) == 10
    drawn, labels = epoch_of(rows, draw_outliers=False)
    assert drawn <= set(range(36))
    assert len(np.unique(labels[36:])) == 10  # still labels of their own, to be told apart from
    assert epoch_of(rows, refill=True)[0] == set(range(46))
    with pytest.raises(DataError, match=r"all crops are outliers.*draw_outliers"):
        epoch_of(rows[36:], eps=0.05, draw_outliers=False)
