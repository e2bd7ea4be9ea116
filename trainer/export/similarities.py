"""What a bundle says of its embedder's similarities, from pairs that are certain without a label.

Which pairs, and what is compared: `edge_app.contract.similarity`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.bundle_manifest import Similarities, Spread
from edge_app.contract.similarity import Track, certain, debiased
from trainer.data.records import Crops


def certain_similarities(crops: Crops, rows: NDArray[np.float32]) -> Similarities:
    """The statistics over (N, D) float32 unit rows of N crops. Null, with the reason, where tracks or times are missing
    or too few crops show one."""
    tracks = tracks_of(crops, rows)
    if not tracks:
        return Similarities(genuine=None, impostor=None, not_known="not known: the crops have no tracks with times")
    pairs = certain(debiased(tracks))
    genuine, impostor = _spread(pairs.genuine), _spread(pairs.impostor)
    missing = []
    if genuine is None:
        missing.append("no track has three crops")
    if impostor is None:
        missing.append("no camera saw two tracks of three crops at once")
    return Similarities(
        genuine=genuine, impostor=impostor, not_known=f"not known: {'; '.join(missing)}" * bool(missing)
    )


def tracks_of(crops: Crops, rows: NDArray[np.float32]) -> list[Track]:
    """The tracks of crops whose camera, time and track are known, their rows in order of time. O(N log N)."""
    known = np.flatnonzero((crops.tracklets >= 0) & (crops.cameras >= 0) & np.isfinite(crops.times_s))
    known = known[np.lexsort((crops.times_s[known], crops.tracklets[known]))]
    groups = np.split(known, np.flatnonzero(np.diff(crops.tracklets[known])) + 1) if len(known) else []
    return [
        Track(
            str(crops.cameras[group[0]]),
            float(crops.times_s[group[0]]),
            float(crops.times_s[group[-1]]),
            rows[group],
        )
        for group in groups
    ]


def _spread(values: NDArray[np.float64]) -> Spread | None:
    if not len(values):
        return None
    p01, p99 = np.percentile(values, (1, 99))
    return Spread(pairs=len(values), mean=float(values.mean()), std=float(values.std()), p01=float(p01), p99=float(p99))
