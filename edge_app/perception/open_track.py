"""What is collected of a track that has not ended, and its form on the disk: a line of JSON, then the numbers."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_app.types import Floats

ROW = 5  # time, x1, y1, x2, y2
STORED = 32  # embeddings kept; the weakest gives way


@dataclass(slots=True)
class OpenTrack:
    """A track that has not ended; its path is thinned as it grows."""

    passage: str  # id of the tracklet that it becomes: that of the first track of a vehicle that was hidden since
    camera: str
    size: tuple[int, int]  # frame width and height
    first: tuple[float, ...]  # time and box
    last: tuple[float, ...]
    count: int = 0
    hidden_s: float = 0.0  # of the time between the first and the last
    votes: dict[str, float] = field(default_factory=dict)
    rides: bool = False  # a person who moves as vehicles do
    stride: int = 1  # every stride-th observation is in the path
    path: array[float] = field(default_factory=lambda: array("d"))  # rows of time, x1, y1, x2, y2
    qualities: list[float] = field(default_factory=list)
    embeddings: list[Floats] = field(default_factory=list)  # (D,) float32 unit vectors
    embedder: tuple[str, int] | None = None  # version and dimension of all of them; None before the first

    @property
    def rows(self) -> NDArray[np.float64]:
        """(T, 5) float64: time and box of the path, T ≥ 1, without the last observation where that was thinned."""
        return np.frombuffer(self.path, np.float64).reshape(-1, ROW)

    @property
    def seen(self) -> NDArray[np.float64]:
        """(T, 5) its path with the last observation."""
        return np.concatenate([self.rows, [self.last]])

    def observe(self, seen: tuple[float, ...], name: str, score: float, longest: int) -> None:
        """Time and box, and how sure the detector is of which class; `longest`: rows of the path at most."""
        self.votes[name] = self.votes.get(name, 0.0) + score
        self.last = seen
        if self.count % self.stride == 0:
            self.path.extend(seen)
            self._thin(longest)
        self.count += 1

    def look(self, quality: float, embedding: Floats) -> None:
        """One more view, (D,) float32."""
        self.qualities.append(quality)
        self.embeddings.append(np.array(embedding, np.float32))
        if len(self.qualities) > STORED:
            weakest = self.qualities.index(min(self.qualities))
            del self.qualities[weakest], self.embeddings[weakest]

    def go_on(self, later: OpenTrack, longest: int) -> None:
        """`later` is the same object and by the same embedder: seen again after it was hidden, or followed twice. What
        both saw at one time is in the path once."""
        new = later.rows[later.rows[:, 0] > self.last[0]]
        if later.last[0] > self.last[0]:
            self.hidden_s += max(later.first[0] - self.last[0], 0.0) + later.hidden_s
            self.last, self.count = later.last, self.count + math.ceil(later.count * len(new) / len(later.rows))
        self.rides = self.rides or later.rides
        for name, score in later.votes.items():
            self.votes[name] = self.votes.get(name, 0.0) + score
        self.path.extend(new.ravel())
        self._thin(longest)
        for quality, embedding in zip(later.qualities, later.embeddings, strict=True):
            self.look(quality, embedding)

    def _thin(self, longest: int) -> None:
        while len(self.path) > longest * ROW:
            self.path, self.stride = array("d", self.rows[::2].tobytes()), self.stride * 2


def packed(tracks: Mapping[str, OpenTrack]) -> bytes:
    heads, blocks = [], []
    for name, track in tracks.items():
        heads.append([
            name, track.passage, track.camera, track.size, track.first, track.last, track.count, track.hidden_s,
            track.votes, track.rides, track.stride, len(track.path), track.qualities, track.embedder,
        ])  # fmt: skip
        blocks += [track.path.tobytes(), *(row.tobytes() for row in track.embeddings)]
    return json.dumps(heads).encode() + b"\n" + b"".join(blocks)


def unpacked(stored: bytes) -> dict[str, OpenTrack]:
    """What `packed` wrote. Raises ValueError, KeyError, TypeError or OverflowError when it is damaged."""
    head, _, body = stored.partition(b"\n")
    tracks, place = {}, 0
    for name, *fields, stride, length, qualities, embedder in json.loads(head):
        passage, camera, size, first, last, count, hidden_s, votes, rides = fields
        path = array("d", body[place : place + 8 * length])
        place += 8 * length
        dimension = embedder[1] if embedder else 0
        block = np.frombuffer(body, np.float32, len(qualities) * dimension, place).reshape(len(qualities), dimension)
        place += block.nbytes
        times = [*first, *last, *path, *qualities, hidden_s]
        if len(path) != length or length % ROW or not length or len(first) != ROW or len(last) != ROW:
            raise ValueError("the snapshot is too short")
        if not np.isfinite(times).all() or not np.isfinite(block).all() or min(stride, count, *size) < 1 or not votes:
            raise ValueError(f"the track {name} is nowhere")
        tracks[name] = OpenTrack(
            passage, camera, tuple(size), tuple(first), tuple(last), count, hidden_s, votes, bool(rides), stride, path,
            qualities, [row.copy() for row in block], (embedder[0], dimension) if embedder else None,
        )  # fmt: skip
    if place != len(body):
        raise ValueError("the snapshot has another length than its header says")
    return tracks


def joined(groups: Iterable[bytes]) -> bytes:
    """Each by its length."""
    return b"".join(len(group).to_bytes(8, "big") + group for group in groups)


def parted(stored: bytes) -> list[bytes]:
    """What `joined` made one. Raises ValueError when it is damaged."""
    found, place = [], 0
    while place < len(stored):
        end = place + 8 + int.from_bytes(stored[place : place + 8], "big")
        found.append(stored[place + 8 : end])
        place = end
    if place != len(stored):
        raise ValueError("the snapshot is too short")
    return found
