"""Neighbours by faiss on a GPU against faiss on all cores: the same, and how much sooner.

    source deploy/environment.sh && environment trainer-gpu
    python tests/benchmarks/gpu.py --json gpu.json        without a GPU it prints "not measured: no GPU"

Crops are made up as in `clustering.py`. Per size: the seconds of both after a small search that warms them up, the
largest difference of any similarity, the share of list entries that name another row (rows that are as near may change
places), the largest difference of similarity where they do, and the adjusted Rand index of the clusters that come of
both. The last row has room for a third of the rows at a time. Ends with 1 where the two differ by more than rounding.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from clustering import K1, make_crops
from sklearn.metrics import adjusted_rand_score

from trainer.clustering import search
from trainer.clustering.knn import NeighbourSettings
from trainer.clustering.recluster import ClusterSettings, cluster
from trainer.clustering.search import Found, exact_search, gpu_here

SIZES = ((12_936, 2048), (100_000, 512), (100_000, 2048))
CLUSTERED = 20_000  # crops, at most, that are clustered both ways
ROUNDING = 2e-6  # of an inner product of unit rows in float32


def timed(stage: Callable[[], Found]) -> tuple[Found, float]:
    begin = time.perf_counter()
    found = stage()
    return found, time.perf_counter() - begin


def compare(count: int, dimension: int, chunk_bytes: int) -> dict[str, Any]:
    """One size, on the GPU with room for so many bytes of features."""
    features, _ = make_crops(count, dimension, seed=0)
    search.CHUNK_BYTES = chunk_bytes
    for gpu in (True, False):
        exact_search(features[:256], features[:4096], K1, gpu=gpu)
    (there, rows), gpu_s = timed(lambda: exact_search(features, features, K1))
    (here, expected), processor_s = timed(lambda: exact_search(features, features, K1, gpu=False))
    other = rows != expected
    return {
        "crops": count,
        "dimension": dimension,
        "chunk_bytes": chunk_bytes,
        "gpu_s": round(gpu_s, 3),
        "processor_s": round(processor_s, 3),
        "times_faster": round(processor_s / gpu_s, 1),
        "similarity_differs_by": float(np.abs(there - here).max()),
        "entries_of_another_row": float(other.mean()),
        "where_similarity_differs_by": float(np.abs(there - here)[other].max(initial=0.0)),
        "adjusted_rand_index": clusters_agree(features[:CLUSTERED]),
    }


def clusters_agree(features: np.ndarray) -> float:
    labels = [cluster(features, ClusterSettings(neighbours=NeighbourSettings(gpu=gpu))).labels for gpu in (True, False)]
    return float(adjusted_rand_score(*labels))


def same(row: dict[str, Any]) -> bool:
    return row["similarity_differs_by"] <= ROUNDING and row["adjusted_rand_index"] >= 0.999


def machine() -> dict[str, Any]:
    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "unknown to torch",
        "cores": len(os.sched_getaffinity(0)),
        "faiss": faiss.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    if gpu_here() is None:
        print("not measured: no GPU")
        return 0
    rows = [compare(*size, search.CHUNK_BYTES) for size in SIZES]
    count, dimension = SIZES[1]
    rows.append(compare(count, dimension, 4 * dimension * count // 3))
    for row in rows:
        print(json.dumps(row))
    if options.json is not None:
        content = {"machine": machine(), "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if all(map(same, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
