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
    batch = np.stack([preprocess(crop, spec) for crop in golden.crops]).astype(engine.inputs[0].dtype)
    alone = _cosines(engine, batch[:1], golden.rows[:1])
    together = _cosines(engine, batch, golden.rows)
    cosines = np.concatenate([alone, together])
    wrong = np.flatnonzero(~(cosines >= golden.min_cosine))  # not `<`: what is no number is wrong too
    if len(wrong):
        which = "crop 1 in a batch of its own" if wrong[0] == 0 else f"crop {wrong[0]}"
        raise ModelError(
            f"{engine.name} is not the network of the bundle: {len(wrong)} of {len(cosines)} golden embeddings are "
            f"wrong; {which} has the cosine {cosines[wrong[0]]:.4f} with the expected one, needed is "
            f"{golden.min_cosine}; build the engine again, or run the bundle with ONNX Runtime"
        )
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
    return SelfCheck(len(batch), float(cosines.min()), float(np.median(together)), crop_s)


def _cosines(engine: Engine, batch: NDArray[Any], expected: NDArray[np.float32]) -> NDArray[np.float64]:
    """(B,) float64 cosines between the engine's rows, of any length, and the expected unit rows."""
    outputs = engine.run(batch)
    if len(outputs) != 1 or outputs[0].size != expected.size:
        found = ", ".join(str(output.shape) for output in outputs)
        raise ModelError(f"{engine.name} is not the network of the bundle: it makes {found}, not {expected.shape}")
    rows = outputs[0].reshape(expected.shape).astype(np.float64)
    with np.errstate(all="ignore"):  # what has no direction gives no number, which is refused
        cosines: NDArray[np.float64] = (rows * expected).sum(axis=1) / np.linalg.norm(rows, axis=1)
    return cosines
