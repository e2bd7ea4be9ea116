"""Recordings and RTSP cameras through PyAV (FFmpeg)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from edge_app.sources.settings import REFUSED_LOGIN, CameraSettings, file_path
from edge_app.sources.timeline import Backlog, FrameGate, LiveTimeline, RecordingTimeline
from edge_app.types import Frame, Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_CORRUPT_IN_A_ROW = 100  # damaged packets without one good picture between them
_NO_PICTURE_S = 15.0  # packets arrive, but no picture: longer than the distance of two key frames
_MISSING_S = 1.0  # a recording that ends this much before its index says is truncated


class VideoSource:
    """Frames of a file or an RTSP camera in capture order. Read and closed by one thread.

    Time: a recording counts from `settings.start_time_s` by its timestamps (by frames and frame rate where it has
    none, as in raw .264), so it gives the same times on every run; with `after_s` it delivers exactly the frames an
    unbroken read delivers after that capture time. A live camera: see `LiveTimeline`; `after_s` has no meaning there.

    Damaged packets and pictures are skipped and counted in `corrupt`. SourceError: cannot be opened, no video in it,
    truncated (after its last good frame), picture size changed, camera silent for `read_timeout_s`, connection lost.
    `read` blocks no longer than `read_timeout_s`, opening no longer than twice `open_timeout_s`.
    """

    def __init__(
        self, settings: CameraSettings, after_s: float | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.corrupt = 0
        self._sequence = 0
        self._size: tuple[int, int] | None = None
        self._container, self._stream = _open_video(settings)
        self._asked_s = time.monotonic()  # when the packet we wait for was asked for
        self._frame_s = 1.0 / float(self._stream.guessed_rate or self._stream.average_rate or 25)
        self._frames = self._live_frames() if settings.is_live else self._recorded_frames(after_s)

    def read(self) -> Frame | None:
        import av

        try:
            return next(self._frames, None)
        except av.FFmpegError as error:
            self._refuse_silence()
            raise self._settings.failure(f"while reading: {_reason(self._settings, error)}") from None

    def close(self) -> None:
        self._frames.close()
        self._container.close()

    def _live_frames(self) -> Generator[Frame, None, None]:
        timeline = LiveTimeline(jump_s=self._settings.read_timeout_s + 1.0)
        gate = FrameGate(self._settings.fps, 0.0)
        backlog = Backlog(self._frame_s)
        for picture in self._pictures():
            now_s = self._clock()
            if backlog.holds(picture.time, now_s):
                continue
            time_s = timeline.capture_s(picture.time, now_s)
            if gate.keeps(time_s):
                yield self._frame(picture, time_s)
        raise self._settings.failure("the camera ended the stream")

    def _recorded_frames(self, after_s: float | None) -> Generator[Frame, None, None]:
        start_s = self._settings.start_time_s
        stream_start_s = float((self._stream.start_time or 0) * (self._stream.time_base or 0))
        timeline = RecordingTimeline(start_s, stream_start_s, self._frame_s)
        gate = FrameGate(self._settings.fps, start_s)
        if after_s is not None:
            self._seek(gate.slot_start_s(after_s) - start_s + stream_start_s)
        for index, picture in enumerate(self._pictures()):
            stream_s = picture.time if picture.time is not None else stream_start_s + index * self._frame_s
            time_s = timeline.capture_s(stream_s)
            if gate.keeps(time_s) and (after_s is None or time_s > after_s):
                yield self._frame(picture, time_s)

    def _seek(self, stream_s: float) -> None:
        """To a key frame before `stream_s`, in formats whose index is exact; others are read from their beginning."""
        time_base = self._stream.time_base
        if time_base and {"mov", "matroska"} & set(self._container.format.name.split(",")):
            # a frame early: rounding must not skip the key frame itself
            offset = int((stream_s - self._frame_s) / time_base)
            self._container.seek(max(offset, self._stream.start_time or 0), stream=self._stream)

    def _pictures(self) -> Generator[VideoFrame, None, None]:
        """Decoded good pictures; the limits on damaged and missing ones."""
        import av

        damaged = 0
        end_s = 0.0
        last_picture_s = time.monotonic()
        for packet in self._packets():
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            try:
                pictures = packet.decode()
            except av.error.InvalidDataError:
                pictures = []
                self.corrupt += 1
                damaged += 1
            for picture in pictures:
                if picture.is_corrupt:
                    self.corrupt += 1
                    damaged += 1
                    continue
                damaged = 0
                yield picture
                last_picture_s = time.monotonic()
            if damaged >= _CORRUPT_IN_A_ROW:
                raise self._settings.failure(f"{damaged} damaged packets in a row, no picture can be decoded")
            if self._settings.is_live and time.monotonic() - last_picture_s > _NO_PICTURE_S:
                raise self._settings.failure(f"packets arrive but no picture could be decoded for {_NO_PICTURE_S:g} s")
        if not self._settings.is_live:
            self._refuse_truncated(end_s)

    def _packets(self) -> Generator[Packet[VideoStream], None, None]:
        packets = self._container.demux(self._stream)
        while True:
            self._asked_s = time.monotonic()
            packet = next(packets, None)
            if packet is None:
                return
            # FFmpeg answers a time-out with the last packet it had put aside, and only then with the error
            self._refuse_silence()
            yield packet

    def _refuse_silence(self) -> None:
        silent_s = time.monotonic() - self._asked_s
        if self._settings.is_live and silent_s >= 0.95 * self._settings.read_timeout_s:
            raise self._settings.failure(f"no data for {self._settings.read_timeout_s:g} s")

    def _refuse_truncated(self, end_s: float) -> None:
        stream = self._stream
        if stream.duration is None or stream.time_base is None:
            return
        expected_s = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        if stream.frames and end_s < expected_s - _MISSING_S:
            raise self._settings.failure(
                f"the file is truncated: its index says {expected_s:.1f} s, the pictures end at {end_s:.1f} s; "
                "copy it again"
            )

    def _frame(self, picture: VideoFrame, time_s: float) -> Frame:
        size = (picture.width, picture.height)
        if self._size not in (None, size):
            old, new = "{}x{}".format(*self._size or ()), "{}x{}".format(*size)
            raise self._settings.failure(f"the picture size changed from {old} to {new}")
        self._size = size
        image = cast("Image", picture.to_ndarray(format="bgr24"))  # (H, W, 3) uint8, BGR
        frame = Frame(self._settings.id, time_s, image, *size, sequence=self._sequence)
        self._sequence += 1
        return frame


def _open_video(settings: CameraSettings) -> tuple[InputContainer, VideoStream]:
    import av

    target, options = (settings.address(), _rtsp_options(settings)) if settings.is_live else (_file(settings), {})
    began_s = time.monotonic()
    try:
        container = av.open(target, options=options, timeout=(settings.open_timeout_s, settings.read_timeout_s))
    except (av.FFmpegError, OSError, ValueError) as error:
        # whatever FFmpeg calls it, an interrupted wait is a time-out
        waited_s = time.monotonic() - began_s
        late = settings.is_live and waited_s >= 0.95 * settings.open_timeout_s
        reason = f"no answer within {waited_s:.1f} s" if late else _reason(settings, error)
        raise settings.failure(f"cannot be opened: {reason}") from None
    if not container.streams.video:
        container.close()
        raise settings.failure("holds no video")
    stream = container.streams.video[0]
    # One thread: frames come without delay and damaged streams decode the same on every run; cameras run in parallel.
    stream.thread_count = 1
    return container, stream


def _file(settings: CameraSettings) -> str:
    path = file_path(settings)
    if not path.exists():
        raise settings.failure("no such file")
    if not path.is_file():
        raise settings.failure("is not a file")
    return str(path)


def _rtsp_options(settings: CameraSettings) -> dict[str, str]:
    return {
        "rtsp_transport": settings.transport,
        "allowed_media_types": "video",  # else an audio track alone would keep a dead picture alive
        # look at the stream no longer than it takes to know its size; without it a second of frames is stored up
        "analyzeduration": "1000000",
        "fpsprobesize": "0",
    }


def _reason(settings: CameraSettings, error: Exception) -> str:
    """FFmpeg's own text holds the address with the password, so only its reason is taken, and what to do about it."""
    import av

    reasons: dict[type[Any], str] = {
        av.error.HTTPUnauthorizedError: REFUSED_LOGIN,
        av.error.HTTPForbiddenError: "the camera refuses this user",
        av.error.HTTPNotFoundError: "the camera answers, but has no stream of this path",
        av.error.ConnectionRefusedError: "connection refused; check host and port",
        av.error.TimeoutError: "time-out; check host and port",
        av.error.InvalidDataError: "connection lost or damaged stream" if settings.is_live else "not a video file",
    }
    reason = reasons.get(type(error))
    if reason is None and settings.is_live:
        reason = _unresolved(settings)
    return reason or getattr(error, "strerror", None) or type(error).__name__


def _unresolved(settings: CameraSettings) -> str | None:
    """FFmpeg calls an unknown host name an input/output error."""
    host = urlsplit(settings.source).hostname or ""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return f"the host name {host} cannot be resolved"
    return None
