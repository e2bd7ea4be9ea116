"""Live cameras for tests, and clocks that hurry."""

import random
import threading
import time

from edge_app.sources.cameras import Cameras
from edge_app.sources.clock import SteadyClock
from edge_app.sources.settings import RECORDING_START, CameraSettings

START_S = RECORDING_START.timestamp()


def live(id: str, **more) -> CameraSettings:
    return CameraSettings(id=id, source=f"rtsp://{id}.invalid/1", **more)


def play(cameras: Cameras, seconds: float, until=None):
    """Ticks for so long, or until the states say so; everything seen, and when."""
    seen = []
    began_s = time.monotonic()
    stop = threading.Event()
    for now_s, frames in cameras.ticks(stop):
        seen.append((time.monotonic() - began_s, now_s, frames))
        if time.monotonic() - began_s > seconds or (until is not None and until(cameras.states())):
            stop.set()
    return seen


def count_of(seen, camera):
    return sum(frame.camera == camera for _, _, frames in seen for frame in frames)


class Fast(SteadyClock):
    """A clock that runs `factor` times as fast as the real one."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        epoch_s, began_s = time.time(), time.monotonic()
        super().__init__(
            lambda: epoch_s + factor * (time.monotonic() - began_s),
            lambda: began_s + factor * (time.monotonic() - began_s),
        )


class Hurried(random.Random):
    """Draws pauses that fit a clock that runs `factor` times as fast."""

    def __init__(self, factor: float) -> None:
        super().__init__(1)
        self._factor = factor

    def uniform(self, a: float, b: float) -> float:
        return super().uniform(a, b) / self._factor
