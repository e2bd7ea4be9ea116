"""Made-up clips and made-up cameras for the tests of the sources."""

import threading
import time
from fractions import Fraction
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from edge_app.errors import SourceError
from edge_app.sources.settings import CameraSettings
from edge_app.types import Frame


def picture(index: int, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8: a grey that tells the frame's index (8 levels apart, of 24), and a moving square."""
    image = np.full((height, width, 3), 16 + 8 * (index % 24), np.uint8)
    x = index * 3 % (width - 16)
    image[8:24, x : x + 16] = (255, 64, 0)
    return image


def write_video(path: Path, count: int = 50, fps: int = 25, size: tuple[int, int] = (160, 96), **options) -> Path:
    """A clip of `count` frames; options: gop, b_frames, codec."""
    import av

    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(options.get("codec", "libx264"), rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = options.get("gop", 10)
        stream.bit_rate = 4_000_000
        stream.max_b_frames = options.get("b_frames", 0)
        stream.codec_context.time_base = Fraction(1, fps)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, width, height), format="bgr24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def write_clip():
    return write_video


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """Fifty frames at 25 fps, a key frame every ten."""
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture
def read_all():
    """Every frame of a source, which is closed afterwards."""

    def read(source) -> list[Frame]:
        frames = []
        try:
            while (frame := source.read()) is not None:
                frames.append(frame)
        finally:
            source.close()
        return frames

    return read


class ScriptedSource:
    """A camera that plays a script: a Frame is delivered, an exception raised, a number slept, "hang" blocks."""

    def __init__(self, script, released: threading.Event) -> None:
        self._script = iter(script)
        self._released = released
        self.closed = False

    def read(self) -> Frame | None:
        for step in self._script:
            if isinstance(step, Frame):
                return step
            if isinstance(step, Exception):
                raise step
            if step == "hang":
                self._released.wait(20)
                raise SourceError("read time-out")
            time.sleep(step)
        return None

    def close(self) -> None:
        self.closed = True


class Yard:
    """Opens scripted cameras: `scripts[camera]` is a list of connections, each a script or an exception.

    The last connection of a camera is used again for every later attempt.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, list] = {}
        self.opened: dict[str, list[ScriptedSource]] = {}
        self.attempts: dict[str, int] = {}
        self.after: dict[str, list[float | None]] = {}
        self.released = threading.Event()

    def open(self, settings: CameraSettings, after_s: float | None) -> ScriptedSource:
        attempt = self.attempts.get(settings.id, 0)
        self.attempts[settings.id] = attempt + 1
        self.after.setdefault(settings.id, []).append(after_s)
        connections = self.scripts[settings.id]
        script = connections[min(attempt, len(connections) - 1)]
        if isinstance(script, Exception):
            raise script
        source = ScriptedSource(script() if callable(script) else script, self.released)
        self.opened.setdefault(settings.id, []).append(source)
        return source


@pytest.fixture
def yard():
    yard = Yard()
    yield yard
    yard.released.set()


def frame_of(camera: str, time_s: float, level: int | None = None) -> Frame:
    image = None if level is None else np.full((8, 8, 3), level, np.uint8)
    return Frame(camera, time_s, image, 8, 8)


@pytest.fixture
def frame():
    return frame_of


@pytest.fixture
def lively(frame):
    """A script that gives a new picture every 20 ms, stamped with the time it is."""

    def script(camera):
        def forever():
            for index in count():
                yield frame(camera, time.time(), index % 250)
                yield 0.02

        return forever

    return script
