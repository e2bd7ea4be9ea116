"""What of a stream is damaged, and which of its pictures can be believed. Values in, values out."""

from __future__ import annotations

from dataclasses import dataclass

_GAP_S = 1.0  # a recording without a picture for longer has lost some, even if nothing else is wrong with it


@dataclass
class Losses:
    """What was left out of one stream, counted."""

    damaged: int = 0  # packets and pictures that cannot be decoded, or say themselves that they are damaged
    doubted: int = 0  # whole pictures that are built on damaged ones
    missing_s: float = 0.0  # without a picture, by the stream's own timestamps

    def __add__(self, other: Losses) -> Losses:
        return Losses(self.damaged + other.damaged, self.doubted + other.doubted, self.missing_s + other.missing_s)

    def words(self) -> tuple[str, ...]:
        """One line for each kind of loss; none when nothing was lost."""
        said = []
        if self.damaged:
            said.append(
                f"{self.damaged} damaged packets or pictures were left out, and {self.doubted} pictures built on them"
            )
        if self.missing_s >= 0.05:
            said.append(f"pictures are missing for {self.missing_s:.1f} s in all")
        return tuple(said)


class Trust:
    """Believes no picture after damage until the next key frame: what is built on noise looks like something moving.

    Streams without key frames (intra refresh) mend themselves little by little; there, pictures are doubted for
    `longest_s`. `frame_s`: from picture to picture. `recorded`: a gap without damage is a loss, too.
    """

    def __init__(self, losses: Losses, frame_s: float, longest_s: float, recorded: bool) -> None:
        self._losses = losses
        self._frame_s = frame_s
        self._longest = int(longest_s / frame_s)
        self._gap_s = max(_GAP_S, 5.0 * frame_s) if recorded else None
        self._damaged_pts: int | None = None
        self._doubts = False
        self._doubted = 0  # since the last damage
        self._last_s: float | None = None  # of the last picture that was believed
        self.in_a_row = 0  # damaged, without a picture between them

    def begins(self, time_s: float) -> None:
        """The stream begins here: what comes before its first picture is missing, too."""
        if self._last_s is None:
            self._last_s = time_s - self._frame_s

    def damaged(self, pts: int | None) -> None:
        """A packet or picture with this timestamp is damaged; one that is both counts once."""
        if pts is None or pts != self._damaged_pts:
            self._losses.damaged += 1
            self.in_a_row += 1
        self._damaged_pts, self._doubts, self._doubted = pts, True, 0

    def believes(self, key_frame: bool, pts: int | None, time_s: float | None) -> bool:
        """Is this picture, which says nothing bad of itself, to be believed? `time_s`: `pts` in seconds."""
        self.in_a_row = 0
        if self._doubts:
            # a key frame that was waiting in the decoder when the damage came says nothing about what comes after it
            after = pts is None or self._damaged_pts is None or pts > self._damaged_pts
            if not (key_frame and after) and self._doubted < self._longest:
                self._doubted += 1
                self._losses.doubted += 1
                return False
        if time_s is not None and self._last_s is not None:
            gap_s = time_s - self._last_s - self._frame_s
            if gap_s > 0 and (self._doubts or (self._gap_s is not None and gap_s > self._gap_s)):
                self._losses.missing_s += gap_s
        self._doubts, self._last_s = False, time_s
        return True
