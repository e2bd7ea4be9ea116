"""How well the demo's embedder tells unseen simulated vehicles apart, camera against camera."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from demo_embedder import INPUT, TEST_SEEDS, as_input, collect


def check_embedder(path: Path, difficulty: float = 0.5) -> dict[str, object]:
    """Rank 1 between cameras on worlds that the training never saw, and the cosines of equal and different looks.

    Each passage is the mean of its views. A query is a passage whose vehicle is on another camera too; its gallery
    are all passages of other cameras in its world. `rank1_look`: the nearest has the same look (all that can be
    seen); `rank1_vehicle`: it is the very vehicle.
    """
    import onnxruntime as ort

    crops = collect(TEST_SEEDS, difficulty)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts, spent = [], []
    for start in range(0, len(crops.looks), 8):
        batch = as_input(crops.pixels[start : start + 8]).numpy()
        begin = time.perf_counter()
        parts.append(session.run(None, {name: batch})[0])
        spent.append((time.perf_counter() - begin) / len(batch))
    rows = np.concatenate(parts)
    keys = sorted(set(crops.passages))
    number = {key: index for index, key in enumerate(keys)}
    member = np.array([number[key] for key in crops.passages])
    means = np.stack([rows[member == index].mean(0) for index in range(len(keys))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    look_of = {key: look.key for key, look in zip(crops.passages, crops.looks, strict=True)}
    seed, vehicle, camera = (np.array([key[part] for key in keys]) for part in (0, 1, 2))
    looks = np.array([hash(look_of[key]) for key in keys])
    cosine = means @ means.T
    other = (camera[:, None] != camera[None]) & (seed[:, None] == seed[None])
    same_look = looks[:, None] == looks[None]
    same_vehicle = vehicle[:, None] == vehicle[None]
    queries = np.flatnonzero((other & same_vehicle).any(1))
    nearest = np.where(other, cosine, -2.0)[queries].argmax(1)
    percentiles = [1, 10, 50, 90, 99]
    upper = other & np.triu(np.ones_like(other), 1)
    return {
        "queries": len(queries),
        "rank1_look": round(float(same_look[queries, nearest].mean()), 4),
        "rank1_vehicle": round(float(same_vehicle[queries, nearest].mean()), 4),
        "cosine_percentiles": percentiles,
        "same_look": np.percentile(cosine[upper & same_look], percentiles).round(3).tolist(),
        "different_look": np.percentile(cosine[upper & ~same_look], percentiles).round(3).tolist(),
        "inference_ms_per_crop": round(float(np.median(spent)) * 1e3, 3),
        "input": f"{INPUT.width_px}x{INPUT.height_px}",
        "bytes": path.stat().st_size,
    }
