"""What a camera does to a scene: colour cast, exposure drift, softness, noise and compression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_app.simulation.appearance import name_code
from edge_app.types import Image

_TILES = 7  # noise pictures that are cycled through


class Film:
    """The look of one camera's pictures. Its character comes from its name, its strength from the difficulty."""

    def __init__(self, site: str, camera: str, difficulty: float, size: tuple[int, int]) -> None:
        """`size` is (height, width) in pixels."""
        rng = np.random.default_rng(name_code(site, camera, "film"))
        strength = 0.2 + 0.8 * difficulty
        self._gains = 1.0 + strength * rng.uniform(-0.1, 0.1, 3)
        self._exposure = 1.0 + strength * rng.uniform(-0.12, 0.1)
        self._gamma = 1.0 + strength * rng.uniform(-0.14, 0.14)
        self._drift = strength * 0.1
        self._phases = rng.uniform(0, 2 * np.pi, 2)
        self._quality = int(92 - 28 * difficulty - rng.integers(0, 12))
        self._soft = bool(rng.random() < 0.2 + 0.4 * difficulty)
        sigma = 1.5 + 4.0 * difficulty * rng.uniform(0.6, 1.2)
        self._noise = [np.rint(rng.normal(0, sigma, (*size, 3))).astype(np.int16) for _ in range(_TILES)]
        self._seed = name_code(site, camera)

    def develop(self, scene: Image, time_s: float) -> Image:
        """(H, W, 3) uint8 BGR → the camera's picture of it at that time, a new array."""
        import cv2

        picture = cv2.LUT(scene, self._curve(time_s))
        if self._soft:
            picture = cv2.blur(picture, (2, 2))
        tile = self._noise[(self._seed + round(time_s * 1000)) % _TILES]
        picture = cv2.add(picture, tile, dtype=cv2.CV_8U)
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        return cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.uint8, copy=False)  # type: ignore[union-attr]

    def _curve(self, time_s: float) -> Image:
        """(1, 256, 3) uint8 tone curves: clouds pass within a minute, the light warms and cools over several."""
        clouds = np.sin(2 * np.pi * time_s / 47.0 + self._phases[0])
        warmth = 0.4 * self._drift * np.sin(2 * np.pi * time_s / 211.0 + self._phases[1])
        exposure = self._exposure * (1.0 + self._drift * clouds)
        gains = self._gains * exposure * np.array([1.0 - warmth, 1.0, 1.0 + warmth])
        tones: NDArray[np.float64] = (np.arange(256) / 255.0) ** self._gamma * 255.0
        curve: Image = np.clip(np.rint(tones[:, None] * gains), 0, 255).astype(np.uint8)[None]
        return curve
