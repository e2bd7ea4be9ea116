"""Sheets of crops: contact sheets, ranked lists, clusters, outliers. PNG files, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.images import read_image
from trainer.data.records import Crops, Labelled, spread
from trainer.errors import DataError, WorldError

TILE_WIDTH_PX, TILE_HEIGHT_PX, CAPTION_PX, FRAME_PX = 64, 128, 14, 3
RIGHT, WRONG, PLAIN = (60, 160, 60), (50, 50, 210), (170, 170, 170)  # BGR
RANKS = 10
Pixels = NDArray[np.uint8]


def write_picture(path: Path, picture: Pixels) -> None:
    """Write a PNG; `WorldError` when the disk refuses."""
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise WorldError(f"{path}: the picture could not be encoded")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise WorldError(f"{path} cannot be written: {error.strerror or error}") from error


def contact_sheet(
    paths: Sequence[Path], captions: Sequence[str], per_row: int, frames: Sequence[tuple[int, int, int]] | None = None
) -> Pixels:
    """The crops in a grid, row by row, each with a caption below and a coloured frame. (H, W, 3) uint8 BGR."""
    frames = frames if frames is not None else [PLAIN] * len(paths)
    tiles = [_tile(*item) for item in zip(paths, captions, frames, strict=True)]
    if not tiles:
        return np.full((TILE_HEIGHT_PX, TILE_WIDTH_PX, 3), 255, np.uint8)
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % per_row)
    rows = [np.concatenate(tiles[first : first + per_row], axis=1) for first in range(0, len(tiles), per_row)]
    return np.concatenate(rows, axis=0)


def ranked_lists(
    query: Labelled,
    gallery: Labelled,
    features: tuple[NDArray[np.float32], NDArray[np.float32]],
    rows: NDArray[np.int64],
) -> Pixels:
    """One line per query in `rows`: the query, then its ten nearest gallery crops, green where right and red where
    wrong.

    Crops of the query's own identity and camera are left out, as in the evaluation.
    """
    paths: list[Path] = []
    captions: list[str] = []
    frames: list[tuple[int, int, int]] = []
    for row in rows:
        similarity = features[1] @ features[0][row]
        same = gallery.identities == query.identities[row]
        camera = query.crops.cameras[row]
        junk = same & (gallery.crops.cameras == camera) & (camera >= 0)
        order = np.argsort(-np.where(junk, -2, similarity), kind="stable")[:RANKS]
        paths += [query.crops.paths[row], *(gallery.crops.paths[place] for place in order)]
        captions += [
            f"query c{camera}",
            *(f"{similarity[place]:.2f} c{gallery.crops.cameras[place]}" for place in order),
        ]
        frames += [PLAIN, *(RIGHT if same[place] else WRONG for place in order)]
        paths, captions, frames = _filled(paths, captions, frames, RANKS + 1)
    return contact_sheet(paths, captions, RANKS + 1, frames)


def cluster_sheet(crops: Crops, labels: NDArray[np.int64], chosen: NDArray[np.int64], per_row: int = 16) -> Pixels:
    """One line per chosen cluster: up to `per_row` of its crops, spread evenly, with their cameras."""
    paths: list[Path] = []
    captions: list[str] = []
    frames: list[tuple[int, int, int]] = []
    for cluster in chosen:
        members = np.flatnonzero(labels == cluster)
        shown = members[spread(len(members), per_row)]
        paths += [crops.paths[row] for row in shown]
        captions += [f"{cluster}/{len(members)} c{crops.cameras[row]}" for row in shown]
        frames += [PLAIN] * len(shown)
        paths, captions, frames = _filled(paths, captions, frames, per_row)
    return contact_sheet(paths, captions, per_row, frames)


def outlier_sheet(crops: Crops, labels: NDArray[np.int64], limit: int = 96, per_row: int = 16) -> Pixels:
    """Crops that belong to no cluster, spread evenly over all of them."""
    outliers = np.flatnonzero(labels < 0)
    shown = outliers[spread(len(outliers), limit)]
    return contact_sheet([crops.paths[row] for row in shown], [f"c{crops.cameras[row]}" for row in shown], per_row)


def notable_clusters(
    labels: NDArray[np.int64], cameras: NDArray[np.int64], count: int = 8
) -> dict[str, NDArray[np.int64]]:
    """Clusters worth a look: the largest, and those with the most cameras."""
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    pairs = np.unique(np.stack([labels[labels >= 0], cameras[labels >= 0]]), axis=1)
    mix = np.bincount(pairs[0], minlength=len(sizes))
    return {
        "largest": np.argsort(-sizes, kind="stable")[:count],
        "most_cameras": np.lexsort((-sizes, -mix))[:count],
    }


def _filled(
    paths: list[Path], captions: list[str], frames: list[Any], per_row: int
) -> tuple[list[Path], list[str], list[Any]]:
    """Fill the last line with empty tiles."""
    missing = -len(paths) % per_row
    return paths + [Path()] * missing, captions + [""] * missing, frames + [(255, 255, 255)] * missing


def _tile(path: Path, caption: str, frame: tuple[int, int, int]) -> Pixels:
    """One crop in its frame, stretched to the tile; an unreadable one is white."""
    try:
        picture = cv2.resize(read_image(path), (TILE_WIDTH_PX, TILE_HEIGHT_PX), interpolation=cv2.INTER_AREA)
    except DataError:
        picture = np.full((TILE_HEIGHT_PX, TILE_WIDTH_PX, 3), 255, np.uint8)
    framed = cv2.copyMakeBorder(picture, FRAME_PX, FRAME_PX, FRAME_PX, FRAME_PX, cv2.BORDER_CONSTANT, value=frame)
    below = np.full((CAPTION_PX, framed.shape[1], 3), 255, np.uint8)
    cv2.putText(below, caption, (1, CAPTION_PX - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([framed, below])
