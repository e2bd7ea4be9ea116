"""How long and how much memory one re-clustering takes: exact sparse against the dense algorithm, and at large N.

    python tests/benchmarks/clustering.py --json clustering.json                      compare at 12,936, then 100,000
    python tests/benchmarks/clustering.py --compare 0 --large 1000000 --dimension 128 --search inverted_lists

The crops are made up: 20 per identity, six cameras with a shift each, 24 latent dimensions rotated into D. Their
graph is as dense as that of real person crops before adaptation (OSNet x0.25 on 6,094 Market-1501 crops: 60 entries
per row of V, 6 pairs per crop at eps 0.6, 2,300 min-sum steps per crop; here 74, 8 and 3,000 at 13,000 crops).

Every case runs in a process of its own. Memory is the peak of the resident set above what the process held when the
stage began (features, and neighbour lists where they are an input). Times are without compilation, which a small run
does before.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

K1, K2, EPS, MIN_SAMPLES = 30, 6, 0.6, 4
CANDIDATES = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
PER_IDENTITY, CAMERAS, LATENT = 20, 6, 24
MEBIBYTE = 2**20


def make_crops(count: int, dimension: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows (N, D) float32 and identities (N,) int64."""
    generator = np.random.default_rng(seed)
    identities = generator.integers(0, max(1, count // PER_IDENTITY), count)
    centres = generator.standard_normal((identities.max() + 1, LATENT), dtype=np.float32)
    shifts = generator.standard_normal((CAMERAS, LATENT), dtype=np.float32)
    latent = centres[identities]
    latent += 0.3 * shifts[generator.integers(0, CAMERAS, count)]
    latent += 0.6 * generator.standard_normal((count, LATENT), dtype=np.float32)
    latent /= np.linalg.norm(latent, axis=1, keepdims=True)
    rotation = np.linalg.qr(generator.standard_normal((dimension, LATENT)))[0].T.astype(np.float32)
    return latent @ rotation, identities


def resident_bytes(field: str) -> int:
    """VmRSS or VmHWM (the peak) of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1])


def measured(stage: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What the stage returns, its seconds on the clock and of all cores together, and the peak of its memory."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier stages freed must not hide what this one needs
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again at the present value
    before, begin, spent = resident_bytes("VmRSS"), time.perf_counter(), time.process_time()
    result = stage()
    seconds, core_seconds = time.perf_counter() - begin, time.process_time() - spent
    peak = (resident_bytes("VmHWM") - before) / MEBIBYTE
    return result, {
        "seconds": round(seconds, 3), "core_seconds": round(core_seconds, 3), "mebibytes": round(peak, 1)
    }  # fmt: skip


def together(stages: list[dict[str, float]], held_mebibytes: float = 0.0) -> dict[str, float]:
    """Stages one after another; what the first left behind is held during the others."""
    return {
        "seconds": round(sum(stage["seconds"] for stage in stages), 3),
        "core_seconds": round(sum(stage["core_seconds"] for stage in stages), 3),
        "mebibytes": max(stages[0]["mebibytes"], *(stage["mebibytes"] + held_mebibytes for stage in stages[1:])),
    }


def dense_labels(features: np.ndarray, neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The algorithm of the public trainers: dense float32 N×N, a Python loop over the crops. Labels and distances."""
    from sklearn.cluster import DBSCAN

    count, half = len(features), round(K1 / 2) + 1
    reciprocal = [_mutual(neighbours, row, K1) for row in range(count)]
    closest = [_mutual(neighbours, row, half) for row in range(count)]
    weights = np.zeros((count, count), np.float32)
    for row in range(count):
        members = [reciprocal[row]]
        for other in reciprocal[row]:
            if len(np.intersect1d(closest[other], reciprocal[row])) > 2 / 3 * len(closest[other]):
                members.append(closest[other])
        expanded = np.unique(np.concatenate(members))
        closeness = np.exp(2 * features[expanded] @ features[row] - 2)
        weights[row, expanded] = closeness / closeness.sum()
    averaged = np.zeros_like(weights)
    for row in range(count):
        averaged[row] = weights[neighbours[row, :K2]].mean(axis=0)
    del weights
    holders = [np.flatnonzero(averaged[:, column]) for column in range(count)]
    distances = np.zeros((count, count), np.float32)
    for row in range(count):
        shared = np.zeros(count, np.float32)
        for column in np.flatnonzero(averaged[row]):
            shared[holders[column]] += np.minimum(averaged[row, column], averaged[holders[column], column])
        distances[row] = 1 - shared / (2 - shared)
    del averaged
    np.maximum(distances, 0, out=distances)
    return DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="precomputed").fit_predict(distances), distances


def _mutual(neighbours: np.ndarray, row: int, width: int) -> np.ndarray:
    forward = neighbours[row, :width]
    return forward[(neighbours[forward, :width] == row).any(axis=1)]


def largest_difference(graph: Any, distances: np.ndarray) -> float:
    """Between the pairs that the graph keeps and the dense matrix."""
    rows = np.repeat(np.arange(len(graph)), np.diff(graph.half.starts))
    return float(np.abs(distances[rows, graph.half.columns] - graph.half.values).max())


def compare(count: int, dimension: int, seed: int) -> dict[str, Any]:
    """Dense against sparse on the same features and the same neighbour lists."""
    from trainer.clustering.dbscan import dbscan
    from trainer.clustering.knn import nearest

    features, _ = make_crops(count, dimension, seed)
    neighbours, search = measured(lambda: nearest(features, K1))
    graph, jaccard = measured(lambda: sparse_graph(features, neighbours))
    labels, clustering = measured(lambda: dbscan(graph, dbscan_settings()))
    (dense, distances), slow = measured(lambda: dense_labels(features, neighbours))
    fast = together([jaccard, clustering], graph.half.nbytes / MEBIBYTE)
    return {
        "crops": count, "dimension": dimension, "neighbours": search, "sparse": fast, "dense": slow,
        "times_faster": round(slow["seconds"] / fast["seconds"], 1),
        "times_fewer_core_seconds": round(slow["core_seconds"] / fast["core_seconds"], 1),
        "memory_share": round(fast["mebibytes"] / slow["mebibytes"], 3),
        "labels_identical": bool(np.array_equal(labels, dense)),
        "largest_difference": largest_difference(graph, distances),
        "clusters": int(labels.max()) + 1,
    }  # fmt: skip


def large(count: int, dimension: int, seed: int, search: str) -> dict[str, Any]:
    """Sparse only, stage by stage, with the fixed eps and with the chosen one."""
    from trainer.clustering.dbscan import dbscan
    from trainer.clustering.knn import NeighbourSettings, nearest
    from trainer.clustering.quality import adjusted_rand, choose_eps

    features, identities = make_crops(count, dimension, seed)
    neighbours, found = measured(lambda: nearest(features, K1, NeighbourSettings(search=search)))
    graph, jaccard = measured(lambda: sparse_graph(features, neighbours))
    labels, clustering = measured(lambda: dbscan(graph, dbscan_settings()))
    choice, choosing = measured(lambda: choose_eps(graph, CANDIDATES, MIN_SAMPLES))
    return {
        "crops": count, "dimension": dimension, "search": search,
        "features_mebibytes": round(features.nbytes / MEBIBYTE, 1),
        "neighbours": found, "jaccard": jaccard, "dbscan": clustering,
        "jaccard_and_dbscan": together([jaccard, clustering], graph.half.nbytes / MEBIBYTE),
        "kept_pairs": len(graph.half.columns),
        "fixed_eps": {
            "eps": EPS, "clusters": int(labels.max()) + 1, "adjusted_rand": adjusted_rand(labels, identities),
        },
        "chosen_eps": {
            "eps": choice.eps, "clusters": int(choice.labels.max()) + 1,
            "adjusted_rand": adjusted_rand(choice.labels, identities), **choosing,
        },
    }  # fmt: skip


def sparse_graph(features: np.ndarray, neighbours: np.ndarray) -> Any:
    from trainer.clustering.jaccard import JaccardSettings, jaccard_graph

    return jaccard_graph(features, neighbours, JaccardSettings(k1=K1, k2=K2), EPS)


def dbscan_settings() -> Any:
    from trainer.clustering.dbscan import DbscanSettings

    return DbscanSettings(eps=EPS, min_samples=MIN_SAMPLES)


def alone(case: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run a case in a fresh process, after a small run that compiles."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(compare, (600, 32, 0))
        pool.apply(large, (600, 32, 0, "exact"))
        result = pool.apply(case, arguments)
    print(json.dumps(result, indent=2), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark of the re-clustering.")
    parser.add_argument("--compare", type=int, default=12_936, help="crops for dense against sparse; 0 = leave out")
    parser.add_argument("--large", type=int, nargs="*", default=[100_000], help="crops for the sparse algorithm alone")
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--search", choices=("exact", "inverted_lists"), default="exact", help="neighbours of --large")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here")
    chosen = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    results: dict[str, Any] = {"cores": cores, "python": platform.python_version(), "load_before": os.getloadavg()}
    if chosen.compare:
        results["compare"] = alone(compare, chosen.compare, chosen.dimension, chosen.seed)
    results["large"] = [alone(large, count, chosen.dimension, chosen.seed, chosen.search) for count in chosen.large]
    results["load_after"] = os.getloadavg()
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
