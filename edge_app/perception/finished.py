"""A finished track → its `Tracklet`: which of its looks are kept, how it moved, where it came in and went out. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_app.perception.area import standing
from edge_app.perception.hidden import HiddenSettings
from edge_app.perception.open_track import OpenTrack
from edge_app.settings import Polygon, Settings
from edge_app.types import Floats, Tracklet

Motion = tuple[float, float]  # to the right and down, pixels


class Zone(Settings):
    """A named area of a camera's picture."""

    polygon: Polygon
    """Corners x, y as shares of the frame's width and height, 0 to 1."""


class TrackletSettings(Settings):
    """What becomes of a finished track."""

    minimum_observations: int = Field(default=4, ge=1)
    """Shorter tracks are noise: dropped and counted."""
    minimum_duration_s: float = Field(default=0.3, ge=0)
    """Briefer tracks are noise: dropped and counted."""
    maximum_embeddings: int = Field(default=8, ge=1, le=8)
    """Embeddings kept per tracklet."""
    maximum_path: int = Field(default=64, ge=2)
    """Points kept of a tracklet's path."""
    edge_margin: float = Field(default=0.06, ge=0, lt=0.5)
    """A track begins or ends at a frame edge when its box comes this close, as a share of the frame's side."""
    moved: float = Field(default=0.25, gt=0)
    """An object moved when it went this share of its box's diagonal; else it has no heading."""
    minimum_time_sigma_s: float = Field(default=0.05, gt=0)
    """Least standard deviation of entry and exit times."""
    pieces: bool = True
    """Two tracks of one object, at the same time or one right after the other, are one passage."""
    hidden: HiddenSettings = HiddenSettings()
    """Vehicles that stand still and are hidden for a while."""


def finished(
    track: OpenTrack, class_name: str, node: str, zones: Mapping[str, Zone], settings: TrackletSettings
) -> Tracklet:
    """`zones`: of its camera, by name. `track.embedder` is given, whether it was looked at or not."""
    assert track.embedder is not None
    path = track.rows
    if path[-1, 0] < track.last[0]:
        path = np.concatenate([path, [track.last]])
    if len(path) > settings.maximum_path:
        path = path[np.linspace(0, len(path) - 1, settings.maximum_path).round().astype(int)]
    move = displacement(path[:, 1:])
    spacing = (track.last[0] - track.first[0] - track.hidden_s) / max(track.count - 1, 1)
    version, dimension = track.embedder
    rows = diverse(track.embeddings, track.qualities, settings.maximum_embeddings)
    embeddings = [track.embeddings[row] for row in rows]
    diagonal = float(np.median(np.hypot(path[:, 3] - path[:, 1], path[:, 4] - path[:, 2])))
    moved = math.hypot(*move) >= settings.moved * diagonal
    return Tracklet(
        id=track.passage,
        node=node,
        camera=track.camera,
        class_name=class_name,
        entry_time_s=track.first[0],
        exit_time_s=track.last[0],
        # an object appears at any moment between two frames: uniform, so one spacing/√12
        time_sigma_s=max(spacing / math.sqrt(12), settings.minimum_time_sigma_s),
        entry_zone=_zone(zones, settings, track, track.first[1:], (-move[0], -move[1])),
        exit_zone=_zone(zones, settings, track, track.last[1:], move),
        heading_rad=math.atan2(move[1], move[0]) if moved else math.nan,
        embeddings=np.array(embeddings, np.float32).reshape(len(rows), dimension),
        qualities=np.array([track.qualities[row] for row in rows], np.float32),
        embedding_version=version,
        path_times_s=path[:, 0].copy(),
        path_boxes=path[:, 1:].astype(np.float32),
        frame_px=track.size,
    )


def _zone(
    zones: Mapping[str, Zone], settings: TrackletSettings, track: OpenTrack, box: tuple[float, ...], outwards: Motion
) -> str:
    """The first zone that holds the box's foot, else the frame edge."""
    width, height = track.size
    foot = np.array([((box[0] + box[2]) / 2 / width, box[3] / height)])
    for name, zone in zones.items():
        if standing(zone.polygon, foot)[0]:
            return name
    return frame_edge(box, track.size, outwards, settings.edge_margin)


def diverse(embeddings: list[Floats], qualities: list[float], most: int) -> list[int]:
    """At most `most` rows, best first: good looks that differ from each other.

    Greedy: the best view first, then always the one with the largest quality · distance to the nearest chosen one
    (1 − cosine, plus 0.05 so that quality decides among equals). Views below half the best quality are taken only when
    nothing else is there: a half-hidden view looks different without telling anything. O(most · M · D); ties go to the
    earlier view.
    """
    if not embeddings:
        return []
    rows, quality = np.stack(embeddings).astype(np.float64), np.array(qualities)
    usable = quality >= quality.max() / 2
    chosen = [int(quality.argmax())]
    nearest = rows @ rows[chosen[0]]  # (M,) cosine to the nearest chosen view
    for _ in range(min(most, int(usable.sum())) - 1):
        gain = np.where(usable, quality * (1.05 - np.clip(nearest, -1, 1)), -1.0)
        gain[chosen] = -1.0
        chosen.append(int(gain.argmax()))
        nearest = np.maximum(nearest, rows @ rows[chosen[-1]])
    return chosen


def displacement(boxes: NDArray[np.float64]) -> tuple[float, float]:
    """(T, 4) → how far the centre went in x and y, between the means of the first and the last tenth of the path."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    share = max(len(centres) // 10, 1)
    x, y = centres[-share:].mean(axis=0) - centres[:share].mean(axis=0)
    return float(x), float(y)


def frame_edge(box: tuple[float, ...], size: tuple[int, int], outwards: tuple[float, float], margin: float) -> str:
    """left | right | top | bottom where the box comes within `margin` of that edge, else inside.

    Where several edges are that close, the one that the motion `outwards` (x, y) points to most; without motion the
    closest.
    """
    width, height = size
    gaps = {"left": box[0] / width, "right": 1 - box[2] / width, "top": box[1] / height, "bottom": 1 - box[3] / height}
    pull = {"left": -outwards[0], "right": outwards[0], "top": -outwards[1], "bottom": outwards[1]}
    close = [edge for edge, gap in gaps.items() if gap <= margin]
    return max(close, key=lambda edge: (pull[edge], -gaps[edge])) if close else "inside"
