"""How vehicles move past a camera, by which a rider is told from somebody on foot where the machine is never found.

Of many motorcycles, above all from behind, a detector finds the person alone. Riders move as vehicles do, the same way
and about as fast; who walks is several times slower. How fast that looks depends on the camera and on the way, so it is
learned from the vehicles that are seen as such: speed in heights of the own box per second, of those that went the same
way (within 45°), and of these the fast ones, since a queue is no slower than a pedestrian. Pure; O(T) for a path of T
rows, and O(M) for M vehicles that are remembered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

STEP_S = 0.5  # speed is measured over so long at least
PACE = 80  # percentile of a track's speeds: standing at a light is not how fast it is
FREE = 80  # percentile of the vehicles' paces: how fast they are where nothing holds them up
AS_FAST = 0.5  # of that, at least; who walks has a tenth to a fifth on a road, more where cars crawl
ENOUGH = 5  # vehicles that went this way, before anything is said
REMEMBERED = 200  # vehicles of a camera, the latest
MOVED = 0.5  # heights of its box that a track must have gone to be asked
SAME_WAY = math.cos(math.radians(45))

Motion = tuple[float, float]  # to the right and down, heights of the own box per second


def motion_of(rows: NDArray[np.float64]) -> Motion | None:
    """(T, 5) time and box → its pace, in the direction from the first to the last place of its foot; None where it has
    not moved, or was seen for too short a time."""
    height = float(np.median(rows[:, 4] - rows[:, 2]))
    feet = np.stack([(rows[:, 1] + rows[:, 3]) / 2, rows[:, 4]], axis=1) / max(height, 1.0)  # (T, 2)
    way = feet[-1] - feet[0]
    length = float(np.hypot(*way))
    later = np.searchsorted(rows[:, 0], rows[:, 0] + STEP_S)
    first = np.flatnonzero(later < len(rows))
    if length < MOVED or not len(first):
        return None
    last = later[first]
    speeds = np.hypot(*(feet[last] - feet[first]).T) / (rows[last, 0] - rows[first, 0])
    pace = float(np.percentile(speeds, PACE)) / length
    return float(way[0]) * pace, float(way[1]) * pace


@dataclass(slots=True)
class Traffic:
    """The vehicles of one camera."""

    motions: list[Motion] = field(default_factory=list)

    def learn(self, motion: Motion) -> None:
        """One vehicle that was seen as such."""
        self.motions = [*self.motions[1 - REMEMBERED :], motion]

    def moves_so(self, motion: Motion) -> bool:
        """Does one who moves like this move as vehicles do? No, while too few are known."""
        pace = math.hypot(*motion)
        same_way = [
            math.hypot(*each)
            for each in self.motions
            if each[0] * motion[0] + each[1] * motion[1] >= SAME_WAY * pace * math.hypot(*each)
        ]
        return len(same_way) >= ENOUGH and pace >= AS_FAST * float(np.percentile(same_way, FREE))


def read(stored: Iterable[Iterable[float]]) -> Traffic:
    """Raises ValueError or TypeError for what are no motions."""
    motions = [(float(right), float(down)) for right, down in stored]
    if not np.isfinite(motions).all():
        raise ValueError("a motion that is none")
    return Traffic(motions[-REMEMBERED:])
