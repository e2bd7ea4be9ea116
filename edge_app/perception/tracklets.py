"""A finished track → one `Tracklet`: what the association may know about one passage of one camera.

Kept per open track: its path (thinned as it grows), score-weighted votes for its class, and its embeddings. Nothing
here reads a clock, a file or a random number, and `snapshot` followed by `restore` continues bit for bit.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_app.errors import StoreError
from edge_app.perception.area import standing
from edge_app.settings import Polygon, Settings
from edge_app.store.parts import sealed, unsealed
from edge_app.types import Floats, Frame, Tracklet, Tracks, View

_FORMAT = "crosslane.tracklets/2"
_ROW = 5  # time, x1, y1, x2, y2
_STORED = 32  # embeddings kept of an open track; the weakest gives way


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


@dataclass(slots=True)
class _Open:
    """A track that has not ended."""

    camera: str
    size: tuple[int, int]  # frame width and height
    first: tuple[float, ...]  # time and box
    last: tuple[float, ...]
    count: int = 0
    votes: dict[str, float] = field(default_factory=dict)
    stride: int = 1  # every stride-th observation is in the path
    path: array[float] = field(default_factory=lambda: array("d"))  # rows of time, x1, y1, x2, y2
    qualities: list[float] = field(default_factory=list)
    embeddings: list[Floats] = field(default_factory=list)  # (D,) float32 unit vectors
    embedder: tuple[str, int] | None = None  # version and dimension of all of them; None before the first


class TrackletBuilder:
    """Collects what is seen of open tracks and closes them to tracklets."""

    def __init__(
        self,
        node: str,
        class_names: tuple[str, ...],
        zones: Mapping[str, Mapping[str, Zone]],
        settings: TrackletSettings,
    ) -> None:
        """`zones`: camera → zone name → area. Call `use_embedder` before the first `add_views`."""
        self._node, self._class_names, self._zones, self._settings = node, class_names, zones, settings
        self._open: dict[str, _Open] = {}
        self._embedder = ("none", 0)
        self.dropped = 0  # tracks that were too short, since the start

    def use_embedder(self, version: str, dimension: int) -> None:
        """Views are embedded by this version from now on. A track that has views of another one ends as a passage of
        that one: views of two versions are never mixed, and which it was seen by first is what it can be found by."""
        self._embedder = (version, dimension)

    @property
    def open_tracks(self) -> int:
        return len(self._open)

    def names(self) -> frozenset[str]:
        """The tracks that have not ended."""
        return frozenset(self._open)

    def observe(self, frame: Frame, tracks: Tracks) -> None:
        """One frame's tracks. Tracks that ended with it stay open until `close`."""
        rows = zip(tracks.ids, tracks.boxes.tolist(), tracks.scores.tolist(), tracks.classes.tolist(), strict=True)
        for track, box, score, index in rows:
            seen = (tracks.time_s, *box)
            open_ = self._open.get(track)
            if open_ is None:
                open_ = _Open(tracks.camera, (frame.width_px, frame.height_px), seen, seen)
                self._open[track] = open_
            name = self._class_names[index]
            open_.votes[name] = open_.votes.get(name, 0.0) + score
            self._extend(open_, seen)

    def add_views(self, views: list[View], embeddings: Floats) -> None:
        """M views and their embeddings (M, D) float32, unit rows. Views of tracks already closed are ignored, and
        those of tracks that another embedder has seen."""
        for view, embedding in zip(views, embeddings, strict=True):
            track = self._open.get(view.track)
            if track is None or track.embedder not in (None, self._embedder):
                continue
            track.embedder = self._embedder
            track.qualities.append(view.quality)
            track.embeddings.append(np.array(embedding, np.float32))
            if len(track.qualities) > _STORED:
                weakest = track.qualities.index(min(track.qualities))
                del track.qualities[weakest], track.embeddings[weakest]

    def close(self, ended: Iterable[str]) -> list[Tracklet]:
        """The tracklets of tracks that ended, without those too short; in the order given."""
        closed = []
        for name in ended:
            track = self._open.pop(name, None)
            if track is None:
                continue
            settings = self._settings
            long_enough = track.last[0] - track.first[0] >= settings.minimum_duration_s
            if track.count >= settings.minimum_observations and long_enough:
                closed.append(self._finish(name, track))
            else:
                self.dropped += 1
        return closed

    def seen_until(self, now: float) -> dict[str, float]:
        """By camera with open tracks, the capture time before which every track that left it has been closed."""
        until: dict[str, float] = {}
        for track in self._open.values():
            until[track.camera] = min(track.last[0], until.get(track.camera, now))
        return until

    def flush(self) -> list[Tracklet]:
        """Close every open track: at the end of a recording, or when tracking begins anew."""
        return self.close(list(self._open))

    def snapshot(self) -> bytes:
        """Everything needed to go on exactly here: a line of JSON, then the numbers of all tracks."""
        tracks, blocks = [], []
        for name, track in self._open.items():
            tracks.append([name, track.camera, track.size, track.first, track.last, track.count, track.votes,
                           track.stride, len(track.path), track.qualities, track.embedder])  # fmt: skip
            blocks += [track.path.tobytes(), *(row.tobytes() for row in track.embeddings)]
        return sealed(_FORMAT, json.dumps(tracks).encode() + b"\n" + b"".join(blocks))

    def restore(self, snapshot: bytes) -> None:
        """Go on where `snapshot` was taken; tracks stay with the embedder that saw them.

        Raises `StoreError` when it is damaged or of another format; nothing has changed then.
        """
        try:
            head, _, body = unsealed(snapshot, _FORMAT).partition(b"\n")
            self._open = _read_tracks(json.loads(head), body)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise StoreError(f"the stored tracklets are unusable ({error}); they begin anew") from None

    def _extend(self, track: _Open, seen: tuple[float, ...]) -> None:
        track.last = seen
        if track.count % track.stride == 0:
            track.path.extend(seen)
            if len(track.path) > 2 * self._settings.maximum_path * _ROW:
                rows = np.frombuffer(track.path, np.float64).reshape(-1, _ROW)[::2]
                track.path, track.stride = array("d", rows.tobytes()), track.stride * 2
        track.count += 1

    def _finish(self, name: str, track: _Open) -> Tracklet:
        settings = self._settings
        path = np.frombuffer(track.path, np.float64).reshape(-1, _ROW)
        if path[-1, 0] < track.last[0]:
            path = np.concatenate([path, [track.last]])
        if len(path) > settings.maximum_path:
            path = path[np.linspace(0, len(path) - 1, settings.maximum_path).round().astype(int)]
        move = displacement(path[:, 1:])
        spacing = (track.last[0] - track.first[0]) / max(track.count - 1, 1)
        version, dimension = track.embedder or self._embedder
        rows = diverse(track.embeddings, track.qualities, settings.maximum_embeddings)
        embeddings = [track.embeddings[row] for row in rows]
        diagonal = float(np.median(np.hypot(path[:, 3] - path[:, 1], path[:, 4] - path[:, 2])))
        moved = math.hypot(*move) >= settings.moved * diagonal
        return Tracklet(
            id=name,
            node=self._node,
            camera=track.camera,
            class_name=max(sorted(track.votes), key=track.votes.__getitem__),
            entry_time_s=track.first[0],
            exit_time_s=track.last[0],
            # an object appears at any moment between two frames: uniform, so one spacing/√12
            time_sigma_s=max(spacing / math.sqrt(12), settings.minimum_time_sigma_s),
            entry_zone=self._zone(track, track.first[1:], (-move[0], -move[1])),
            exit_zone=self._zone(track, track.last[1:], move),
            heading_rad=math.atan2(move[1], move[0]) if moved else math.nan,
            embeddings=np.array(embeddings, np.float32).reshape(len(rows), dimension),
            qualities=np.array([track.qualities[row] for row in rows], np.float32),
            embedding_version=version,
            path_times_s=path[:, 0].copy(),
            path_boxes=path[:, 1:].astype(np.float32),
            frame_px=track.size,
        )

    def _zone(self, track: _Open, box: tuple[float, ...], outwards: tuple[float, float]) -> str:
        """The first zone that holds the box's foot, else the frame edge."""
        width, height = track.size
        foot = np.array([((box[0] + box[2]) / 2 / width, box[3] / height)])
        for name, zone in self._zones.get(track.camera, {}).items():
            if standing(zone.polygon, foot)[0]:
                return name
        return frame_edge(box, track.size, outwards, self._settings.edge_margin)


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


def _read_tracks(rows: list[Any], body: bytes) -> dict[str, _Open]:
    tracks, place = {}, 0
    for name, camera, size, first, last, count, votes, stride, length, qualities, embedder in rows:
        path = array("d", body[place : place + 8 * length])
        place += 8 * length
        dimension = embedder[1] if embedder else 0
        block = np.frombuffer(body, np.float32, len(qualities) * dimension, place).reshape(len(qualities), dimension)
        place += block.nbytes
        times = [*first, *last, *path, *qualities]
        if len(path) != length or length % _ROW or not length or len(first) != _ROW or len(last) != _ROW:
            raise ValueError("the snapshot is too short")
        if not np.isfinite(times).all() or not np.isfinite(block).all() or min(stride, count, *size) < 1 or not votes:
            raise ValueError(f"the track {name} is nowhere")
        tracks[name] = _Open(camera, tuple(size), tuple(first), tuple(last), count, votes, stride, path, qualities,
                             [row.copy() for row in block], (embedder[0], dimension) if embedder else None)  # fmt: skip
    if place != len(body):
        raise ValueError("the snapshot has another length than its header says")
    return tracks
