"""What an embedder makes of a few pictures unlike each other: nothing, the same each time, or what tells them apart."""

from __future__ import annotations

import numpy as np

from edge_app.errors import ModelError
from edge_app.perception.embed import OnnxEmbedder
from edge_app.runtime.selfcheck import least_cosine
from edge_app.types import Image

IDENTICAL = 0.9999  # these pictures are no vehicles: a sound network may find them alike, but never the same


def examine(embedder: OnnxEmbedder) -> tuple[str, ...]:
    """The names of the pictures that it makes no embedding of. Raises `ModelError` when those are all, or when it makes
    the same of all others."""
    pictures = sample_pictures()
    rows = embedder.embed_crops(list(pictures.values()))
    seen = {name: row for name, row in zip(pictures, rows, strict=True) if np.isfinite(row).all()}
    if not seen:
        raise ModelError(
            f"{embedder.where}: the embeddings of all {len(rows)} test pictures are zero or not finite; the model or "
            "its engine is damaged or does not suit this input"
        )
    least = least_cosine(np.stack(list(seen.values())))
    if len(seen) > 1 and least >= IDENTICAL:
        raise ModelError(
            f"{embedder.where}: the embedder has collapsed: it gives the same for {', '.join(seen)} (cosine "
            f"{least:.6f} and more), so it cannot tell one vehicle from another; train it again"
        )
    return tuple(name for name in pictures if name not in seen)


def sample_pictures() -> dict[str, Image]:
    """Name → (64, 96, 3) uint8 BGR: unlike each other in colour, light and texture, and the same each time."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    stripes = np.zeros((64, 96, 3), np.uint8)
    stripes[:, ::8], stripes[:, 1::8] = (30, 200, 90), (200, 40, 160)
    plain = {"black": (0, 0, 0), "white": (255, 255, 255), "blue": (200, 60, 20), "red": (20, 40, 190)}
    flat = {name: np.full((64, 96, 3), colour, np.uint8) for name, colour in plain.items()}
    return {**flat, "noise": noise, "stripes": stripes}
