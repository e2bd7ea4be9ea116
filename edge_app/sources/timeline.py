"""From a stream's own timestamps to capture time, and which frames to keep. Values in, values out."""

from __future__ import annotations

import math

from edge_app.clock import STEP_S

_SMALLEST_STEP_S = 1e-3  # two frames of one camera are never closer than this


class RecordingTimeline:
    """Capture time of a recording: its start plus what its timestamps say.

    A timestamp that goes backwards (two recordings glued together) is re-anchored one frame after its predecessor
    and counted in `jumps`; gaps are believed.
    """

    def __init__(self, start_s: float, stream_start_s: float, frame_s: float) -> None:
        self._offset_s = start_s - stream_start_s
        self._frame_s = frame_s
        self._last_s = -math.inf
        self.jumps = 0

    def capture_s(self, stream_s: float) -> float:
        time_s = self._offset_s + stream_s
        if time_s <= self._last_s:
            self._offset_s += self._last_s + self._frame_s - time_s
            self.jumps += 1
            time_s = self._last_s + self._frame_s
        self._last_s = time_s
        return time_s


class LiveTimeline:
    """Capture time of a live camera: our clock at the first frame plus the progress of the camera's timestamps.

    Timestamps are smooth where arrival times jitter, but the camera's clock drifts and its timestamps can jump. So
    the anchor follows arrival: at once when a frame would lie in the future (servers send the last seconds in one
    burst after connecting), by a thousandth when frames seem late, and in one counted step beyond `jump_s`.
    `jump_s` is larger than the read time-out, hence a network stall alone is never mistaken for a jump. When our own
    clock has returned to an earlier time, so do the times of the frames.
    """

    def __init__(self, jump_s: float) -> None:
        self._jump_s = jump_s
        self._offset_s: float | None = None
        self._last_s = -math.inf
        self._last_arrival_s = -math.inf
        self.jumps = 0

    def capture_s(self, stream_s: float | None, arrival_s: float) -> float:
        """`stream_s` is None where the camera sends no timestamps; ascending by at least a millisecond."""
        if arrival_s < self._last_arrival_s - STEP_S:
            self._offset_s, self._last_s = None, -math.inf
        time_s = arrival_s if stream_s is None else self._anchored_s(stream_s, arrival_s)
        self._last_s = max(time_s, self._last_s + _SMALLEST_STEP_S)
        self._last_arrival_s = arrival_s
        return self._last_s

    def _anchored_s(self, stream_s: float, arrival_s: float) -> float:
        if self._offset_s is None:
            self._offset_s = arrival_s - stream_s
        late_s = arrival_s - (self._offset_s + stream_s)
        if abs(late_s) > self._jump_s:
            self.jumps += 1
            self._offset_s += late_s
        elif late_s < 0:
            self._offset_s += late_s
        else:
            self._offset_s += min(late_s, 1e-3 * max(arrival_s - self._last_arrival_s, 0.0))
        return self._offset_s + stream_s


class Backlog:
    """The frames that were stored up somewhere when we connected: they arrive faster than they were taken.

    Nobody knows when they were taken, so they are passed over until frames come at the camera's own pace.
    """

    _LONGEST = 500  # frames; a server faster than real time is taken as it is

    def __init__(self, frame_s: float) -> None:
        self._frame_s = frame_s
        self._previous: tuple[float | None, float] | None = None
        self._held = 0
        self._over = False

    def holds(self, stream_s: float | None, arrival_s: float) -> bool:
        """Is this frame one of the stored ones? The first frame always counts as one."""
        if self._over:
            return False
        if self._previous is not None:
            before_s, arrived_s = self._previous
            gap_s = self._frame_s if stream_s is None or before_s is None else stream_s - before_s
            self._over = arrival_s - arrived_s >= 0.5 * gap_s or self._held >= self._LONGEST
        self._previous = stream_s, arrival_s
        self._held += 1
        return not self._over


class FrameGate:
    """Keeps the first frame of every 1/fps seconds on a grid from `origin_s`, so every run keeps the same frames."""

    def __init__(self, fps: float | None, origin_s: float) -> None:
        self._fps = fps
        self._origin_s = origin_s
        self._slot = -math.inf

    def keeps(self, time_s: float) -> bool:
        if self._fps is None:
            return True
        slot = self._slot_of(time_s)
        if slot <= self._slot:
            return False
        self._slot = slot
        return True

    def slot_start_s(self, time_s: float) -> float:
        """Where the grid cell of `time_s` begins: a reader that resumes looks at every frame from here."""
        return time_s if self._fps is None else self._origin_s + self._slot_of(time_s) / self._fps

    def _slot_of(self, time_s: float) -> int:
        # a frame exactly on the grid must not fall into the cell before it by rounding
        return math.floor((time_s - self._origin_s) * (self._fps or 0.0) + 1e-3)
