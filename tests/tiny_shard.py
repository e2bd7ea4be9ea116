"""Crops for tests: small pictures of one colour, with everything that a record says."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from edge_app.contract.crop import Crop, CropRecord, Verdict

MATCHED = Verdict(
    state="matched", camera="west", passage="edge-1/west/a1b2c3.7/5", posterior=0.75, runner_up=0.125, similarity=0.5
)


def jpeg(seed: int = 0, width: int = 24, height: int = 32) -> bytes:
    image = np.full((height, width, 3), np.random.default_rng(seed).integers(0, 256, 3), np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def embedding(seed: int = 0, dimension: int = 16) -> np.ndarray:
    row = np.random.default_rng(seed).normal(size=dimension)
    return (row / np.linalg.norm(row)).astype(np.float16)


def record(track: int = 0, number: int = 0, camera: str = "east", **changes: Any) -> CropRecord:
    values = {
        "site": "town",
        "node": "edge-1",
        "camera": camera,
        "passage": f"edge-1/{camera}/a1b2c3.7/{track}",
        "number": number,
        "class_name": "car",
        "captured_at_s": 1_700_000_000.0 + track + number,
        "box": (10.0, 20.0, 34.0, 52.0),
        "frame_px": (640, 360),
        "score": 0.875,
        "quality": 0.5,
        "embedding_version": "demo-1",
        "entered_at_s": 1_700_000_000.0 + track,
        "left_at_s": 1_700_000_010.0 + track,
        "views": 5,
    }
    return CropRecord(**{**values, **changes})


def crop(track: int = 0, number: int = 0, camera: str = "east", **changes: Any) -> Crop:
    """Any field of the record can be given."""
    seed = 100 * track + number
    return Crop(record(track, number, camera, **changes), jpeg(seed), embedding(seed))
