"""The best picture of each track, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edge_app.types import Image, View

LONGEST_SIDE_PX = 320
JPEG_QUALITY = 92
GOOD_SIDE_PX = 120.0  # a picture for people: larger is better up to here, beyond what an embedding needs


class Album:
    """Keeps one compressed picture per track, of the newest `capacity` tracks: about 10 kB each."""

    def __init__(self, capacity: int = 4000) -> None:
        self._capacity = capacity
        self._worth: dict[str, float] = {}
        self._data: dict[str, Image] = {}

    def __len__(self) -> int:
        return len(self._data)

    def add(self, views: Iterable[View]) -> None:
        """Views without pixels are passed over."""
        for view in views:
            if view.crop is None or not view.crop.size:
                continue
            worth = view.quality * min(min(view.crop.shape[:2]) / GOOD_SIDE_PX, 1.0)
            if worth > self._worth.get(view.track, 0.0):
                self._worth[view.track] = worth
                self._data[view.track] = _compressed(view.crop)
        while len(self._data) > self._capacity:
            oldest = next(iter(self._data))
            del self._data[oldest], self._worth[oldest]

    def picture(self, track: str) -> Image | None:
        """(h, w, 3) uint8 BGR, None when there is none."""
        import cv2

        data = self._data.get(track)
        return None if data is None else np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def _compressed(crop: Image) -> Image:
    import cv2

    scale = LONGEST_SIDE_PX / max(crop.shape[:2])
    if scale < 1:
        crop = np.asarray(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1], np.uint8)
