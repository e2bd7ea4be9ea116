"""Annotated videos, one for each camera, in capture time."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from edge_app.types import Image

log = logging.getLogger(__name__)

WIDEST_PX = 1280
CODECS = ("libx264", "mpeg4")  # browsers show the first; every build has the second
TICK = Fraction(1, 1000)


class Films:
    """Opened with the first picture of each camera; complete when it is left. A disk that is full ends a film, which is
    said, and nothing else."""

    def __init__(self, folder: Path, wanted: bool = True) -> None:
        self._folder, self._wanted = folder, wanted
        self._open: dict[str, tuple[Any, Any, float, int]] = {}  # container, stream, first time, last tick
        self.addresses: dict[str, str] = {}

    def __enter__(self) -> Films:
        return self

    def __exit__(self, *_: object) -> None:
        for camera in [*self._open]:
            self._end(camera)

    def add(self, camera: str, time_s: float, picture: Image) -> None:
        import av
        import cv2

        scale = min(WIDEST_PX / picture.shape[1], 1.0)
        width, height = (2 * max(round(side * scale / 2), 1) for side in (picture.shape[1], picture.shape[0]))
        if camera not in self._open:
            if camera in self.addresses:
                return  # it has ended
            self._begin(camera, time_s, width, height)
        container, stream, first_s, last = self._open[camera]
        tick = max(round((time_s - first_s) / TICK), last + 1)
        sized: Image = cv2.resize(picture, (stream.width, stream.height), interpolation=cv2.INTER_AREA).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(sized), format="bgr24")
        frame.pts, frame.time_base = tick, TICK
        self._open[camera] = (container, stream, first_s, tick)
        try:
            container.mux(stream.encode(frame))
        except (OSError, av.FFmpegError) as error:
            log.warning("%s: the video ends here: %s", self._folder / self.addresses[camera], error)
            self._end(camera)

    def _begin(self, camera: str, time_s: float, width: int, height: int) -> None:
        import av

        self.addresses[camera] = f"{camera}.mp4"
        container = av.open(str(self._folder / self.addresses[camera]), "w")
        codec = next(name for name in CODECS if name in av.codecs_available)
        stream: Any = container.add_stream(
            codec, options={"preset": "veryfast", "crf": "24"} if codec == "libx264" else {}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = TICK
        self._open[camera] = (container, stream, time_s, -1)

    def _end(self, camera: str) -> None:
        import av

        container, stream, *_ = self._open.pop(camera)
        try:
            container.mux(stream.encode())
            container.close()
        except (OSError, av.FFmpegError) as error:
            log.warning("%s is not whole: %s", self._folder / self.addresses[camera], error)
