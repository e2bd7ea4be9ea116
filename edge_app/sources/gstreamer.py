"""Cameras through GStreamer: hardware decoding (NVDEC) and CSI sensors on a Jetson, any pipeline elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from edge_app.errors import SourceError
from edge_app.sources.settings import NO_SUCH_STREAM, REFUSED_LOGIN, REFUSED_USER, CameraSettings, csi_numbers
from edge_app.sources.timeline import FrameGate, LiveTimeline
from edge_app.types import Frame, Image

_APPSINK = "appsink name=frames max-buffers=1 drop=true sync=false"
_POLL_S = 0.1
_ANSWER = re.compile(r"^(.*) \((\d\d\d)\)\s*$", re.MULTILINE)  # how rtspsrc quotes a camera

# Jetson's own elements leave pictures in device memory (NVMM); nvvidconv brings them to the processor as BGRx.
# Where pixels are square already, videoscale hands them on untouched.
_SQUARE = "videoscale ! video/x-raw,format=BGRx,pixel-aspect-ratio=1/1"
_FROM_DEVICE = f"nvvidconv ! video/x-raw,format=BGRx ! {_SQUARE}"
_FROM_MEMORY = f"videoconvert ! {_SQUARE}"
# a recording says how it is to be turned; cameras do not, and the element cannot turn what lies in device memory
_UPRIGHT = "videoconvert ! videoflip video-direction=auto"


def pipeline_text(settings: CameraSettings, hardware: bool = True) -> str:
    """The pipeline in gst-launch notation; it ends in an appsink named `frames` that keeps the newest picture only.

    rtsp:// has an rtspsrc named `camera`, whose address and login are set as properties, so that no text ever
    holds a password. `hardware=False` takes FFmpeg's H.264 decoder instead of NVDEC.
    """
    if settings.scheme == "gst":
        return f"{settings.source[len('gst://') :]} ! {_UPRIGHT} ! {_FROM_MEMORY} ! {_APPSINK}"
    if settings.scheme == "csi":
        return f"{_csi_text(settings)} ! {_FROM_DEVICE} ! {_APPSINK}"
    # parsebin finds depayloader and parser of H.264 and H.265 alike
    decode = f"nvv4l2decoder ! {_FROM_DEVICE}" if hardware else f"avdec_h264 ! {_FROM_MEMORY}"
    return f"rtspsrc name=camera latency=200 ! application/x-rtp,media=video ! parsebin ! {decode} ! {_APPSINK}"


def _csi_text(settings: CameraSettings) -> str:
    csi = csi_numbers(settings.source)
    return (
        f"nvarguscamerasrc sensor-id={csi['sensor']} ! "
        f"video/x-raw(memory:NVMM),width={csi['width']},height={csi['height']},framerate={csi['fps']}/1 ! "
        f"nvvidconv flip-method={csi['flip']}"
    )


class GStreamerSource:
    """The newest picture of a GStreamer pipeline. Read and closed by one thread.

    Capture time as in `LiveTimeline`, from the buffers' timestamps. `read` returns None when a gst:// or csi://
    pipeline ends by itself. SourceError: GStreamer or an element is missing, the pipeline reports an error, no
    picture for `read_timeout_s` (the first one: `open_timeout_s` more), the picture size changed.
    """

    def __init__(self, settings: CameraSettings, clock: Callable[[], float] = time.time, hardware: bool = True) -> None:
        import cv2

        self._settings = settings
        self._clock = clock
        self._convert = cv2
        self._gst = _load(settings)
        self._timeline = LiveTimeline(jump_s=settings.read_timeout_s + 1.0)
        self._gate = FrameGate(settings.fps, 0.0)
        self._sequence = 0
        self._size: tuple[int, int] | None = None
        self._limit_s = settings.open_timeout_s + settings.read_timeout_s
        self._pipeline = self._start(pipeline_text(settings, hardware))
        self._sink = self._pipeline.get_by_name("frames")

    def read(self) -> Frame | None:
        deadline_s = time.monotonic() + self._limit_s
        while True:
            sample = self._sink.try_pull_sample(int(_POLL_S * self._gst.SECOND))
            if sample is None:
                self._raise_bus_error()
                if self._sink.is_eos():
                    self._refuse_end()
                    return None
                if time.monotonic() > deadline_s:
                    raise self._settings.failure(f"no picture for {self._limit_s:g} s")
                continue
            self._limit_s = self._settings.read_timeout_s
            pts = sample.get_buffer().pts
            stream_s = None if pts == self._gst.CLOCK_TIME_NONE else pts / self._gst.SECOND
            time_s = self._timeline.capture_s(stream_s, self._clock())
            if self._gate.keeps(time_s):
                return self._frame(sample, time_s)

    def close(self) -> None:
        self._pipeline.set_state(self._gst.State.NULL)

    def _start(self, text: str) -> Any:
        gst = self._gst
        try:
            pipeline = gst.parse_launch(text)
        except Exception as error:  # GLib.Error; gi is not imported here
            raise self._settings.refusal(f"GStreamer cannot build the pipeline: {_first_line(error)}") from None
        if (camera := pipeline.get_by_name("camera")) is not None:
            camera.set_property("location", self._settings.source)
            camera.set_property("protocols", 4 if self._settings.transport == "tcp" else 1)
            camera.set_property("tcp-timeout", int(self._settings.open_timeout_s * 1e6))
            if self._settings.username is not None:
                camera.set_property("user-id", self._settings.username)
                camera.set_property("user-pw", self._settings.password() or "")
        self._pipeline = pipeline
        if pipeline.set_state(gst.State.PLAYING) == gst.StateChangeReturn.FAILURE:
            try:
                self._raise_bus_error()
                raise self._settings.failure("GStreamer cannot start the pipeline")
            finally:
                self.close()
        return pipeline

    def _raise_bus_error(self) -> None:
        message = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
        if message is not None:
            error, details = message.parse_error()
            answer = _ANSWER.search(str(details)) if self._settings.scheme in ("rtsp", "rtsps") else None
            if answer is None:
                raise self._settings.failure(f"{message.src.get_name()}: {_first_line(error)}")
            raise self._answered(answer.group(1), int(answer.group(2)))

    def _answered(self, words: str, status: int) -> SourceError:
        """What an RTSP camera's answer means, if it is not the wanted one."""
        if status == 401:
            return self._settings.refusal(REFUSED_LOGIN, login=True)
        if status == 403:
            return self._settings.refusal(REFUSED_USER, login=True)
        if status == 404:
            return self._settings.refusal(NO_SUCH_STREAM)
        if 400 <= status < 500:
            return self._settings.refusal(f"the camera refuses what it is asked for ({words}, {status})")
        return self._settings.failure(f"the camera answers {words} ({status})")

    def _refuse_end(self) -> None:
        if self._settings.scheme in ("rtsp", "rtsps"):
            raise self._settings.failure("the camera ended the stream")

    def _frame(self, sample: Any, time_s: float) -> Frame:
        caps = sample.get_caps().get_structure(0)
        size = (caps.get_value("width"), caps.get_value("height"))
        if self._size not in (None, size):
            old, new = "{}x{}".format(*self._size or ()), "{}x{}".format(*size)
            raise self._settings.failure(f"the picture size changed from {old} to {new}")
        self._size = size
        frame = Frame(self._settings.id, time_s, self._image(sample.get_buffer(), size), *size, sequence=self._sequence)
        self._sequence += 1
        return frame

    def _image(self, buffer: Any, size: tuple[int, int]) -> Image:
        """(H, W, 3) uint8 BGR, copied out of the pipeline's memory."""
        import numpy as np

        width, height = size
        ok, mapped = buffer.map(self._gst.MapFlags.READ)
        if not ok:
            raise self._settings.failure("a picture cannot be read from the pipeline's memory")
        try:
            rows = np.frombuffer(mapped.data, np.uint8).reshape(height, -1)  # hardware pads its rows
            pixels = rows[:, : 4 * width].reshape(height, width, 4)  # (H, W, 4), BGRx
            return np.asarray(self._convert.cvtColor(pixels, self._convert.COLOR_BGRA2BGR))
        finally:
            buffer.unmap(mapped)


def _load(settings: CameraSettings) -> Any:
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        from gi.repository import Gst, GstApp  # noqa: F401  (GstApp gives the appsink its methods)
    except (ImportError, ValueError) as error:
        raise settings.refusal(
            f"GStreamer for Python is missing ({error}); apt install python3-gi gir1.2-gstreamer-1.0 "
            "gir1.2-gst-plugins-base-1.0 and make the environment with --system-site-packages, or use "
            "`decoder: software`"
        ) from None
    Gst.init(None)
    return Gst


def _first_line(error: Any) -> str:
    return str(getattr(error, "message", error)).splitlines()[0]
