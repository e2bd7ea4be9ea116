"""Frames of recordings, as the roadside sees them: the same library, the same `Screen`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from numpy.typing import NDArray

from edge_app.contract.screen import LIMITS, Screen, film_of
from trainer.data.records import spread
from trainer.errors import DataError, shown

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SUFFIXES = frozenset({".mp4", ".mkv", ".avi", ".mov", ".ts", ".264", ".h264", ".265", ".h265"})
SEEK = 250  # frames; shorter ways are decoded through
_EXACT = {"mov", "matroska"}  # formats whose index leads to the very frame
Pixels = NDArray[np.uint8]


def recordings_of(path: Path) -> list[Path]:
    """The recordings below a folder, or the one that `path` is; `DataError` for a file that is none."""
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"{shown(path)}: expected a folder, a data.yaml or a recording ({', '.join(sorted(SUFFIXES))})"
            )
        return [path]
    return sorted(each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES) if path.is_dir() else []


def frames_of(path: Path, limit: int, say: Callable[[str], None] = lambda line: None) -> Iterator[tuple[int, Pixels]]:
    """Number and picture (H, W, 3) uint8 BGR of at most `limit` evenly spread frames of one recording. Frames that
    cannot be decoded are passed over, and `say` is told; `DataError` when it is no recording, or none can."""
    wanted = spread(_length(path), limit).tolist()
    with _opened(path) as (container, film):
        screen, reader = Screen(film), _Reader(container, film)
        given = 0
        for number in wanted:
            picture = reader.at(number)
            if picture is None:
                break  # the header promises more frames than there are
            yield number, screen.show(picture)
            given += 1
    if reader.lost or given < len(wanted):
        say(f"{shown(path)}: {given} of {len(wanted)} frames, {reader.lost} damaged packets or pictures passed over")
    if not given:
        raise DataError(f"{shown(path)}: holds no picture that can be decoded")


class _Reader:
    """Goes forward through a film by the numbers of its frames."""

    def __init__(self, container: InputContainer, film: VideoStream) -> None:
        self._container, self._film = container, film
        self.lost = 0  # packets and pictures that cannot be decoded, or say themselves that they are damaged
        self._pictures = self._decoded()
        self._next = 0  # number of the frame that comes next
        self._first_s = float((film.start_time or 0) * (film.time_base or 0))
        self._rate = float(film.average_rate or film.guessed_rate or 25)
        self._seeks = bool(_EXACT & set(container.format.name.split(",")))

    def at(self, number: int) -> VideoFrame | None:
        """The frame of this number, or the first one behind it; None after the end."""
        if self._seeks and number - self._next > SEEK:
            return self._sought(number)
        for picture in self._pictures:
            self._next += 1
            if self._next > number:
                return picture
        return None

    def _sought(self, number: int) -> VideoFrame | None:
        """From the key frame before it, by the time at which it is shown."""
        wanted_s = self._first_s + number / self._rate
        offset = int(wanted_s / float(self._film.time_base or 1))
        self._container.seek(offset, stream=self._film)
        self._pictures = self._decoded()
        for picture in self._pictures:
            if picture.time is None or picture.time > wanted_s - 0.5 / self._rate:
                self._next = number + 1
                return picture
        return None

    def _decoded(self) -> Iterator[VideoFrame]:
        """The pictures that can be believed, in order of showing."""
        for packet in self._container.demux(self._film):
            try:
                pictures = packet.decode()
            except av.error.InvalidDataError:
                self.lost += 1
                continue
            for picture in pictures:
                if picture.is_corrupt:
                    self.lost += 1
                else:
                    yield picture


def _length(path: Path) -> int:
    """Frames of a recording: what its header says, else counted."""
    with _opened(path) as (container, film):
        return film.frames or sum(packet.size > 0 for packet in container.demux(film))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its film; what FFmpeg says against it becomes a `DataError`."""
    try:
        with av.open(f"file:{path}", options=LIMITS) as container:  # else a name with a colon is taken for a protocol
            film = film_of(container)
            if film is None:
                raise DataError(f"{shown(path)}: holds no video")
            film.thread_type = "AUTO"
            yield container, film
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"{shown(path)}: not a recording that can be decoded, or damaged: {reason}") from None
