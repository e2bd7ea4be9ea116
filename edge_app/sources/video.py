"""Recordings and RTSP cameras through PyAV (FFmpeg)."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, cast

from edge_app.contract.screen import Screen
from edge_app.sources.damage import Losses, Trust
from edge_app.sources.extent import Extent
from edge_app.sources.ffmpeg import open_video, reason
from edge_app.sources.settings import CameraSettings, file_path
from edge_app.sources.timeline import Backlog, FrameGate, LiveTimeline, RecordingTimeline
from edge_app.types import Frame

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_CORRUPT_IN_A_ROW = 100  # damaged packets without one good picture between them
_NO_PICTURE_S = 15.0  # packets arrive, but no picture: longer than the distance of two key frames
_DOUBT_S = 5.0  # pictures after damage are left out no longer than this, if no key frame comes
_INDEXED = {"matroska", "flv", "asf"}  # these say at their beginning how long they are, for all their streams together


class VideoSource:
    """Frames of a file or an RTSP camera in capture order. Read and closed by one thread.

    Time: a recording counts from `settings.start_time_s` by its timestamps (by frames and frame rate where it has
    none, as in raw .264), so it gives the same times on every run; with `after_s` it delivers exactly the frames an
    unbroken read delivers after that capture time. A live camera: see `LiveTimeline`; `after_s` has no meaning there.

    Pictures are as they are to be seen: turned and with square pixels, see `Screen`.

    Damaged packets and pictures, and the pictures built on them, are left out and counted in `losses`. SourceError:
    cannot be opened, no video in it, something missing at its end (after its last good frame), picture size changed,
    camera silent for `read_timeout_s`, connection lost. `read` blocks no longer than `read_timeout_s`, opening no
    longer than twice `open_timeout_s`.
    """

    def __init__(
        self, settings: CameraSettings, after_s: float | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.losses = Losses()
        self._sequence = 0
        self._size: tuple[int, int] | None = None
        self._container, self._stream = open_video(settings)
        self._screen = Screen(self._stream, seldom_turned=settings.is_live)  # cameras are opened often
        self._asked_s = time.monotonic()  # when the packet we wait for was asked for
        self._frame_s = 1.0 / float(self._stream.guessed_rate or self._stream.average_rate or 25)
        self._extent = Extent(self._frame_s) if settings.is_live else self._promised()
        self._frames = self._live_frames() if settings.is_live else self._recorded_frames(after_s)

    def read(self) -> Frame | None:
        import av

        try:
            return next(self._frames, None)
        except av.FFmpegError as error:
            self._refuse_silence()
            raise self._settings.failure(f"while reading: {reason(self._settings, error)}") from None

    def close(self) -> None:
        self._frames.close()
        self._container.close()

    def _live_frames(self) -> Generator[Frame, None, None]:
        timeline = LiveTimeline(jump_s=self._settings.read_timeout_s + 1.0)
        gate = FrameGate(self._settings.fps, 0.0)
        backlog = Backlog(self._frame_s)
        for picture in self._pictures():
            now_s = self._clock()
            if backlog.holds(picture.time, time.monotonic()):
                continue
            time_s = timeline.capture_s(picture.time, now_s)
            if gate.keeps(time_s):
                yield self._frame(picture, time_s, None)
        raise self._settings.failure("the camera ended the stream")

    def _recorded_frames(self, after_s: float | None) -> Generator[Frame, None, None]:
        start_s = self._settings.start_time_s
        stream_start_s = float((self._stream.start_time or 0) * (self._stream.time_base or 0))
        timeline = RecordingTimeline(start_s, stream_start_s, self._frame_s)
        gate = FrameGate(self._settings.fps, start_s)
        if after_s is not None:
            self._seek(gate.slot_start_s(after_s) - start_s + stream_start_s)
        shown = _in_order_of_decoding(self._pictures()) if "avi" in self._formats() else self._pictures()
        index = -1
        for index, picture in enumerate(shown):
            stream_s = picture.time if picture.time is not None else stream_start_s + index * self._frame_s
            time_s = timeline.capture_s(stream_s)
            if gate.keeps(time_s) and (after_s is None or time_s > after_s):
                yield self._frame(picture, time_s, round((stream_s - stream_start_s) / self._frame_s))
        if index < 0 and after_s is None:
            raise self._settings.failure("holds no picture that can be decoded")
        if (missing := self._extent.missing()) is not None:
            raise self._settings.failure(f"{missing}; copy it again")

    def _seek(self, stream_s: float) -> None:
        """To a key frame before `stream_s`, in formats whose index is exact; others are read from their beginning."""
        time_base = self._stream.time_base
        if time_base and {"mov", "matroska"} & self._formats():
            # a frame early: rounding must not skip the key frame itself
            offset = int((stream_s - self._frame_s) / time_base)
            self._container.seek(max(offset, self._stream.start_time or 0), stream=self._stream)

    def _pictures(self) -> Generator[VideoFrame, None, None]:
        """Decoded pictures that can be believed; the limits on damaged and missing ones."""
        trust = Trust(self.losses, self._frame_s, _DOUBT_S, recorded=not self._settings.is_live)
        last_picture_s = time.monotonic()
        for packet in self._packets():
            for picture in self._decoded(packet, trust):
                last_picture_s = time.monotonic()
                yield picture
                last_picture_s = time.monotonic()
            if not self._settings.is_live:
                continue  # a recording is read to its end: there may be good pictures after the damage
            if trust.in_a_row >= _CORRUPT_IN_A_ROW:
                raise self._settings.failure(f"{_CORRUPT_IN_A_ROW} damaged packets in a row, no picture can be decoded")
            if time.monotonic() - last_picture_s > _NO_PICTURE_S:
                raise self._settings.failure(f"packets arrive but no picture could be decoded for {_NO_PICTURE_S:g} s")

    def _decoded(self, packet: Packet[VideoStream], trust: Trust) -> Generator[VideoFrame, None, None]:
        """The good pictures of one packet; whatever is damaged goes to `trust`."""
        import av

        if packet.stream_index != self._stream.index:
            self._note(packet)
            return
        if packet.pts is not None and not packet.is_discard:
            trust.begins(float(packet.pts * (packet.time_base or 0)))
        if packet.is_corrupt:
            trust.damaged(packet.pts)
        try:
            pictures = packet.decode()
        except av.error.InvalidDataError:
            trust.damaged(packet.pts)
            return
        if not packet.is_corrupt:
            self._note(packet)
        for picture in pictures:
            if picture.is_corrupt:
                trust.damaged(picture.pts)
            elif trust.believes(picture.key_frame, picture.pts, picture.time):
                yield picture

    def _packets(self) -> Generator[Packet[VideoStream], None, None]:
        # where a file tells its length for picture and sound together, the sound has to be read too
        packets = self._container.demux(*([] if self._extent.of_all_streams else [self._stream]))
        while True:
            self._asked_s = time.monotonic()
            packet = next(packets, None)
            if packet is None:
                return
            # FFmpeg answers a time-out with the last packet it had put aside, and only then with the error
            self._refuse_silence()
            yield cast("Packet[VideoStream]", packet)

    def _refuse_silence(self) -> None:
        silent_s = time.monotonic() - self._asked_s
        if self._settings.is_live and silent_s >= 0.95 * self._settings.read_timeout_s:
            raise self._settings.failure(f"no data for {self._settings.read_timeout_s:g} s")

    def _promised(self) -> Extent:
        """What a recording says of its own length, as far as that is to be trusted."""
        stream, container, formats = self._stream, self._container, self._formats()
        extent = Extent(self._frame_s)
        if "mov" in formats and stream.frames and stream.duration is not None and stream.time_base is not None:
            extent.end_s = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        elif _INDEXED & formats and container.duration:
            extent.end_s = container.duration / 1e6  # some writers count from 0, some from the first picture
            extent.of_all_streams = True
        elif "avi" in formats and stream.frames:
            extent.end_s = stream.frames * self._frame_s
        elif {"mpegts", "mpeg", "h264", "hevc"} & formats:  # no index: all of the file is pictures and sound
            extent.size_bytes = file_path(self._settings).stat().st_size
            extent.of_all_streams = True
        return extent

    def _note(self, packet: Packet[VideoStream]) -> None:
        if self._settings.is_live or not packet.size:
            return
        base = float(packet.time_base or 0)
        end_byte = packet.pos + packet.size if packet.pos is not None and packet.pos >= 0 else None
        begin_s = None if packet.pts is None else packet.pts * base
        is_picture = packet.stream_index == self._stream.index
        self._extent.note(begin_s, (packet.duration or 0) * base, is_picture, end_byte)

    def _formats(self) -> set[str]:
        return set(self._container.format.name.split(","))

    def _frame(self, picture: VideoFrame, time_s: float, number: int | None) -> Frame:
        image = self._screen.show(picture)
        size = (image.shape[1], image.shape[0])
        if self._size not in (None, size):
            old, new = "{}x{}".format(*self._size or ()), "{}x{}".format(*size)
            raise self._settings.failure(f"the picture size changed from {old} to {new}")
        self._size = size
        frame = Frame(self._settings.id, time_s, image, *size, sequence=self._sequence, number=number)
        self._sequence += 1
        return frame


def _in_order_of_decoding(pictures: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """AVI tells when pictures are decoded, not when they are shown, and FFmpeg hands these times out jumbled: the times
    of decoding, which ascend, are put in their place."""
    first: int | None = None
    last = -1
    for picture in pictures:
        last = picture.dts if picture.dts is not None else last + 1
        first = last if first is None else first
        picture.pts = last - first
        yield picture
