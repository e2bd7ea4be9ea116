"""The ways between cameras that the owner of a site has written down, as waits that are usual.

A way says what somebody with a stopwatch would say. A way of several legs is made of them: between two cameras those of
the fewest legs count, from the sum of their shortest times to the sum of their longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field, model_validator

from trainer.settings import Settings

Windows = Mapping[tuple[int, int], tuple[float, float]]  # (from camera, to camera) → seconds from and to


class Way(Settings):
    """One link of a site, by the numbers of its cameras."""

    from_camera: int = Field(ge=0)
    to_camera: int = Field(ge=0)
    min_s: float = Field(ge=0)
    """Seconds that the fastest take, from leaving one camera to entering the other."""
    max_s: float = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Way:
        if self.max_s <= self.min_s:
            raise ValueError(f"max_s {self.max_s:g} must be more than min_s {self.min_s:g}")
        return self


def windows(ways: Iterable[Way]) -> dict[tuple[int, int], tuple[float, float]]:
    """The usual waits of every ordered pair of cameras that ways lead between. O(C²·ways) for C cameras."""
    legs: dict[tuple[int, int], tuple[float, float]] = {}
    for way in ways:
        _widen(legs, (way.from_camera, way.to_camera), (way.min_s, way.max_s))
    found, newest = dict(legs), dict(legs)
    while newest:
        longer: dict[tuple[int, int], tuple[float, float]] = {}
        for (start, middle), before in newest.items():
            for (leg_start, end), leg in legs.items():
                if leg_start == middle and end != start and (start, end) not in found:
                    _widen(longer, (start, end), (before[0] + leg[0], before[1] + leg[1]))
        found |= longer
        newest = longer
    return found


def _widen(
    known: dict[tuple[int, int], tuple[float, float]], pair: tuple[int, int], window: tuple[float, float]
) -> None:
    low, high = known.get(pair, window)
    known[pair] = min(low, window[0]), max(high, window[1])
