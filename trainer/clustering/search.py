"""Exact search for the most similar rows: every pair is compared, on the GPU where faiss sees one, else on all cores.

Both compute in float32 (on the GPU without TF32), so similarities agree to 1e-6 and lists to rows that are as near.

Memory law: 8·k bytes a query for the answer. On the GPU CHUNK_BYTES of features at a time, each chunk sent once, and
WORK_BYTES for faiss; where even that is too much the chunks are halved, and in the end the processor searches.
Cost law: queries·rows·D multiply-adds.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Found = tuple[Floats, NDArray[np.int32]]  # inner products (Q, k), descending, and the numbers of their rows (Q, k)

QUERY_BLOCK = 16_384  # rows searched at once: large enough for BLAS, small enough to bound the temporary answer
CHUNK_BYTES = 2 << 30  # of features on the GPU: a million rows of 512 numbers
SMALLEST_CHUNK_BYTES = 64 << 20
WORK_BYTES = 1 << 30  # on the GPU, for faiss
_said: set[str] = set()


class Index(Protocol):
    """Rows that can be searched, as all flat indices of faiss."""

    def search(self, queries: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
        """Inner products (Q, k), descending, and row numbers (Q, k)."""


class Gpu(Protocol):
    """Where chunks of features are searched."""

    def hold(self, features: Floats) -> Index:
        """These rows, there, as long as the index lives; `RuntimeError` where there is no room."""


class FaissGpu:
    """A GPU by faiss. Its working memory is given back with the last index."""

    def __init__(self, device: int) -> None:
        self._config: Any = faiss.GpuIndexFlatConfig()
        self._config.device = device
        self._resources: Any = faiss.StandardGpuResources()
        self._resources.setTempMemory(WORK_BYTES)

    def hold(self, features: Floats) -> Index:
        index: Any = faiss.GpuIndexFlatIP(self._resources, features.shape[1], self._config)
        index.add(features)
        return index  # type: ignore[no-any-return]


def exact_search(queries: Floats, features: Floats, k: int, *, gpu: bool = True) -> Found:
    """For each of the (Q, D) float32 queries the k ≤ N most similar of the (N, D) float32 features."""
    if gpu:
        try:
            if (device := gpu_here()) is not None:
                return search_on(device, queries, features, k)
        except RuntimeError as error:  # all that faiss raises
            _say("the GPU refused", str(error).splitlines()[0])
    best = _empty(len(queries), k)
    for block in _blocks(len(queries)):
        best[0][block], best[1][block] = faiss.knn(queries[block], features, k, metric=faiss.METRIC_INNER_PRODUCT)
    return best


def search_on(gpu: Gpu, queries: Floats, features: Floats, k: int) -> Found:
    """`exact_search` on this GPU, in smaller chunks where it has no room; its `RuntimeError` where it has none at
    all."""
    chunk_bytes = CHUNK_BYTES
    while True:
        try:
            return _in_chunks(gpu, queries, features, k, max(k, chunk_bytes // features[0].nbytes))
        except RuntimeError:
            chunk_bytes //= 2
            if chunk_bytes < SMALLEST_CHUNK_BYTES:
                raise


def gpu_here() -> Gpu | None:
    """The GPU that torch uses in this process, None where faiss sees none."""
    if not _faiss_sees_one():
        return None
    if not torch.cuda.is_available():
        return FaissGpu(0)
    torch.cuda.empty_cache()  # what training holds on to, and does not use now
    return FaissGpu(torch.cuda.current_device())


def _faiss_sees_one() -> bool:
    """Where torch alone sees a GPU, that is said."""
    built = hasattr(faiss, "StandardGpuResources")
    if built and faiss.get_num_gpus():
        return True
    if torch.cuda.is_available():
        advice = (
            "it sees none" if built else "it is built without: install crosslane[trainer-gpu], not crosslane[trainer]"
        )
        _say("torch sees a GPU, but faiss does not", advice)
    return False


def _say(what: str, why: str) -> None:
    """One line in the life of this process, however often and for whatever reasons it happens: every epoch searches."""
    if what not in _said:
        _said.add(what)
        logging.getLogger("trainer").warning(f"neighbours are searched on the processor: {what} ({why})")


def _in_chunks(gpu: Gpu, queries: Floats, features: Floats, k: int, rows: int) -> Found:
    best = _empty(len(queries), k)
    for first in range(0, len(features), rows):
        chunk = features[first : first + rows]
        index = gpu.hold(chunk)
        for block in _blocks(len(queries)):
            similarities, found = index.search(queries[block], min(k, len(chunk)))
            if first:
                similarities = np.concatenate([best[0][block], similarities], axis=1)
                found = np.concatenate([best[1][block], found + first], axis=1)
                order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
                similarities = np.take_along_axis(similarities, order, axis=1)
                found = np.take_along_axis(found, order, axis=1)
            best[0][block], best[1][block] = similarities, found
        del index  # before the next chunk comes
    return best


def _empty(queries: int, k: int) -> Found:
    return np.empty((queries, k), np.float32), np.empty((queries, k), np.int32)


def _blocks(count: int) -> list[slice]:
    return [slice(first, first + QUERY_BLOCK) for first in range(0, count, QUERY_BLOCK)]
