"""What the tracker's library keeps in private, as values for JSON: its fields are named here and nowhere else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_STATE = 8  # of a track's Kalman filter: the corners of its box, and how fast each moves
_COUNTS = ("tracker_id", "age", "time_since_update", "number_of_successful_consecutive_updates")


def library_state(library: Any) -> dict[str, Any]:
    return {
        "next_id": library._next_track_id,
        "last_s": library._last_timestamp,
        "tracks": [
            {
                **{name: int(getattr(track, name)) for name in _COUNTS},
                "unseen_s": float(track.time_since_update_seconds),
                "state": track.state_estimator.kf.state.ravel().tolist(),
                "covariance": track.state_estimator.kf.state_covariance.ravel().tolist(),
            }
            for track in library.tracks
        ],
    }


def set_library_state(library: Any, stored: dict[str, Any]) -> None:
    """A fresh library becomes the one that `stored` describes. Noise and motion follow from its settings."""
    from trackers.core.bytetrack.tracklet import ByteTrackTracklet

    library._next_track_id, library._last_timestamp = int(stored["next_id"]), time_of(stored["last_s"])
    for values in stored["tracks"]:
        state = np.array(values["state"], np.float64).reshape(_STATE, 1)
        covariance = np.array(values["covariance"], np.float64).reshape(_STATE, _STATE)
        if not (np.isfinite(state).all() and np.isfinite(covariance).all()):
            raise ValueError("a track that is nowhere")
        track = ByteTrackTracklet(state[:4, 0], library.state_estimator_class)
        for name in _COUNTS:
            setattr(track, name, int(values[name]))
        track.time_since_update_seconds = time_of(values["unseen_s"]) or 0.0
        track.state_estimator.kf.state, track.state_estimator.kf.state_covariance = state, covariance
        library.tracks.append(track)


def time_of(stored: float | None) -> float | None:
    if stored is not None and not math.isfinite(stored):
        raise ValueError(f"a time of {stored}")
    return None if stored is None else float(stored)
