"""Does a recording hold all that it should? Values in, values out."""

from __future__ import annotations

from dataclasses import dataclass, field

_SHARE = 0.05  # of a file without an index that may be left after its last good packet
_SLACK_BYTES = 2048
_SLACK_S = 0.2


@dataclass
class Extent:
    """What a recording promises, and what was read of it so far. What it does not promise is None."""

    frame_s: float
    end_s: float | None = None  # timestamp at which its index says that it ends
    size_bytes: int | None = None  # of the file, where no index tells anything
    of_all_streams: bool = False  # these are true for pictures and sound together
    _read_s: float = field(default=0.0, init=False)
    _read_bytes: int = field(default=0, init=False)
    _last_s: float | None = field(default=None, init=False)
    _gap_s: float = field(default=0.0, init=False)  # between the last two pictures

    def note(self, begin_s: float | None, duration_s: float, picture: bool, end_byte: int | None) -> None:
        """One good packet: its timestamps, whether it holds a picture, and where in the file it ends."""
        self._read_bytes = max(self._read_bytes, end_byte or 0)
        if begin_s is None:
            return
        if picture:
            self._gap_s = 0.0 if self._last_s is None else begin_s - self._last_s
            self._last_s = begin_s
        self._read_s = max(self._read_s, begin_s + duration_s)

    def missing(self) -> str | None:
        """At its end: what is missing, in words."""
        slack_s = _SLACK_S + 2.0 * max(
            self.frame_s, self._gap_s
        )  # slow recordings may miss their last picture's length
        if self.end_s is not None and self._read_s < self.end_s - slack_s:
            return f"the file is truncated: its index says {self.end_s:.1f} s, the pictures end at {self._read_s:.1f} s"
        if self.size_bytes is not None and self._read_bytes:
            left = self.size_bytes - self._read_bytes
            if left > _SHARE * self.size_bytes + _SLACK_BYTES:
                return f"the file is damaged: its last {left / self.size_bytes:.0%} hold nothing that can be read"
        return None
