"""Cameras and recordings as iterators of frames."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_app.errors import SourceError
from edge_app.sources.base import Source
from edge_app.sources.rtsp import refuse_endless_redirects
from edge_app.sources.settings import CameraSettings

__all__ = ["CameraSettings", "Source", "check_source", "open_source"]

Clock = Callable[[], float]


def open_source(settings: CameraSettings, after_s: float | None = None, clock: Clock = time.time) -> Source:
    """The source that `settings` describes, opened. SourceError when it cannot be.

    `after_s`: a recording or simulation continues strictly after this capture time. `clock`: seconds since the epoch
    by which live cameras are stamped.
    """
    opener: dict[str, Callable[[CameraSettings, float | None, Clock], Source]] = {
        "file": _video,
        "rtsp": _gstreamer if settings.wants_nvdec else _video,
        "rtsps": _gstreamer if settings.wants_nvdec else _video,
        "sim": _simulated,
        "gst": _gstreamer,
        "csi": _gstreamer,
    }
    if settings.scheme in ("rtsp", "rtsps"):
        refuse_endless_redirects(settings)
    return opener[settings.scheme](settings, after_s, clock)


def check_source(settings: CameraSettings) -> str | None:
    """Opens the source, looks at one frame and closes it; the problem in words, or None when all is well."""
    try:
        source = open_source(settings)
        try:
            return None if source.read() is not None else str(settings.failure("holds no picture"))
        finally:
            source.close()
    except SourceError as error:
        return str(error)


def _video(settings: CameraSettings, after_s: float | None, clock: Clock) -> Source:
    from edge_app.sources.video import VideoSource

    return VideoSource(settings, after_s, clock)


def _gstreamer(settings: CameraSettings, after_s: float | None, clock: Clock) -> Source:
    from edge_app.sources.gstreamer import GStreamerSource

    return GStreamerSource(settings, clock)


def _simulated(settings: CameraSettings, after_s: float | None, clock: Clock) -> Source:
    from edge_app.sources.simulated import SimulatedSource

    source = SimulatedSource(settings.source, after_s=after_s)
    if source.url.camera != settings.id:
        raise settings.failure(f"expected `id: {source.url.camera}`, the camera's name in its world")
    return source
