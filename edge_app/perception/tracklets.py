"""A finished track → one `Tracklet`: what the association may know about one passage of one camera.

Kept per open track: its path (thinned as it grows), score-weighted votes for its class, and its embeddings. Nothing
here reads a clock, a file or a random number, and `snapshot` followed by `restore` continues bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_app.errors import StoreError
from edge_app.perception.area import standing
from edge_app.perception.hidden import Hidden, HiddenSettings
from edge_app.perception.open_track import OpenTrack, packed, unpacked
from edge_app.settings import Polygon, Settings
from edge_app.store.parts import sealed, unsealed
from edge_app.types import Floats, Frame, Tracklet, Tracks, View

_FORMAT = "crosslane.tracklets/3"


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
    hidden: HiddenSettings = HiddenSettings()
    """Vehicles that stand still and are hidden for a while."""


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
        self._open: dict[str, OpenTrack] = {}  # by track
        self._hidden = Hidden(settings.hidden)
        self._embedder = ("none", 0)
        self.dropped = 0  # tracks that were too short, since the start
        self.found_again = 0  # tracks that went on with a hidden one

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
            if track not in self._open:
                self._open[track] = OpenTrack(track, tracks.camera, (frame.width_px, frame.height_px), seen, seen)
            self._open[track].observe(seen, self._class_names[index], score, 2 * self._settings.maximum_path)

    def add_views(self, views: list[View], embeddings: Floats) -> None:
        """M views and their embeddings (M, D) float32, unit rows. Views of tracks already closed are ignored, and
        those of tracks that another embedder has seen."""
        for view, embedding in zip(views, embeddings, strict=True):
            track = self._open.get(view.track)
            if track is None or track.embedder not in (None, self._embedder):
                continue
            track.embedder = self._embedder
            track.look(view.quality, embedding)
            before = self._hidden.find(track) if track.passage == view.track else None
            if before is not None:
                before.go_on(track, 2 * self._settings.maximum_path)
                self._open[view.track] = before
                self.found_again += 1

    def passage_of(self, track: str) -> str:
        """The id of the tracklet that this track becomes."""
        return self._open[track].passage if track in self._open else track

    def close(self, ended: Iterable[str]) -> list[Tracklet]:
        """The tracklets of tracks that ended, in the order given: without those too short, and without those of hidden
        vehicles, see `give_up`."""
        tracks = [self._open.pop(name) for name in ended if name in self._open]
        return self._finished(track for track in tracks if not (self._is_long(track) and self._hidden.take(track)))

    def give_up(self, now_s: float) -> list[Tracklet]:
        """The tracklets of vehicles that were hidden and have not come back; call it with every tick."""
        return self._finished(self._hidden.give_up(now_s))

    def seen_until(self, now: float) -> dict[str, float]:
        """By camera with open tracks, the capture time before which every track that left it has been closed. Those of
        hidden vehicles may come later: nobody else is to wait for them."""
        until: dict[str, float] = {}
        for track in self._open.values():
            until[track.camera] = min(track.last[0], until.get(track.camera, now))
        return until

    def flush(self) -> list[Tracklet]:
        """Close every open track: at the end of a recording, or when tracking begins anew."""
        tracks = [*self._hidden.all().values(), *self._open.values()]
        self._open = {}
        self._hidden.begin_anew()
        return self._finished(tracks)

    def snapshot(self) -> bytes:
        """Everything needed to go on exactly here: the open tracks, then the hidden ones, each by its length."""
        tracks = packed(self._open)
        return sealed(_FORMAT, len(tracks).to_bytes(8, "big") + tracks + packed(self._hidden.all()))

    def restore(self, snapshot: bytes) -> None:
        """Go on where `snapshot` was taken; tracks stay with the embedder that saw them.

        Raises `StoreError` when it is damaged or of another format; nothing has changed then.
        """
        try:
            stored = unsealed(snapshot, _FORMAT)
            end = 8 + int.from_bytes(stored[:8], "big")
            tracks, hidden = unpacked(stored[8:end]), unpacked(stored[end:])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise StoreError(f"the stored tracklets are unusable ({error}); they begin anew") from None
        self._open = tracks
        self._hidden.begin_anew(hidden.values())

    def _finished(self, tracks: Iterable[OpenTrack]) -> list[Tracklet]:
        found = []
        for track in tracks:
            if self._is_long(track):
                found.append(self._finish(track))
            else:
                self.dropped += 1
        return found

    def _is_long(self, track: OpenTrack) -> bool:
        settings = self._settings
        lasted_s = track.last[0] - track.first[0]
        return track.count >= settings.minimum_observations and lasted_s >= settings.minimum_duration_s

    def _finish(self, track: OpenTrack) -> Tracklet:
        settings = self._settings
        path = track.rows
        if path[-1, 0] < track.last[0]:
            path = np.concatenate([path, [track.last]])
        if len(path) > settings.maximum_path:
            path = path[np.linspace(0, len(path) - 1, settings.maximum_path).round().astype(int)]
        move = displacement(path[:, 1:])
        spacing = (track.last[0] - track.first[0] - track.hidden_s) / max(track.count - 1, 1)
        version, dimension = track.embedder or self._embedder
        rows = diverse(track.embeddings, track.qualities, settings.maximum_embeddings)
        embeddings = [track.embeddings[row] for row in rows]
        diagonal = float(np.median(np.hypot(path[:, 3] - path[:, 1], path[:, 4] - path[:, 2])))
        moved = math.hypot(*move) >= settings.moved * diagonal
        return Tracklet(
            id=track.passage,
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

    def _zone(self, track: OpenTrack, box: tuple[float, ...], outwards: tuple[float, float]) -> str:
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
