"""Recordings as a player shows them: which stream is the film, and its pictures turned, with square pixels.

Roadside and trainer decode with the same library (PyAV) and see through this one class, so that they see the same
picture of the same file. PyAV is imported only when a film is looked for: readers of messages need none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from edge_app.contract.orientation import Orientation, orientation, quarter_turned

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from typing_extensions import Buffer

MOST_PIXELS = 1 << 26  # of one picture, 8192 × 8192; a kilobyte may declare a hundred times more
LIMITS = {"max_pixels": str(MOST_PIXELS)}  # for `av.open`: larger pictures are refused before memory is taken for them


def film_of(container: InputContainer) -> VideoStream | None:
    """The first video that is no cover picture, under `LIMITS`; None where there is none."""
    from av.stream import Disposition

    cover = Disposition.attached_pic | Disposition.timed_thumbnails
    film = next((stream for stream in container.streams.video if not stream.disposition & cover), None)
    if film is not None:
        film.codec_context.options = {**film.codec_context.options, **LIMITS}
    return film


class Screen:
    """Shows the pictures of one stream."""

    def __init__(self, film: VideoStream, seldom_turned: bool = False) -> None:
        """`seldom_turned`: believe that a picture without a rotation is not mirrored either. Asking costs memory: a
        picture whose side data were looked at is a circle of references, and freed much later."""
        self._film = film
        self._seldom_turned = seldom_turned
        self._rotation = 0  # degrees, of the picture that `_orientation` was made for
        self._orientation: Orientation | None = None

    def show(self, picture: VideoFrame) -> NDArray[np.uint8]:
        """A decoded picture as it is to be seen: (H, W, 3) uint8 BGR, contiguous."""
        if self._orientation is None or picture.rotation != self._rotation:
            self._rotation, self._orientation = picture.rotation, self._noted(picture)
        width, height = self._orientation.square(picture.width, picture.height)
        stored = cast("NDArray[np.uint8]", picture.to_ndarray(format="bgr24", width=width, height=height))
        return self._orientation.turned(stored)

    def _noted(self, picture: VideoFrame) -> Orientation:
        aspect = self._film.sample_aspect_ratio
        if self._seldom_turned and not picture.rotation:
            return orientation(None, aspect)
        try:
            noted = picture.side_data.get("DISPLAYMATRIX")
        except ValueError:  # beside side data that PyAV has no name for, as EXIF: the angle is known, mirroring is not
            return orientation(quarter_turned(picture.rotation), aspect)
        return orientation(None if noted is None else struct.unpack("=9i", bytes(cast("Buffer", noted))), aspect)
