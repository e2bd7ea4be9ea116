"""How a camera is doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

CameraState: TypeAlias = Literal["ok", "stalled", "offline", "ended", "clock_suspect"]


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera at one moment.

    ok             frames arrive
    stalled        connected, but no new frame, or always the same picture
    offline        no frame of this connection yet, no connection, or (a recording) not readable to its end
    ended          a recording was read to its end
    clock_suspect  frames arrive, but their times do not agree with the clock, or the clock itself stepped

    This is the camera as it is; of one that comes and goes health tells something steadier.
    """

    camera: str
    state: CameraState
    frames: int  # read from the source
    dropped: int  # read, but overtaken by a newer frame before the pipeline was free
    reconnects: int  # connections after the first
    corrupt: int  # damaged packets and pictures that were left out, with the pictures built on them
    fps: float  # frames read per second of monotonic time, lately
    last_time_s: float | None  # capture time of the newest frame
    last_error: str | None  # why the last connection ended; stays until frames arrive again
    reason: str | None = None  # why it is not ok, in words that stay the same while the reason does
    falls: int = 0  # how often it was ok and then was not
    losses: tuple[str, ...] = ()  # what was left out of its stream since the start, in words
