"""Pictures of what was seen: some annotated frames of each camera over the whole time, and crops taken and refused."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from edge_app.look.draw import annotated
from edge_app.perception.crops import CropSettings, cut, geometric_quality
from edge_app.perception.witness import Sight
from edge_app.settings import Polygon
from edge_app.types import Floats, Image

WINDOW_S = 1.0  # of each the fullest frame is a candidate
MOST_FRAMES = 12  # candidates of a camera; beyond that every second one is dropped, and windows grow
CROPS = 24  # taken and refused, of each camera
SHOWN_OF_EACH = (1, 3)  # views of one track
TRAIL = 60  # places of a track's foot that are drawn
WIDEST_PX = 960
CROP_PX = 120
QUALITY = 82  # of JPEG


Film: TypeAlias = Callable[[str, float, Image], None]  # gets every annotated picture: camera, capture time, (H, W, 3)


@dataclass(slots=True)
class Shown:
    """Of one camera, as JPEG."""

    frames: list[tuple[float, bytes]] = field(default_factory=list)  # capture time and picture
    taken: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=CROPS))  # what it is, and the crop
    refused: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=CROPS))
    video: str | None = None  # its address, relative to the page
    window_s: float = WINDOW_S
    best: tuple[int, float, Image] | None = None  # objects, time and picture of the window that is open
    until_s: float = -np.inf
    said: dict[str, float] = field(default_factory=dict)  # track → when a refused crop of it was kept


class Gallery:
    """Sees frames, and draws those that it keeps; with a film all of them."""

    def __init__(
        self,
        names: tuple[str, ...],
        areas: Mapping[str, Polygon],
        zones: Mapping[str, Mapping[str, Polygon]],
        crops: CropSettings,
        film: Film | None = None,
    ) -> None:
        self._names, self._areas, self._zones, self._crops, self._film = names, areas, zones, crops, film
        self._trails: dict[str, deque[Floats]] = defaultdict(lambda: deque(maxlen=TRAIL))
        self._taken: Counter[str] = Counter()
        self.cameras: dict[str, Shown] = defaultdict(Shown)

    def saw(self, sight: Sight) -> None:
        camera, now_s = sight.frame.camera, sight.frame.time_s
        shown = self.cameras[camera]
        for track, box in zip(sight.tracks.ids, sight.tracks.boxes, strict=True):
            self._trails[track].append(np.array([(box[0] + box[2]) / 2, box[3]], np.float32))
        for track in sight.tracks.ended:
            self._trails.pop(track, None)
            self._taken.pop(track, None)
        self._crops_of(sight, shown)
        objects = len(sight.tracks.ids) + len(sight.found)
        fuller = shown.best is None or objects > shown.best[0]
        picture = self._drawn(sight) if fuller or self._film is not None else None
        if self._film is not None and picture is not None:
            self._film(camera, now_s, picture)
        if now_s > shown.until_s:
            self.close(camera)
            shown.until_s, fuller = now_s + shown.window_s, True
        if fuller and objects:
            shown.best = (objects, now_s, self._drawn(sight) if picture is None else picture)

    def close(self, camera: str) -> None:
        """The window of this camera is over."""
        shown = self.cameras[camera]
        if shown.best is not None:
            _, time_s, picture = shown.best
            shown.frames.append((time_s, jpeg(picture, WIDEST_PX)))
            shown.best = None
        if len(shown.frames) > MOST_FRAMES:
            shown.frames, shown.window_s = shown.frames[::2], 2 * shown.window_s

    def _drawn(self, sight: Sight) -> Image:
        camera = sight.frame.camera
        trails = {track: np.stack(self._trails[track]) for track in sight.tracks.ids}
        return annotated(sight, self._names, self._areas.get(camera), self._zones.get(camera, {}), trails)

    def _crops_of(self, sight: Sight, shown: Shown) -> None:
        """What was taken, and of a track of which nothing was now and then what was not."""
        for view in sight.taken:
            shown.said[view.track] = np.inf
            self._taken[view.track] += 1
            if view.crop is not None and view.crop.size and self._taken[view.track] in SHOWN_OF_EACH:
                shown.taken.append((f"#{view.track.rpartition('/')[2]} {view.quality:.2f}", jpeg(view.crop, CROP_PX)))
        frame, tracks = sight.frame, sight.tracks
        if frame.image is None or not len(tracks.ids):
            return
        quality = geometric_quality(tracks, frame.width_px, frame.height_px, self._crops)
        for row, track in enumerate(tracks.ids):
            due = frame.time_s - shown.said.get(track, -np.inf) > WINDOW_S
            crop = cut(frame.image, tracks.boxes[row]) if due and quality[row] < self._crops.minimum_quality else None
            if crop is not None and crop.size:
                shown.said[track] = frame.time_s
                shown.refused.append((f"#{track.rpartition('/')[2]} {quality[row]:.2f}", jpeg(crop, CROP_PX)))


def jpeg(picture: Image, widest_px: int) -> bytes:
    import cv2

    scale = widest_px / max(picture.shape[:2])
    if scale < 1:
        picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])
