"""Is this engine the network that was tested? A bundle's golden crops through whatever runs here, or no run at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.golden import Golden
from edge_app.contract.preprocess import InputSpec, preprocess
from edge_app.errors import ModelError
from edge_app.runtime.engine import Engine

_TIMED_RUNS = 3
COLLAPSED = 0.99  # two pictures of one vehicle are rarely so similar; of different ones never in a network that works


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """What the golden crops said."""

    crops: int
    cosine_min: float  # between the embeddings made here and the bundle's
    cosine_median: float
    crop_s: float  # median of a few warm runs of the whole batch, per crop

    def __str__(self) -> str:
        return (
            f"{self.crops} golden crops, cosine at least {self.cosine_min:.4f} (median {self.cosine_median:.4f}), "
            f"{1000 * self.crop_s:.1f} ms a crop"
        )


def self_check(
    engine: Engine,
    spec: InputSpec,
    golden: Golden,
    max_crop_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> SelfCheck:
    """Run the first golden crop alone and all of them together. Raises `ModelError` when an embedding is not the
    expected one within the bundle's tolerance, or a crop takes longer than `max_crop_s` on average."""
    batch, cosines = check_golden(engine, spec, golden)
    seconds = []
    for _ in range(_TIMED_RUNS):
        begin = clock()
        engine.run(batch)
        seconds.append(clock() - begin)
    crop_s = float(np.median(seconds)) / len(batch)
    if crop_s > max_crop_s:
        raise ModelError(
            f"{engine.name} is too slow here: {1000 * crop_s:.1f} ms a crop, at most {1000 * max_crop_s:.1f} ms are "
            "allowed; take a smaller model or another engine, or raise bundles.max_crop_s"
        )
    return SelfCheck(len(batch), float(cosines.min()), float(np.median(cosines[1:])), crop_s)


def check_golden(engine: Engine, spec: InputSpec, golden: Golden) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The golden crops as one batch (N, 3, h, w), and 1 + N cosines with the expected rows: of the first crop alone,
    and of all together. Raises `ModelError` when one is too small, or all crops give the same."""
    differ = bool((golden.crops != golden.crops[0]).any())  # else equal embeddings are right
    if differ and collapsed(golden.rows):
        raise ModelError(
            f"the bundle's embedder has collapsed: its {len(golden.rows)} golden embeddings are all the same (cosine "
            f"{least_cosine(golden.rows):.4f} and more), so it cannot tell one vehicle from another; train it again"
        )
    batch = np.stack([preprocess(crop, spec) for crop in golden.crops]).astype(engine.inputs[0].dtype)
    rows = np.concatenate([_rows(engine, batch[:1], golden.rows[:1]), _rows(engine, batch, golden.rows)])
    expected = np.concatenate([golden.rows[:1], golden.rows])
    cosines: NDArray[np.float64] = (rows * expected).sum(axis=1)
    wrong = np.flatnonzero(~(cosines >= golden.min_cosine))  # not `<`: what is no number is wrong too
    if len(wrong):
        which = "crop 1 in a batch of its own" if wrong[0] == 0 else f"crop {wrong[0]}"
        raise ModelError(
            f"{engine.name} is not the network of the bundle: {len(wrong)} of {len(cosines)} golden embeddings are "
            f"wrong; {which} has the cosine {cosines[wrong[0]]:.4f} with the expected one, needed is "
            f"{golden.min_cosine}; build the engine again, or run the bundle with ONNX Runtime"
        )
    if differ and collapsed(rows[1:]):
        raise ModelError(
            f"{engine.name} gives the same embedding for all {len(batch)} golden crops (cosine "
            f"{least_cosine(rows[1:]):.4f} and more): the network has collapsed; train it again"
        )
    return batch, cosines


def least_cosine(rows: NDArray[Any]) -> float:
    """(N, D) unit rows → the smallest cosine of any two."""
    return float((rows.astype(np.float64) @ rows.T.astype(np.float64)).min())


def collapsed(rows: NDArray[Any]) -> bool:
    """Whether unit rows of different pictures are all the same, so that they tell nothing apart. Of one nothing can be
    said, nor of rows that are no numbers."""
    return len(rows) > 1 and least_cosine(rows) >= COLLAPSED


def _rows(engine: Engine, batch: NDArray[Any], expected: NDArray[np.float32]) -> NDArray[np.float64]:
    """(B, D) float64 unit rows that the engine makes; nan where one has no direction."""
    outputs = engine.run(batch)
    if len(outputs) != 1 or outputs[0].size != expected.size:
        found = ", ".join(str(output.shape) for output in outputs)
        raise ModelError(f"{engine.name} is not the network of the bundle: it makes {found}, not {expected.shape}")
    rows = outputs[0].reshape(expected.shape).astype(np.float64)
    with np.errstate(all="ignore"):
        unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
