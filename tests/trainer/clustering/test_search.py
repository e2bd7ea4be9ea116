"""Exact search: the same rows from a GPU, in whatever chunks it has room for, as from the processor.

No GPU is needed. A flat index of the processor stands in for one: faiss gives both the same face.
"""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

faiss = pytest.importorskip("faiss", reason="clustering needs faiss (extra `trainer`)")
torch = pytest.importorskip("torch", reason="the trainer needs torch")

from trainer.clustering import search  # noqa: E402
from trainer.clustering.knn import NeighbourSettings, nearest  # noqa: E402
from trainer.clustering.search import exact_search, search_on  # noqa: E402

ROWS, DIMENSION, K = 700, 24, 9


def unit(count, dimension=DIMENSION, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class SmallGpu:
    """Room for so many rows; more are refused as faiss refuses them."""

    def __init__(self, room: int) -> None:
        self.room, self.held = room, []

    def hold(self, features):
        if len(features) > self.room:
            raise RuntimeError(
                f"Error in StandardGpuResourcesImpl::allocMemory: out of memory, {len(features)} rows\nat 7"
            )
        self.held.append(len(features))
        index = faiss.IndexFlatIP(features.shape[1])
        index.add(features)
        return index


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks and chunks of a size that a test fills, and nothing said yet."""
    monkeypatch.setattr(search, "QUERY_BLOCK", 64)
    monkeypatch.setattr(search, "CHUNK_BYTES", 512 * DIMENSION * 4)
    monkeypatch.setattr(search, "SMALLEST_CHUNK_BYTES", 32 * DIMENSION * 4)
    monkeypatch.setattr(search, "_said", set())


@pytest.mark.parametrize(
    ("room", "held"), [(10_000, [512, 188]), (511, [256, 256, 188]), (32, [32] * 21 + [28])], ids=str
)
def test_a_gpu_finds_what_the_processor_finds_in_whatever_chunks_it_has_room_for(room, held):
    features, queries, gpu = unit(ROWS), unit(150, seed=1), SmallGpu(room)
    expected, rows = exact_search(queries, features, K, gpu=False)
    similarities, found = search_on(gpu, queries, features, K)
    assert gpu.held == held
    assert (similarities.dtype, found.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_allclose(similarities, expected, atol=1e-6)


def test_among_equal_rows_of_several_chunks_none_is_found_twice():
    features = np.concatenate([np.repeat(unit(1), 300, axis=0), unit(400, seed=2)])
    _, found = search_on(SmallGpu(64), features[:5], features, K)
    assert all(len(set(row)) == K for row in found.tolist())
    assert found.max() < 300


def test_a_last_chunk_of_fewer_rows_than_are_asked_for():
    features = unit(512 + 3)
    _, found = search_on(SmallGpu(512), features, features, K)
    np.testing.assert_array_equal(found, exact_search(features, features, K, gpu=False)[1])


def test_neighbours_come_from_the_gpu(monkeypatch):
    features, gpu = unit(ROWS), SmallGpu(512)
    monkeypatch.setattr(search, "gpu_here", lambda: gpu)
    found = nearest(features, K)
    assert gpu.held
    np.testing.assert_array_equal(found, nearest(features, K, NeighbourSettings(gpu=False)))


def test_where_a_gpu_refuses_the_processor_searches_and_one_line_says_so(monkeypatch, caplog):
    features = unit(ROWS)
    rooms = iter((31, 30))
    monkeypatch.setattr(search, "gpu_here", lambda: SmallGpu(next(rooms)))
    with caplog.at_level(logging.WARNING):
        first, second = (nearest(features, K) for _ in range(2))
    np.testing.assert_array_equal(first, nearest(features, K, NeighbourSettings(gpu=False)))
    np.testing.assert_array_equal(first, second)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("neighbours are searched on the processor: the GPU refused (")
    assert line.endswith("out of memory, 32 rows)")


@pytest.mark.parametrize(
    ("library", "torch_sees_one", "said"),
    [
        (SimpleNamespace(), True, "it is built without: install crosslane[trainer-gpu]"),
        (
            SimpleNamespace(StandardGpuResources=None, get_num_gpus=lambda: 0),
            True,
            "torch sees a GPU, but faiss does not (it sees none)",
        ),
        (SimpleNamespace(), False, ""),
    ],
)
def test_a_gpu_that_faiss_cannot_use_is_told_once(monkeypatch, caplog, library, torch_sees_one, said):
    monkeypatch.setattr(search, "faiss", library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_sees_one)
    with caplog.at_level(logging.WARNING):
        assert [search.gpu_here() for _ in range(3)] == [None] * 3
    assert len(caplog.records) == bool(said)
    assert said in caplog.text


def test_the_gpu_is_that_of_torch_and_its_memory_is_bounded(monkeypatch):
    """Two GPUs, of which training uses the second; the calls are those that faiss-gpu takes."""
    asked = []

    class Resources:
        def setTempMemory(self, size):  # noqa: N802  faiss's name
            asked.append(size)

    def flat(resources, dimension, config):
        assert isinstance(resources, Resources)
        asked.append(config.device)
        return faiss.IndexFlatIP(dimension)

    library = SimpleNamespace(
        get_num_gpus=lambda: 2, StandardGpuResources=Resources, GpuIndexFlatConfig=SimpleNamespace, GpuIndexFlatIP=flat
    )
    monkeypatch.setattr(search, "faiss", library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: asked.append("emptied"))
    features = unit(ROWS)
    _, found = exact_search(features, features, 1)
    assert asked == ["emptied", search.WORK_BYTES, 1, 1]
    np.testing.assert_array_equal(found[:, 0], np.arange(ROWS))
