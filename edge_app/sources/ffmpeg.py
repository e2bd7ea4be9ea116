"""Opening by FFmpeg, and what its errors mean: the border at which foreign errors become ours."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edge_app.contract.screen import LIMITS, MOST_PIXELS, film_of
from edge_app.errors import SourceError
from edge_app.sources.settings import NO_SUCH_STREAM, REFUSED_LOGIN, REFUSED_USER, CameraSettings, file_path

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream


def open_video(settings: CameraSettings) -> tuple[InputContainer, VideoStream]:
    """The file or camera, opened, and its video. SourceError, SourceRefusedError."""
    import av

    target, options = (settings.address(), _rtsp_options(settings)) if settings.is_live else (_file(settings), {})
    began_s = time.monotonic()
    try:
        container = av.open(
            target, options={**options, **LIMITS}, timeout=(settings.open_timeout_s, settings.read_timeout_s)
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        # whatever FFmpeg calls it, an interrupted wait is a time-out
        if settings.is_live and time.monotonic() - began_s >= 0.95 * settings.open_timeout_s:
            raise settings.failure(f"cannot be opened: no answer within {settings.open_timeout_s:g} s") from None
        raise _refusal(settings, error) or settings.failure(f"cannot be opened: {reason(settings, error)}") from None
    film = film_of(container)
    if film is None:
        container.close()
        raise settings.failure("holds no video")
    # One thread: frames come without delay and damaged streams decode the same on every run; cameras run in parallel.
    film.thread_count = 1
    return container, film


def _file(settings: CameraSettings) -> str:
    path = file_path(settings)
    if not path.exists():
        raise settings.failure("no such file")
    if not path.is_file():
        raise settings.failure("is not a file")
    return f"file:{path}"  # else a name with a colon is taken for a protocol


def _rtsp_options(settings: CameraSettings) -> dict[str, str]:
    return {
        "rtsp_transport": settings.transport,
        "allowed_media_types": "video",  # else an audio track alone would keep a dead picture alive
        # look at the stream no longer than it takes to know its size; without it a second of frames is stored up
        "analyzeduration": "1000000",
        "fpsprobesize": "0",
    }


def _refusal(settings: CameraSettings, error: Exception) -> SourceError | None:
    """The camera answered, and the same answer will come again until somebody mends it; None for anything else."""
    import av

    if not settings.is_live:
        return None
    if isinstance(error, av.error.HTTPUnauthorizedError):
        return settings.refusal(REFUSED_LOGIN, login=True)
    if isinstance(error, av.error.HTTPForbiddenError):
        return settings.refusal(REFUSED_USER, login=True)
    if isinstance(error, av.error.HTTPNotFoundError):
        return settings.refusal(NO_SUCH_STREAM)
    if isinstance(error, av.error.HTTPClientError):
        return settings.refusal(f"the camera refuses what it is asked for ({_words(error)})")
    missing = (av.error.ProtocolNotFoundError, av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError)
    return settings.refusal(f"FFmpeg here cannot read it: {_words(error)}") if isinstance(error, missing) else None


def reason(settings: CameraSettings, error: Exception) -> str:
    """FFmpeg's own text holds the address with the password, so only its reason is taken, and what to do about it."""
    import av

    reasons: dict[type[Any], str] = {
        av.error.HTTPUnauthorizedError: REFUSED_LOGIN,
        av.error.ConnectionRefusedError: "connection refused; check host and port",
        av.error.TimeoutError: "time-out; check host and port",
        av.error.InvalidDataError: "connection lost or damaged stream" if settings.is_live else "not a video file",
        av.error.ArgumentError: f"damaged, or its pictures have more than {MOST_PIXELS:,} pixels",
    }
    found = reasons.get(type(error))
    if found is None and settings.is_live:
        found = _unresolved(settings)
    return found or _words(error)


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _unresolved(settings: CameraSettings) -> str | None:
    """FFmpeg calls an unknown host name an input/output error."""
    host = urlsplit(settings.source).hostname or ""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return f"the host name {host} cannot be resolved"
    return None
